"""Executions to give to targets."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from patience import PATIENCE

from cronexec.domain.run import Outcome, Run, RunState
from cronexec.ports import Execution
from cronexec.targets.output import BoundedOutput

SLOT = datetime(2026, 11, 20, 3, 0, tzinfo=UTC)


class Reports:
    """Records the progress that was reported."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float | None, str]] = []

    def __call__(self, done: float, total: float | None, message: str) -> None:
        self.seen.append((done, total, message))


def execution_of(
    target: Any, *, params: Mapping[str, Any] | None = None, run_id: str | None = None
) -> Execution:
    run = Run(
        id=run_id or "close-league@2026-11-20T03:00:00Z",
        job="close-league",
        version=1,
        slot=SLOT,
        state=RunState.RUNNING,
        epoch=7,
        attempt=2,
    )
    return Execution(
        run=run,
        target=target,
        timeout=timedelta(seconds=10),
        params=params or {},
        output=BoundedOutput(),
        report=Reports(),
    )


def printed(execution: Execution) -> str:
    assert isinstance(execution.output, BoundedOutput)
    return execution.output.output().text


async def cancelled(task: "asyncio.Task[Outcome]") -> None:
    """Cancel a run, and wait until its target has let go of it."""
    task.cancel()
    await asyncio.wait({task}, timeout=PATIENCE)
    assert task.cancelled(), task


async def wait_until(
    condition: Callable[[], object], seen: Callable[[], object], patience: float = PATIENCE
) -> None:
    """Return as soon as the condition holds; fail with what was seen instead."""
    deadline = asyncio.get_running_loop().time() + patience
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not within {patience:g} s; seen: {seen()!r}")
        await asyncio.sleep(0.01)
