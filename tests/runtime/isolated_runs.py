"""Runs of handlers in processes of their own, and what they wrote when they began."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import isolated_handlers as here
from patience import PATIENCE
from target_runs import execution_of, wait_until

from cronexec.domain.run import Outcome
from cronexec.domain.targets import HandlerTarget as Document
from cronexec.ports import Execution
from cronexec.targets.handler import Handlers, HandlerTarget


def isolated() -> Handlers:
    """Return the handlers of `isolated_handlers`, registered for processes of their own."""
    handlers = Handlers()
    for name in ("tell", "report", "fail", "leave", "crash", "vanish", "be_killed", "compute", "wait"):
        handlers.register(name, getattr(here, name), isolated=True)
    for name in ("swallow", "block", "asynchronous", "wait_asynchronously", "identify", "nothing", "flood"):
        handlers.register(name, getattr(here, name), isolated=True)
    for name in ("flood_the_log", "log_without_measure", "close_output", "let_a_child_return"):
        handlers.register(name, getattr(here, name), isolated=True)
    return handlers


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
