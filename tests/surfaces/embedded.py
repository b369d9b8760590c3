"""Instances in the test's own process, and small programs with one: what embedding is tested with."""

import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from typing import Any

from applications import wait_for
from patience import PATIENCE

from cronexec import Cronexec

Embed = Callable[..., Cronexec]  # the fixture `embed`: overrides of settings in, an instance out
HOURLY = {"name": "hourly", "schedule": {"every": "1h"}, "target": {"type": "handler", "name": "note"}}


def holding(cron: Cronexec) -> Cronexec:
    """Start it, and wait until it holds."""
    cron.start()
    wait_for(lambda: cron.health().state == "holder" and cron.health().epoch, "the baton")
    return cron


def own_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("cronexec")]


def succeeded(cron: Cronexec, run_id: str) -> Any:
    run = cron.runs.get(run_id)
    return run if run is not None and run.state == "succeeded" else None


def run_program(
    program: str, environ: dict[str, str], timeout: float = PATIENCE
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", textwrap.dedent(program)],
        env=environ,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
