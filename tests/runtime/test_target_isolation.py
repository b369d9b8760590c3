"""Handlers in processes of their own: what crosses over, and that they can be ended whatever they do."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import isolated_handlers as here
import pytest
from patience import PATIENCE
from structlog.testing import capture_logs
from target_runs import Reports, execution_of, printed, wait_until
from test_target_shell import alive, open_descriptors

from cronexec.declared import Declarations
from cronexec.domain.run import Outcome, RunState
from cronexec.domain.targets import HandlerTarget as Document
from cronexec.errors import SettingsError
from cronexec.ports import Execution
from cronexec.targets.handler import Handlers, HandlerTarget
from cronexec.targets.handler_run import Run

NAMES = [name for name in vars(here) if callable(getattr(here, name))]


@pytest.fixture
async def handlers() -> Handlers:
    handlers = Handlers()
    for name in ("tell", "report", "fail", "leave", "crash", "vanish", "be_killed", "compute", "wait"):
        handlers.register(name, getattr(here, name), isolated=True)
    for name in ("swallow", "block", "asynchronous", "wait_asynchronously", "identify", "nothing", "flood"):
        handlers.register(name, getattr(here, name), isolated=True)
    return handlers


@pytest.fixture
async def target(handlers: Handlers) -> AsyncIterator[HandlerTarget]:
    target = HandlerTarget(handlers)
    yield target
    await target.close()


def run_of(name: str, kill_after: float = 10, **params: Any) -> Execution:
    document = Document(name=name, isolation="process", kill_after=timedelta(seconds=kill_after))
    return execution_of(document, params=params)


async def executed(target: HandlerTarget, execution: Execution) -> Outcome:
    return await asyncio.wait_for(target.execute(execution), PATIENCE)


async def begun(file: Path, number: int = 1) -> list[int]:
    """Return the process ids of handlers that have begun."""

    def read() -> list[int]:
        lines = file.read_text().splitlines() if file.exists() else []
        return [int(line.split()[1]) for line in lines if line.startswith("begun ")]

    await wait_until(lambda: len(read()) >= number, read, PATIENCE)
    return read()


async def cancelled(task: "asyncio.Task[Outcome]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_handler_runs_in_another_process_and_everything_crosses_over(target: HandlerTarget) -> None:
    execution = run_of("tell", league=7)
    with capture_logs() as logged:
        outcome = await executed(target, execution)
    assert outcome == Outcome(state=RunState.SUCCEEDED)
    *lines, result = printed(execution).splitlines()
    assert lines == ["printed", "to stdout", "to stderr", "info match.played match=3"]
    told = json.loads(result)
    assert told["told"] == [
        "close-league@2026-11-20T03:00:00Z",
        "close-league",
        2,
        7,
        True,
        "2026-11-20T03:00:00+00:00",
        {"league": 7},
    ]
    assert os.getpid() not in (told["pid"], told["parent"])
    (event,) = logged
    assert (event["event"], event["match"], event["log_level"]) == ("match.played", 3, "info")
    assert event["run_id"] == "close-league@2026-11-20T03:00:00Z"


async def test_progress_crosses_over_the_last_one_always(target: HandlerTarget) -> None:
    execution = run_of("report")
    assert (await executed(target, execution)).state is RunState.SUCCEEDED
    assert isinstance(execution.report, Reports)
    assert execution.report.seen[-1] == (1000, 1000, "matches")
    assert len(execution.report.seen) < 50, "the engine was told more often than it wants to know"


async def test_an_exception_crosses_over_with_its_classes_and_its_traceback(target: HandlerTarget) -> None:
    execution = run_of("fail")
    outcome = await executed(target, execution)
    assert outcome.state is RunState.FAILED
    assert outcome.error is not None
    assert outcome.error.startswith("NoSuchLeagueError: no such league at amqp:")
    assert outcome.exceptions == ("isolated_handlers.NoSuchLeagueError", "LookupError", "Exception")
    output = printed(execution)
    assert output.startswith("Traceback")
    assert "in fail" in output
    assert "hidden" not in outcome.error + output


@pytest.mark.parametrize(("name", "returned"), [("asynchronous", "awaited"), ("nothing", "took nothing")])
async def test_asynchronous_handlers_and_those_that_take_nothing_run_there_too(
    name: str, returned: str, target: HandlerTarget
) -> None:
    execution = run_of(name)
    assert (await executed(target, execution)).state is RunState.SUCCEEDED
    assert json.loads(printed(execution)) == returned


async def test_a_flood_of_output_is_bounded_and_all_of_it_is_counted(target: HandlerTarget) -> None:
    execution = run_of("flood")
    assert (await executed(target, execution)).state is RunState.SUCCEEDED
    assert execution.output.written == 2_000_000


@pytest.mark.parametrize(
    ("name", "code", "error"),
    [
        ("crash", -signal.SIGSEGV, "the handler's process was ended by SIGSEGV"),
        ("vanish", 7, "the handler's process ended with exit code 7"),
        (
            "be_killed",
            -signal.SIGKILL,
            "the handler's process was ended by SIGKILL, perhaps for lack of memory",
        ),
    ],
)
async def test_the_death_of_the_process_is_a_failure_with_its_exit_code(
    name: str, code: int, error: str, target: HandlerTarget
) -> None:
    execution = run_of(name)
    outcome = await executed(target, execution)
    assert (outcome.state, outcome.exit_code, outcome.error) == (RunState.FAILED, code, error)
    assert (await executed(target, run_of("tell"))).state is RunState.SUCCEEDED


async def test_what_a_process_told_before_it_died_is_kept(target: HandlerTarget) -> None:
    execution = run_of("crash")
    await executed(target, execution)
    assert printed(execution).startswith("before the end\n")


async def test_a_handler_that_exits_ends_only_its_run(target: HandlerTarget) -> None:
    outcome = await executed(target, run_of("leave"))
    assert (outcome.state, outcome.error) == (RunState.FAILED, "SystemExit: 3")


@pytest.mark.parametrize("name", ["compute", "wait_asynchronously"])
async def test_a_cancelled_handler_is_told_cleans_up_and_is_gone(
    name: str, target: HandlerTarget, tmp_path: Path
) -> None:
    file = tmp_path / "notes"
    execution = run_of(name, file=str(file))
    task = asyncio.create_task(target.execute(execution))
    (pid,) = await begun(file)
    await cancelled(task)
    assert not alive(pid)
    assert file.read_text().splitlines()[1:] == ["cleaned up True"]
    assert execution.kept_until is None
    assert "Terminated: the run was cancelled or has timed out" in printed(execution)


async def test_a_handler_that_waits_to_be_cancelled_is_ended_there(
    target: HandlerTarget, tmp_path: Path
) -> None:
    file = tmp_path / "notes"
    task = asyncio.create_task(target.execute(run_of("wait", file=str(file))))
    (pid,) = await begun(file)
    await cancelled(task)
    assert not alive(pid)
    assert "went on" not in file.read_text()


@pytest.mark.parametrize(("name", "processes"), [("swallow", 1), ("block", 2)])
async def test_a_handler_that_does_not_end_is_killed_after_kill_after_with_all_it_started(
    name: str, processes: int, target: HandlerTarget, tmp_path: Path
) -> None:
    file = tmp_path / "notes"
    execution = run_of(name, kill_after=0.4, file=str(file))
    task = asyncio.create_task(target.execute(execution))
    pids = await begun(file, processes)
    before = time.monotonic()
    await cancelled(task)
    assert time.monotonic() - before >= 0.4
    assert not any(map(alive, pids))
    assert execution.kept_until is None


async def test_a_process_is_used_again_and_not_after_a_cancel(target: HandlerTarget, tmp_path: Path) -> None:
    async def identified() -> list[int]:
        execution = run_of("identify")
        await executed(target, execution)
        found: list[int] = json.loads(printed(execution))
        return found

    (first, threads), (second, _) = await identified(), await identified()
    assert (first, threads) == (second, 1)
    file = tmp_path / "notes"
    task = asyncio.create_task(target.execute(run_of("compute", file=str(file))))
    assert await begun(file) == [first]
    await cancelled(task)
    (third, _) = await identified()
    assert third != first


async def test_an_idle_process_ends_and_so_does_one_after_many_runs(
    target: HandlerTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cronexec.targets.handler_processes.IDLE_FOR", 0.2)
    monkeypatch.setattr("cronexec.targets.handler_processes.MOST_RUNS", 2)
    pids = []
    for _ in range(3):
        execution = run_of("identify")
        await executed(target, execution)
        pids.append(json.loads(printed(execution))[0])
    assert pids[0] == pids[1] != pids[2]
    await wait_until(lambda: not any(map(alive, pids)), lambda: [pid for pid in pids if alive(pid)])


async def test_several_run_at_once(target: HandlerTarget) -> None:
    executions = [run_of("identify") for _ in range(6)]
    outcomes = await asyncio.gather(*(executed(target, execution) for execution in executions))
    assert {outcome.state for outcome in outcomes} == {RunState.SUCCEEDED}


async def test_a_killed_supervisor_fails_the_runs_and_is_replaced(
    target: HandlerTarget, tmp_path: Path
) -> None:
    file = tmp_path / "notes"
    task = asyncio.create_task(target.execute(run_of("swallow", file=str(file))))
    (pid,) = await begun(file)
    assert target._processes is not None
    assert target._processes._supervisor is not None
    os.kill(target._processes._supervisor.pid, signal.SIGKILL)
    outcome = await asyncio.wait_for(task, PATIENCE)
    assert (outcome.state, outcome.reason) == (RunState.FAILED, "supervisor_lost")
    await wait_until(lambda: not alive(pid), lambda: pid)
    assert (await executed(target, run_of("tell"))).state is RunState.SUCCEEDED


def _local() -> Callable[[Run], None]:
    def function(_run: Run) -> None:
        raise AssertionError

    return function


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (
            lambda _: None,
            "a lambda has no name to import it by: make it a function of a module",
        ),
        (
            _local(),
            "it is defined within _local, where no import reaches: move it to the module",
        ),
    ],
)
async def test_what_no_import_can_find_is_refused_at_registration_and_before_a_start(
    function: Callable[[Run], Any], why: str
) -> None:
    handlers = Handlers()
    sentence = f"the handler h cannot run in a process of its own: {why}"
    with pytest.raises(SettingsError, match=r"cannot run in a process of its own") as caught:
        handlers.register("h", function, isolated=True)
    assert str(caught.value) == sentence
    handlers.register("h", function)
    target = HandlerTarget(handlers)
    assert target.unavailable(Document(name="h", isolation="process")) == sentence
    assert target.unavailable(Document(name="h")) is None
    assert (await target.execute(run_of("h"))).error == sentence
    await target.close()


def test_a_job_that_is_declared_isolated_needs_a_function_that_can_be_imported() -> None:
    declarations = Declarations()
    declarations.job("report", every="1h", isolation="process", kill_after="3s")(here.report)
    target = declarations.documents["report"].target
    assert target == Document(name="report", isolation="process", kill_after=timedelta(seconds=3))
    with pytest.raises(SettingsError, match="the handler local cannot run in a process of its own"):
        declarations.job("local", every="1h", isolation="process")(lambda _: None)
    assert "local" not in declarations.documents


async def test_where_no_process_can_be_started_the_run_says_so(
    target: HandlerTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_descriptors()
    monkeypatch.setattr("cronexec.targets.handler_processes._program", lambda: ["/no/such/python"])
    outcome = await executed(target, run_of("tell"))
    assert outcome.state is RunState.FAILED
    assert outcome.error is not None
    assert outcome.error.startswith("the handler's process could not be started")
    assert open_descriptors() == before


async def test_a_name_that_means_something_else_by_now_is_refused() -> None:
    handlers = Handlers()

    def tell(_run: Run) -> None:
        raise AssertionError

    tell.__qualname__, tell.__module__ = "tell", here.__name__
    handlers.register("h", tell)
    handlers.register("bound", here.League().play)
    target = HandlerTarget(handlers)
    assert target.unavailable(Document(name="h", isolation="process")) == (
        "the handler h cannot run in a process of its own: isolated_handlers.tell is another object by now: "
        "give each function a name of its own"
    )
    assert target.unavailable(Document(name="bound", isolation="process")) is not None
    await target.close()


async def test_what_decorators_and_classes_hide_is_found(target: HandlerTarget, handlers: Handlers) -> None:
    handlers.register("inner", here.inner)
    handlers.register("outer", here.wrapped)
    handlers.register("static", here.League.close)
    for name, result in (
        ("inner", "close-league was wrapped"),
        ("outer", "close-league was wrapped!"),
        ("static", "static"),
    ):
        execution = run_of(name)
        assert (await executed(target, execution)).error is None
        assert json.loads(printed(execution)) == result


INSTANCE = """
import asyncio, sys
sys.path[:0] = [{tests!r}]
import isolated_handlers
from cronexec import Cronexec
from datetime import timedelta

