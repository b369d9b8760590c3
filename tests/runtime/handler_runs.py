"""Runs of handlers, to give to the target that calls them."""

import asyncio
from collections.abc import Callable
from typing import Any

from patience import PATIENCE
from target_runs import execution_of, printed

from cronexec.domain.run import Outcome
from cronexec.domain.targets import HandlerTarget as Document
from cronexec.ports import Execution
from cronexec.targets.handler import Handlers, HandlerTarget


def run_of(name: str, **fields: Any) -> Execution:
    return execution_of(Document(name=name), **fields)


async def outcome_of(
    target: HandlerTarget, handlers: Handlers, function: Callable[..., Any]
) -> tuple[Outcome, str]:
    handlers.register("h", function)
    execution = run_of("h")
    outcome = await asyncio.wait_for(target.execute(execution), PATIENCE)
    return outcome, printed(execution)
