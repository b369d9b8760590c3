"""What an embedded instance promises its application, on real servers; frameworks have tests of their own."""

import asyncio
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from applications import (
    Namespace,
    assert_no_slot_was_late,
    receiver,
    wait_for,
    webhook_every_second,
)

import cronexec
from cronexec import (
    AsyncCronexec,
    Cronexec,
    InvalidDocumentError,
    NotYetAppliedError,
    RefusedError,
    Run,
    SettingsError,
    UnreachableError,
)
from cronexec.declared import Declarations
from cronexec.dev.mongodb import PrivateMongo
from cronexec.dev.processes import LOOPBACK
from cronexec.dev.rabbitmq import PrivateRabbitmq
from cronexec.domain.job import JobDocument
from cronexec.log import get_logger

HOURLY = {"name": "hourly", "schedule": {"every": "1h"}, "target": {"type": "handler", "name": "note"}}
NOWHERE = {
    "amqp_urls": f"amqp://guest:guest@{LOOPBACK}:1/",
    "mongo_url": f"mongodb://{LOOPBACK}:1/?replicaSet=rs0",
}


@pytest.fixture
def ns(amqp_url: str, mongo_url: str, namespace: str) -> Namespace:
    return Namespace(amqp_url, mongo_url, namespace)


@pytest.fixture
def embed(ns: Namespace) -> Iterator[Callable[..., Cronexec]]:
    """Make instances, which are stopped after the test; not started yet."""
    made: list[Cronexec] = []

    def make(**overrides: Any) -> Cronexec:
        made.append(Cronexec(ns.settings(**overrides)))
        return made[-1]

    yield make
    for cron in made:
        cron.stop(grace=0)


def holding(cron: Cronexec) -> Cronexec:
    """Start it, and wait until it holds."""
    cron.start()
    wait_for(lambda: cron.health().state == "holder" and cron.health().epoch, "the baton")
    return cron


def own_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("cronexec")]


def succeeded(cron: Cronexec, run_id: str) -> Any:
    run = cron.runs.get(run_id)
    return run if run is not None and run.state == "succeeded" else None


