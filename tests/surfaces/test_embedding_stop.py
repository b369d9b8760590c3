"""How an embedded instance ends: with its program, on Ctrl-C, by `stop`, and when nobody answers."""

import asyncio
import select
import signal
import socket
import threading

import pytest
from applications import Namespace, wait_for
from embedded import HOURLY, Embed, holding, run_program
from own_time import OwnTime
from patience import PATIENCE

from cronexec import AsyncCronexec, Run, UnreachableError
from cronexec.dev.processes import LOOPBACK


def test_a_program_that_forgets_to_stop_ends_and_hands_the_baton_over(ns: Namespace, embed: Embed) -> None:
    program = """
        import atexit, threading, time
        from cronexec import Cronexec
        cron = Cronexec.from_env()
        naps = []  # the time as this process gets it, however busy the machine is
        def nap():
            while True:
                time.sleep(0.1)
                naps.append(1)
        atexit.register(lambda: print(f"took {len(naps)} naps", flush=True))  # after what start() registers
        started = threading.Event()
        @cron.job("slow", every="1s")
        def slow(run):
            started.set()
            run.cancelled.wait(60)
        @cron.job("coroutine", every="1s")
        async def coroutine(run):
            pass
        cron.start()
        assert started.wait(50)
        threading.Thread(target=nap, daemon=True).start()
    """
    standby = embed(instance="standby")
    standby.job("slow", every="1s")(lambda _: None)
    done = run_program(program, ns.environ(INSTANCE="forgetful"))
    assert done.returncode == 0
    assert done.stderr == ""
    assert "stop.failed" not in done.stdout
    assert int(done.stdout.partition("took ")[2].split()[0]) < 35
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
            run.cancelled.wait(600)
        cron.start()
        assert started.wait(50)
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            cron.stop(grace=600)
        except KeyboardInterrupt:
            print("interrupted", cron.health().state)
    """
    done = run_program(program, ns.environ())  # which waits for a small part of that
    assert (
        done.stdout.splitlines()[-1:] == ["interrupted draining"] or "\ninterrupted draining\n" in done.stdout
    )
    assert done.stderr == ""
    assert done.returncode == 0


def test_ctrl_c_while_a_call_waits_ends_the_call(embed: Embed) -> None:
    cron = embed(candidate=False)  # nobody applies its commands
    cron.start()
    wait_for(lambda: cron.health().database == "ok", "the database")
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        cron.jobs.put(HOURLY)
    assert cron.jobs.list() == []


def test_a_handler_may_stop_its_own_instance(embed: Embed) -> None:
    cron, results = embed(), []
    ended = threading.Event()

    @cron.job("last", every="1s")
    def last() -> None:
        results.append(cron.stop())
        ended.set()

    cron.start()
    assert ended.wait(PATIENCE)
    wait_for(lambda: cron.health().state == "stopped", "the end")
    assert results == [False]
    assert cron.stop()


def test_a_second_stop_shortens_the_grace_of_the_first(embed: Embed) -> None:
    cron, started = embed(), threading.Event()

    @cron.job("slow", every="1s")
    def slow(run: Run) -> None:
        started.set()
        run.cancelled.wait(600)

    cron.start()
    assert started.wait(PATIENCE)
    first: list[bool] = []
    thread = threading.Thread(target=lambda: first.append(cron.stop(grace=600)))
    thread.start()
    wait_for(lambda: cron.health().state == "draining", "the first stop")
    assert not cron.stop(grace=0)
    thread.join(PATIENCE)
    assert first == [False]


def test_calls_that_a_stop_overtakes_end_with_a_sentence(embed: Embed) -> None:
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
    thread.join(PATIENCE)
    assert [type(error) for error in errors] in ([RuntimeError], [UnreachableError])


async def test_a_cancelled_stop_goes_on(ns: Namespace) -> None:
    cron = AsyncCronexec(ns.settings())
    started = asyncio.Event()

    @cron.job("slow", every="1s")
    async def slow() -> None:
        started.set()
        await asyncio.sleep(1.5)

    await cron.start()
    await asyncio.wait_for(started.wait(), PATIENCE)
    stopping = asyncio.create_task(cron.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    async with asyncio.timeout(PATIENCE):
        while cron.health().state == "holder":  # noqa: ASYNC110  health tells nobody when it changes
            await asyncio.sleep(0.01)
    assert cron.health().state == "draining"
    assert await cron.stop()
    assert cron.health().state == "stopped"


def test_a_broker_that_never_answers_does_not_hold_up_the_stop(
    embed: Embed,
) -> None:
    holding(embed()).stop()  # so that the next one finds a namespace, and competes at once
    with socket.create_server((LOOPBACK, 0)) as silent:  # takes connections, and says nothing on them
        cron = embed(amqp_urls=f"amqp://guest:guest@{LOOPBACK}:{silent.getsockname()[1]}/")
        cron.start()
        asked, _, _ = select.select([silent], [], [], PATIENCE)
        assert asked
        with OwnTime() as stopping:
            assert cron.stop()
        assert stopping.seconds < 5
