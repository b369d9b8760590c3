"""Handlers in processes of their own: what crosses over, and how the processes are used."""

import asyncio
import json
import os
from pathlib import Path

import pytest
from isolated_runs import begun, executed, isolated, run_of
from processes_seen import alive, open_descriptors
from structlog.testing import capture_logs
from target_runs import Reports, cancelled, printed, wait_until

from cronexec.domain.run import Outcome, RunState
from cronexec.targets.handler import Handlers, HandlerTarget


@pytest.fixture
async def handlers() -> Handlers:
    return isolated()


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


async def test_a_handler_that_exits_ends_only_its_run(target: HandlerTarget) -> None:
    outcome = await executed(target, run_of("leave"))
    assert (outcome.state, outcome.error) == (RunState.FAILED, "SystemExit: 3")


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