def run_program(
    program: str, environ: dict[str, str], timeout: float = 30
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", textwrap.dedent(program)],
        env=environ,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


# starting


def test_an_import_connects_to_nothing_loads_no_driver_and_starts_no_thread() -> None:
    program = """
        import socket, sys, threading
        def refuse(*_): raise AssertionError("connected")
        socket.socket.connect = socket.socket.connect_ex = refuse
        from cronexec import Cronexec
        cron = Cronexec.from_env()
        @cron.job("a", every="1s")
        def a(run): ...
        print(threading.active_count(), sorted({"pika", "pymongo", "aiohttp", "click"} & set(sys.modules)))
    """
    assert run_program(program, dict(os.environ)).stdout == "1 []\n"


def test_start_installs_no_signal_handlers_and_configures_no_logging(embed: Callable[..., Cronexec]) -> None:
    def seen() -> tuple[Any, ...]:
        handlers = [signal.getsignal(number) for number in signal.valid_signals()]
        return handlers, logging.getLogger().handlers[:], logging.getLogger().level

    before = seen()
    holding(embed())
    assert seen() == before


def test_starting_twice_is_starting_once(embed: Callable[..., Cronexec]) -> None:
    cron = holding(embed())
    threads, instances = own_threads(), cron._call(lambda client: client.instances())
    cron.start()
    assert own_threads() == threads
    assert [each.executor for each in cron._call(lambda client: client.instances())] == [
        each.executor for each in instances
    ]


def test_an_instance_can_be_started_again_after_its_stop(embed: Callable[..., Cronexec]) -> None:
    cron = holding(embed())
    assert cron.stop()
    assert cron.health().state == "stopped"
    holding(cron)
    assert cron.health().epoch == 2


def test_stop_is_idempotent_and_needs_no_start(embed: Callable[..., Cronexec]) -> None:
    cron = embed()
    assert cron.stop()
    holding(cron)
    assert cron.stop()
    assert cron.stop()
    assert "cronexec" not in own_threads()


def test_a_call_without_start_says_so(embed: Callable[..., Cronexec]) -> None:
    with pytest.raises(RuntimeError, match=r"call start\(\) first"):
        embed().jobs.list()


def test_starting_without_servers_returns_at_once_and_says_what_is_wrong(
    embed: Callable[..., Cronexec],
) -> None:
    cron = embed(**NOWHERE)
    began = time.monotonic()
    cron.start()
    assert time.monotonic() - began < 2
    health = wait_for(lambda: h if "MongoDB" in (h := cron.health()).database else None, "the problem")
    assert not health.ok
    assert health.broker == "connecting"
    assert health.state == "waiting"
    with pytest.raises(UnreachableError):
        cron.jobs.list()
    began = time.monotonic()
    assert cron.stop()
    assert time.monotonic() - began < 5


@pytest.mark.usefixtures("server_programs")
def test_an_instance_joins_when_the_servers_appear(tmp_path: Path) -> None:
    mongo, rabbitmq = PrivateMongo(tmp_path / "mongo"), PrivateRabbitmq(tmp_path / "rabbitmq")
    cron = Cronexec(Namespace(rabbitmq.url, mongo.url, "late").settings())
    ran = threading.Event()
    cron.job("tick", every="1s")(lambda _: ran.set())
    cron.start()
    try:
        wait_for(lambda: "MongoDB" in cron.health().database, "the database to be the problem")
        with mongo:
            wait_for(
                lambda: "nothing listens" in cron.health().broker, "the broker to be the problem", timeout=30
            )
            with rabbitmq:
                assert ran.wait(40), cron.health()
                assert cron.health().ok
                cron.stop()
    finally:
        cron.stop(grace=0)


# forks


def test_a_forked_child_is_no_instance_until_it_starts_one(ns: Namespace) -> None:
    program = """
        import os, sys, time, warnings
        from cronexec import Cronexec
        def wait(condition):
            until = time.monotonic() + 20
            while not condition():
                assert time.monotonic() < until
                time.sleep(0.02)
        cron = Cronexec.from_env()
        cron.start()
        wait(lambda: cron.health().state == "holder")
        if (child := os.fork()) == 0:
            warnings.simplefilter("ignore", ResourceWarning)  # of its copies of the parent's sockets
            try:
                assert cron.health().state == "stopped"
                try:
                    cron.jobs.list()
                except RuntimeError:
                    cron.start()
                wait(lambda: cron.health().holder and cron.health().state == "standby")
                assert len(cron._call(lambda client: client.instances())) == 2
                cron.stop()
            except BaseException as error:
                print(error, file=sys.stderr)
                sys.exit(1)
            sys.exit(0)  # through the exit handlers that it inherited
        assert os.waitpid(child, 0)[1] == 0
        assert cron.health().state == "holder" and cron.health().epoch == 1
        assert len(cron._call(lambda client: client.instances())) == 1
        cron.jobs.put({"name": "a", "schedule": {"every": "1h"}, "target": {"type": "handler", "name": "a"}})
        assert cron.stop()
        print("done")
    """
    done = run_program(program, ns.environ())
    assert done.stdout.endswith("done\n"), done.stderr
    assert done.stderr == ""


# exits


def test_a_program_that_forgets_to_stop_ends_and_hands_the_baton_over(
    ns: Namespace, embed: Callable[..., Cronexec]
) -> None:
    program = """
        import threading, time
        from cronexec import Cronexec
        cron = Cronexec.from_env()
        started = threading.Event()
        @cron.job("slow", every="1s")
        def slow(run):
            started.set()
            run.cancelled.wait(60)
        @cron.job("coroutine", every="1s")
        async def coroutine(run):
            pass
        cron.start()
        assert started.wait(20)
        print(f"ended at {time.time()}", flush=True)
    """
    standby = embed(instance="standby")
    standby.job("slow", every="1s")(lambda _: None)
    done = run_program(program, ns.environ(INSTANCE="forgetful"))
    exited_at = time.time()
    assert done.returncode == 0
    assert done.stderr == ""
    assert "stop.failed" not in done.stdout
    assert exited_at - float(done.stdout.partition("ended at ")[2].split()[0]) < 3.5
    standby.start()
    wait_for(lambda: standby.health().state == "holder", "the handover")
    runs = standby.runs.list(job="slow", states=["abandoned"])
    assert [run.outcome.reason for run in runs if run.outcome] == ["shutdown"]


def test_ctrl_c_while_stop_waits_ends_the_program_soon(ns: Namespace) -> None:
    program = """
        import os, signal, threading
        from cronexec import Cronexec
        cron = Cronexec.from_env()
        started = threading.Event()
        @cron.job("slow", every="1s")
        def slow(run):
            started.set()
            run.cancelled.wait(60)
        cron.start()
        assert started.wait(20)
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            cron.stop(grace=60)
        except KeyboardInterrupt:
            print("interrupted", cron.health().state)
    """
    began = time.monotonic()
    done = run_program(program, ns.environ())
    assert (
        done.stdout.splitlines()[-1:] == ["interrupted draining"] or "\ninterrupted draining\n" in done.stdout
    )
    assert done.stderr == ""
    assert done.returncode == 0
    assert time.monotonic() - began < 20


def test_ctrl_c_while_a_call_waits_ends_the_call(embed: Callable[..., Cronexec]) -> None:
    cron = embed(candidate=False)  # nobody applies its commands
    cron.start()
    wait_for(lambda: cron.health().database == "ok", "the database")
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        cron.jobs.put(HOURLY)
    assert cron.jobs.list() == []


# stopping


def test_a_handler_may_stop_its_own_instance(embed: Callable[..., Cronexec]) -> None:
    cron, results = embed(), []
    ended = threading.Event()

    @cron.job("last", every="1s")
    def last() -> None:
        results.append(cron.stop())
        ended.set()

    cron.start()
    assert ended.wait(20)
    wait_for(lambda: cron.health().state == "stopped", "the end")
    assert results == [False]
    assert cron.stop()


def test_a_second_stop_shortens_the_grace_of_the_first(embed: Callable[..., Cronexec]) -> None:
    cron, started = embed(), threading.Event()

    @cron.job("slow", every="1s")
    def slow(run: Run) -> None:
        started.set()
        run.cancelled.wait(60)

    cron.start()
    assert started.wait(20)
    first: list[bool] = []
    thread = threading.Thread(target=lambda: first.append(cron.stop(grace=60)))
    thread.start()
    wait_for(lambda: cron.health().state == "draining", "the first stop")
    assert not cron.stop(grace=0)
    thread.join(10)
    assert first == [False]


def test_calls_that_a_stop_overtakes_end_with_a_sentence(embed: Callable[..., Cronexec]) -> None:
    cron = embed(candidate=False)
    cron.start()
    wait_for(lambda: cron.health().database == "ok", "the database")
    errors: list[Exception] = []

    def put() -> None:
        try:
            cron.jobs.put(HOURLY)
        except Exception as error:  # noqa: BLE001  which one is the question
            errors.append(error)

    thread = threading.Thread(target=put)
    thread.start()
    wait_for(lambda: cron._engine._calls, "the call")
    cron.stop()
    thread.join(10)
    assert [type(error) for error in errors] in ([RuntimeError], [UnreachableError])


async def test_a_cancelled_stop_goes_on(ns: Namespace) -> None:
    cron = AsyncCronexec(ns.settings())
    started = asyncio.Event()

    @cron.job("slow", every="1s")
    async def slow() -> None:
        started.set()
        await asyncio.sleep(1.5)

    await cron.start()
    await asyncio.wait_for(started.wait(), 20)
    stopping = asyncio.create_task(cron.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    async with asyncio.timeout(10):
        while cron.health().state == "holder":  # noqa: ASYNC110  health tells nobody when it changes
            await asyncio.sleep(0.01)
    assert cron.health().state == "draining"
    assert await cron.stop()
    assert cron.health().state == "stopped"


# declared jobs


def test_declared_jobs_are_put_once_however_many_start_and_however_often(
    embed: Callable[..., Cronexec],
) -> None:
    crons = [embed(instance=f"worker-{number}") for number in range(4)]
    for cron in crons:
        cron.job("tidy", cron="0 3 * * *", timezone="Europe/Amsterdam", timeout="10m")(lambda _: None)
        cron.start()
    job = wait_for(lambda: crons[0].jobs.get("tidy"), "the declared job")
    for cron in crons:
        cron.stop()
        cron.start()
    wait_for(lambda: any(cron.health().state == "holder" for cron in crons), "a holder")
    crons[0].jobs.put(HOURLY)  # applied after whatever was declared before
    again = crons[0].jobs.get("tidy")
    assert job.declared
    assert again is not None
    assert (again.version, again.declared) == (1, True)


def test_a_changed_declaration_is_a_new_version_and_a_late_one_is_put_too(
    embed: Callable[..., Cronexec],
) -> None:
    first, second = embed(), embed()
    first.job("tidy", every="1h")(lambda _: None)
    holding(first)
    wait_for(lambda: first.jobs.get("tidy"), "the declared job")
    first.stop()
    second.job("tidy", every="2h")(lambda _: None)
    holding(second)
    second.job("late", every="1h")(lambda _: None)
    assert wait_for(lambda: second.jobs.get("late"), "the job declared after the start").declared
    tidy = second.jobs.get("tidy")
    assert tidy is not None
    assert tidy.version == 2


class ScriptedJobs:
    """The jobs of a namespace whose holder refuses one, and whose broker is away at first."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.complete = asyncio.Event()

    async def list(self) -> list[Any]:
        return []

    async def put(self, document: JobDocument, *, declared: bool) -> dict[str, Any]:
        assert declared
        self.asked.append(document.name)
        if self.asked == ["bad", "good"]:
            raise UnreachableError("broker", "nothing listens", "")
        if document.name == "bad":
            raise RefusedError("invalid", "the holder does not like it")
        self.complete.set()
        return {"version": 1, "changed": True}


async def test_a_refused_declaration_is_logged_once_and_an_unsent_one_tried_again() -> None:
    declarations, jobs = Declarations(), ScriptedJobs()
    for name in ("bad", "good"):
        declarations.job(name, every="1h")(lambda _: None)
    with structlog.testing.capture_logs() as logs:
        putting = asyncio.create_task(declarations.keep_put(SimpleNamespace(jobs=jobs), get_logger()))
        await asyncio.wait_for(jobs.complete.wait(), 10)
        putting.cancel()
    assert jobs.asked == ["bad", "good", "good"]
    assert [(entry["event"], entry.get("job")) for entry in logs][:2] == [
        ("job.declaration_refused", "bad"),
        ("job.declaration_delayed", None),
    ]


def test_a_wrong_declaration_is_refused_where_it_stands_with_every_problem(
    embed: Callable[..., Cronexec],
) -> None:
    cron = embed()
    with pytest.raises(InvalidDocumentError) as caught:
        cron.job("tidy", cron="61 * * * *", timezone="Europe/Amsterdm", overlp="skip", timeout="soon")
    fields = {problem.field for problem in caught.value.problems}
    assert fields == {"schedule.cron", "schedule.timezone", "overlp", "timeout"}
    cron.job("tidy", every="1h")(lambda _: None)
    with pytest.raises(SettingsError, match="declared twice"):
        cron.job("tidy", every="2h")


# user code


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_blocking_handler_costs_no_slot_of_others_and_not_the_baton(
    embed: Callable[..., Cronexec], asynchronous: bool
) -> None:
    cron = embed(lease="3s")

    def block_thread() -> None:
        time.sleep(8)

    async def block_loop() -> None:
        time.sleep(8)  # noqa: ASYNC251  the fault that is tested

    cron.job("block", every="1h")(block_loop if asynchronous else block_thread)
    holding(cron)
    epoch = cron.health().epoch
    wait_for(lambda: cron.jobs.get("block"), "the declared job")
    with receiver() as (url, slots):
        cron.jobs.put(webhook_every_second(url))
        wait_for(lambda: slots, "the webhook")
        run_id = cron.jobs.trigger("block")["run"]
        blocked = wait_for(lambda: succeeded(cron, run_id), "the blocking run to end")
        assert_no_slot_was_late(cron, "hook", blocked.started_at, blocked.finished_at)
    assert set(slots.values()) == {1}
    assert cron.health().epoch == epoch


# the facade


def test_every_call_works_from_any_thread_of_a_standby(embed: Callable[..., Cronexec]) -> None:
    holder, standby = embed(instance="one"), embed(instance="two")
    for cron in (holder, standby):
        cron.handler("note")(lambda run: run.print(str(run.params)))
    holding(holder)
    standby.start()
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(use_every_call(standby)))
    thread.start()
    thread.join(30)
    assert results == ["done"]
    assert standby.health().state == "standby"


def use_every_call(cron: Cronexec) -> str:
    assert cron.jobs.put(HOURLY)["version"] == 1
    assert cron.jobs.put(HOURLY | {"params": {"a": 1}}, if_version=1)["version"] == 2
    assert [job.name for job in cron.jobs.list()] == ["hourly"]
    assert cron.jobs.pause("hourly")["paused"]
    assert not cron.jobs.resume("hourly")["paused"]
    run_id = cron.jobs.trigger("hourly", params={"b": 2}, key="once")["run"]
    assert run_id == cron.jobs.trigger("hourly", key="once")["run"] == "hourly#once"
    wait_for(lambda: succeeded(cron, run_id), "the run")
    today = datetime.now(UTC).replace(hour=0)
    assert [run.id for run in cron.runs.list(job="hourly", states=["succeeded"], since=today, limit=1)] == [
        run_id
    ]
    with pytest.raises(RefusedError) as refused:
        cron.runs.cancel(run_id)
    assert refused.value.code == "already_settled"
    assert cron.jobs.delete("hourly", if_version=2)["deleted"]
    assert cron.jobs.get("hourly") is None
    return "done"


async def test_every_call_can_be_awaited_on_any_loop(ns: Namespace) -> None:
    async with AsyncCronexec(ns.settings()) as cron:
        cron.handler("note")(lambda _: None)
        assert await cron.jobs.put(HOURLY)
        assert (await cron.jobs.get("hourly")) == (await cron.jobs.list())[0]
        await cron.jobs.pause("hourly")
        await cron.jobs.resume("hourly")
        run_id = (await asyncio.to_thread(asyncio.run, cron.jobs.trigger("hourly", key="x")))["run"]
        async with asyncio.timeout(20):
            while not await cron.runs.list(job="hourly", states=["succeeded"]):  # noqa: ASYNC110  as above
                await asyncio.sleep(0.05)
        with pytest.raises(RefusedError):
            await cron.runs.cancel(run_id)
        assert (await cron.runs.get(run_id)) is not None
        assert await cron.jobs.delete("hourly")
    with pytest.raises(RuntimeError, match=r"call start\(\) first"):
        await cron.jobs.list()


def test_errors_arrive_as_themselves_with_a_traceback_that_is_the_callers(
    embed: Callable[..., Cronexec],
) -> None:
    cron = holding(embed())
    cases: list[tuple[type[Exception], Callable[[], object]]] = [
        (RefusedError, lambda: cron.jobs.trigger("nothing")),
        (RefusedError, lambda: cron.jobs.delete("nothing")),
        (InvalidDocumentError, lambda: cron.jobs.put({"name": "Wrong"})),
    ]
    for kind, call in cases:
        with pytest.raises(kind) as caught:
            call()
        assert type(caught.value) is kind
        text = "".join(traceback.format_exception(caught.value))
        assert text.count("Traceback") == 1
        assert "asyncio" not in text
        assert "concurrent" not in text


def test_a_command_that_nobody_answers_is_not_yet_applied(embed: Callable[..., Cronexec]) -> None:
    cron = embed(candidate=False)
    cron.start()
    wait_for(lambda: cron.health().database == "ok", "the database")
    assert cron._assembly is not None
    cron._assembly.client.commands.wait = 0.5
    with pytest.raises(NotYetAppliedError) as caught:
        cron.jobs.put(HOURLY)
    assert caught.value.waited == 0.5
    holding(embed(instance="holder"))
    assert wait_for(lambda: cron.jobs.get("hourly"), "the job that was in the queue")


def test_a_broker_that_never_answers_does_not_hold_up_the_stop(
    embed: Callable[..., Cronexec],
) -> None:
    holding(embed()).stop()  # so that the next one finds a namespace, and competes at once
    with socket.create_server((LOOPBACK, 0)) as silent:  # takes connections, and says nothing on them
        cron = embed(amqp_urls=f"amqp://guest:guest@{LOOPBACK}:{silent.getsockname()[1]}/")
        cron.start()
        asked, _, _ = select.select([silent], [], [], 20)
        assert asked
        began = time.monotonic()
        assert cron.stop()
        assert time.monotonic() - began < 5


# typing


def test_what_applications_import_is_typed(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(TYPED_PROGRAM))
    package = Path(cronexec.__file__).parent
    assert (package / "py.typed").exists()  # without which a type checker would not look inside
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--config-file=", program.name],
        env=os.environ | {"MYPYPATH": str(package.parent)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert "Success: no issues found" in done.stdout, done.stdout


TYPED_PROGRAM = """
    from datetime import datetime
    from typing import assert_type

    from cronexec import AsyncCronexec, Cronexec, RefusedError, Run

    cron = Cronexec.from_env(namespace="games")

    @cron.job("close-league", cron="0 3 * * *", timezone="Europe/Amsterdam", timeout="10m")
    def close_league(run: Run) -> int:
        run.progress(1, 2, "matches")
        assert_type(run.slot, datetime)
        return run.attempt

    @cron.handler("note")
    async def note(run: Run) -> None:
        await run.progress(1)

    def use() -> bool:
        number: int = close_league(next(iter([])))
        print(number)
        cron.start()
        assert_type(cron.health().ok, bool)
        version: int = cron.jobs.put({"name": "a"}, if_version=0)["version"]
        for job in cron.jobs.list():
            assert_type(job.version, int)
        for run in cron.runs.list(job="a", states=["failed"], limit=version):
            assert_type(run.id, str)
        if (found := cron.runs.get("a@b")) is not None:
            print(found.lateness_s)
        try:
            cron.jobs.trigger("a", params={"b": 1}, key="c")
        except RefusedError as refused:
            assert_type(refused.code, str)
        return cron.stop(grace=3)

    async def use_async() -> None:
        async with AsyncCronexec.from_env() as asynchronous:
            assert_type(asynchronous, AsyncCronexec)
            for job in await asynchronous.jobs.list():
                assert_type(job.name, str)
            print(await asynchronous.runs.get("a"))
"""