cron = Cronexec()

@cron.handler("in-script")
def in_script(run):
    cron.start()
    return f"the instance is {{cron.health().state}}"

cron.start() if __name__ != "__main__" else None

async def main(name):
    from target_runs import execution_of, printed
    from cronexec.domain.targets import HandlerTarget as Document
    from cronexec.targets.handler import HandlerTarget
    handlers = cron._declarations.handlers
    handlers.register("block", isolated_handlers.block)
    target = HandlerTarget(handlers)
    document = Document(name=name, isolation="process", kill_after=timedelta(seconds=0.4))
    execution = execution_of(document, params={{"file": {file!r}}})
    print(await target.execute(execution), printed(execution))
    await target.close()

if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
"""


def script(tmp_path: Path) -> tuple[Path, Path]:
    program, file = tmp_path / "app.py", tmp_path / "notes"
    program.write_text(INSTANCE.format(tests=str(Path(__file__).parent), file=str(file)))
    return program, file


def start_script(program: Path, name: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, str(program), name], start_new_session=True)


def test_a_handler_of_a_script_is_found_and_starts_no_instance_there(tmp_path: Path) -> None:
    program, _ = script(tmp_path)
    done = subprocess.run(
        [sys.executable, str(program), "in-script"], capture_output=True, text=True, timeout=60, check=True
    )
    assert "SUCCEEDED" in done.stdout
    assert "the instance is stopped" in done.stdout


async def test_processes_and_all_they_started_die_with_an_instance_that_is_killed(tmp_path: Path) -> None:
    program, file = script(tmp_path)
    instance = start_script(program, "block")
    try:
        pids = await begun(file, 2)
        assert all(map(alive, pids))
    finally:
        with contextlib.suppress(ProcessLookupError):
            instance.kill()
        instance.wait()
    await wait_until(
        lambda: not any(map(alive, pids)), lambda: [pid for pid in pids if alive(pid)], patience=10
    )
