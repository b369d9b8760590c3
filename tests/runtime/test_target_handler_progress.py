"""What handlers tell while they run: progress, prints and log events."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from handler_runs import outcome_of, run_of
from structlog.testing import capture_logs
from target_runs import Reports

from cronexec.domain.run import RunState
from cronexec.targets.handler import Handlers, HandlerTarget
from cronexec.targets.handler_run import Run


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_progress_reaches_the_engine_the_last_one_always(
    asynchronous: bool, target: HandlerTarget, handlers: Handlers
) -> None:
    async def handler(run: Run) -> None:
        for done in range(1000):
            await run.progress(done + 1, 1000, "matches")

    def handler_in_thread(run: Run) -> None:
        for done in range(1000):
            run.progress(done + 1, 1000, "matches")

    handlers.register("h", handler if asynchronous else handler_in_thread)
    execution = run_of("h")
    await target.execute(execution)
    assert isinstance(execution.report, Reports)
    assert execution.report.seen[-1] == (1000, 1000, "matches")
    assert len(execution.report.seen) < 50, "the engine was told more often than it wants to know"


@pytest.mark.parametrize(
    ("done", "total", "sentence"),
    [
        ("3", None, "TypeError: run.progress: done must be an int or a float, not str"),
        (True, None, "TypeError: run.progress: done must be an int or a float, not bool"),
        (None, None, "TypeError: run.progress: done must be an int or a float, not NoneType"),
        (1, Decimal(3), "TypeError: run.progress: total must be an int or a float, not Decimal"),
        (float("nan"), 3, "ValueError: run.progress: done must be a finite number, not nan"),
        (1, float("-inf"), "ValueError: run.progress: total must be a finite number, not -inf"),
        (2**63, None, "ValueError: run.progress: done must fit in 64 bits"),
    ],
)
async def test_progress_that_is_no_number_fails_the_handler_and_reaches_nobody(
    done: Any, total: Any, sentence: str, target: HandlerTarget, handlers: Handlers
) -> None:
    async def handler(run: Run) -> None:
        await run.progress(done, total)

    handlers.register("h", handler)
    execution = run_of("h")
    outcome = await target.execute(execution)
    assert outcome.state is RunState.FAILED
    assert sentence in (outcome.error or "")
    assert isinstance(execution.report, Reports)
    assert execution.report.seen == []


async def test_a_progress_message_may_be_anything_that_has_a_text(
    target: HandlerTarget, handlers: Handlers
) -> None:
    seen = []
    for name, message in enumerate((Path("a/b"), 7, "x" * 5000, "ü\ud800", "bye")):

        async def handler(run: Run, message: object = message) -> None:
            await run.progress(1, 2.5, message)

        handlers.register(f"h{name}", handler)
        execution = run_of(f"h{name}")
        await target.execute(execution)
        assert isinstance(execution.report, Reports)
        seen += execution.report.seen
    assert [message for _, _, message in seen] == ["a/b", "7", "x" * 1000, "ü?", "bye"]


async def test_what_a_run_logs_and_prints_is_in_its_output(target: HandlerTarget, handlers: Handlers) -> None:
    def handler(run: Run) -> None:
        run.print("begun")
        run.log.info("match.played", match=3)

    with capture_logs() as logged:
        _, output = await outcome_of(target, handlers, handler)
    assert output == "begun\ninfo match.played match=3\n"
    assert logged[0]["event"] == "match.played"
    assert logged[0]["run_id"] == "close-league@2026-11-20T03:00:00Z"
