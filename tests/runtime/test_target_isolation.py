"""Handlers in processes of their own: what crosses over, and how the processes are used."""

import asyncio
import io
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from isolated_runs import begun, executed, isolated, run_of
from loop_turns import longest_hold
from patience import PATIENCE
from processes_seen import alive, open_descriptors
from structlog.testing import capture_logs
from target_runs import Reports, cancelled, printed, wait_until

from cronexec.domain.run import Outcome, RunState
from cronexec.targets.handler import Handlers, HandlerTarget
from cronexec.targets.handler_worker import Worker


@pytest.fixture
async def handlers() -> Handlers:
    return isolated()


@pytest.fixture
def logging() -> Iterator[Callable[..., None]]:
    """What configures structlog as an application does, for one test."""
    yield lambda processors, factory=None: structlog.configure(processors, logger_factory=factory)
    structlog.reset_defaults()


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


async def test_a_process_is_used_again_only_for_runs_that_have_as_long_to_end(target: HandlerTarget) -> None:
    pids = []
    for kill_after in (10, 20, 10):
        execution = run_of("identify", kill_after=kill_after)
        await executed(target, execution)
        pids.append(json.loads(printed(execution))[0])
    assert pids[0] == pids[2] != pids[1]


async def test_a_handler_that_closes_its_output_has_succeeded_and_the_next_one_prints(
    target: HandlerTarget,
) -> None:
    assert await executed(target, run_of("close_output")) == Outcome(state=RunState.SUCCEEDED)
    execution = run_of("nothing")
    assert await executed(target, execution) == Outcome(state=RunState.SUCCEEDED)
    assert json.loads(printed(execution)) == "took nothing"


async def test_a_forked_child_that_comes_back_from_the_handler_ends_there(target: HandlerTarget) -> None:
    execution = run_of("let_a_child_return")
    assert await executed(target, execution) == Outcome(state=RunState.SUCCEEDED)
    lines = printed(execution).splitlines()
    assert lines == ['"child of close-league"', '"parent of close-league"']


async def test_a_flood_of_log_events_does_not_hold_the_loop(
    target: HandlerTarget, logging: Callable[..., None]
) -> None:
    lines = io.StringIO()
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    logging([stamp, structlog.processors.JSONRenderer()], structlog.PrintLoggerFactory(lines))
    running = asyncio.create_task(executed(target, run_of("flood_the_log")))
    longest = await longest_hold(running)
    assert running.result().state is RunState.SUCCEEDED
    logged = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [event["match"] for event in logged] == list(range(2000))
    assert longest < 0.02, "the loop was held"


async def test_of_an_event_without_measure_its_name_is_logged_and_all_is_in_the_output(
    target: HandlerTarget,
) -> None:
    execution = run_of("log_without_measure")
    with capture_logs() as logged:
        running = asyncio.create_task(executed(target, execution))
        longest = await longest_hold(running)
    assert running.result().state is RunState.SUCCEEDED
    (event,) = logged
    assert (event["event"], event["log_level"], "report" in event) == ("match.played", "info", False)
    assert execution.output.written > 5_000_000
    assert longest < 0.05, "the loop was held"


async def test_an_event_that_the_application_cannot_log_is_no_reason_to_miss_what_comes_after(
    target: HandlerTarget, logging: Callable[..., None]
) -> None:
    def fail(*_: Any) -> Any:
        raise ZeroDivisionError("a bug")

    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    logging([fail])
    assert await executed(target, run_of("flood_the_log")) == Outcome(state=RunState.SUCCEEDED)
    assert len(told) == 2000
    assert {type(context["exception"]) for context in told} == {ZeroDivisionError}


async def test_what_is_no_text_in_the_import_path_is_passed_over(
    target: HandlerTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, Path("/no/such/directory")])
    assert await executed(target, run_of("nothing")) == Outcome(state=RunState.SUCCEEDED)


def test_progress_that_is_being_sent_is_sent_before_the_end_of_its_run() -> None:
    sending, go = threading.Event(), threading.Event()

    class SlowWorker(Worker):
        def _send(self, *_: Any, **__: Any) -> bool:
            sending.set()
            return go.wait(PATIENCE)

    ours, theirs = socket.socketpair()
    with ours, theirs:
        worker = SlowWorker(ours)
        worker._report(1, 2, "matches")
        assert sending.wait(PATIENCE)
        ending = threading.Thread(target=worker._send_progress)
        ending.start()
        ending.join(0.2)
        overtook = not ending.is_alive()
        go.set()
        ending.join(PATIENCE)
    assert not overtook
