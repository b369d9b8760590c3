"""Jobs for the command line, and waiting for what becomes of them."""

import json
import time
from collections.abc import Callable
from typing import Any

from cli_program import Answer, CommandLine
from patience import PATIENCE


def shell_job(name: str, command: str = "true", **fields: Any) -> str:
    schedule = {"cron": "0 3 * * *", "timezone": "Europe/Amsterdam"}
    return json.dumps(
        {"name": name, "schedule": schedule, "target": {"type": "shell", "command": command}} | fields
    )


def eventually(ask: Callable[[], Answer], holds: Callable[[Any], bool]) -> Any:
    """Ask until the answer is as expected."""
    until = time.monotonic() + PATIENCE
    while not holds(answer := ask().json):
        assert time.monotonic() < until, f"after {PATIENCE} s: {answer}"
    return answer


def ended(cronexec: CommandLine, run: str) -> Any:
    return eventually(
        lambda: cronexec("run", "show", run, "--json"), lambda record: record["finished_at"] is not None
    )
