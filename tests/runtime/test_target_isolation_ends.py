"""That a handler in a process of its own can be ended whatever it does, and how its death is told."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from isolated_runs import begun, executed, isolated, run_of
from patience import PATIENCE
from processes_seen import alive
from target_runs import cancelled, printed, wait_until

from cronexec.domain.run import RunState
from cronexec.targets.handler import Handlers, HandlerTarget


@pytest.fixture
async def handlers() -> Handlers:
    return isolated()


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


async def test_a_handler_that_is_cancelled_while_its_process_starts_is_told(
    target: HandlerTarget, tmp_path: Path
) -> None:
    file = tmp_path / "notes"
    for _ in range(5):
        execution = run_of("wait", kill_after=10 * PATIENCE, file=str(file))
        task = asyncio.create_task(target.execute(execution))
        await asyncio.sleep(0)
        assert target._processes is not None
        assert target._processes._supervisor is not None
        (process,) = target._processes._supervisor._processes.values()
        while process.pid is None:  # noqa: ASYNC110  at the first instant that it can be
            await asyncio.sleep(0)
        await cancelled(task)
        assert process.gone.done(), "it was not told, and would have been killed much later"
