"""What applications import is typed: a program that uses all of it passes a strict type checker."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import cronexec

CACHE = Path(__file__).parents[2] / ".mypy_cache" / "applications"  # of its own: the options are others
MYPY = [
    sys.executable,
    "-m",
    "mypy",
    "--strict",
    "--follow-imports=silent",
    "--config-file=",
    f"--cache-dir={CACHE}",
]


def test_what_applications_import_is_typed(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(TYPED_PROGRAM))
    package = Path(cronexec.__file__).parent
    assert (package / "py.typed").exists()  # without which a type checker would not look inside
    done = subprocess.run(
        [*MYPY, program.name],
        env=os.environ | {"MYPYPATH": str(package.parent)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert "Success: no issues found" in done.stdout, done.stdout


TYPED_PROGRAM = """
    from datetime import datetime
    from typing import assert_type

    from cronexec import AsyncCronexec, Cronexec, RefusedError, Run

    cron = Cronexec.from_env(namespace="games")

    @cron.job("close-league", cron="0 3 * * *", timezone="Europe/Amsterdam", timeout="10m")
    def close_league(run: Run) -> int:
        run.progress(1, 2, "matches")
        assert_type(run.slot, datetime)
        return run.attempt

    @cron.handler("note")
    async def note(run: Run) -> None:
        await run.progress(1)

    def use() -> bool:
        number: int = close_league(next(iter([])))
        print(number)
        cron.start()
        assert_type(cron.health().ok, bool)
        version: int = cron.jobs.put({"name": "a"}, if_version=0)["version"]
        for job in cron.jobs.list():
            assert_type(job.version, int)
        for run in cron.runs.list(job="a", states=["failed"], limit=version):
            assert_type(run.id, str)
        if (found := cron.runs.get("a@b")) is not None:
            print(found.lateness_s)
        if (output := cron.runs.output("a@b", attempt=1)) is not None:
            assert_type(output.text, str)
        assert_type(cron.runs.wait("a@b", timeout=5).id, str)
        try:
            cron.jobs.trigger("a", params={"b": 1}, key="c")
        except RefusedError as refused:
            assert_type(refused.code, str)
        return cron.stop(grace=3)

    async def use_async() -> None:
        async with AsyncCronexec.from_env() as asynchronous:
            assert_type(asynchronous, AsyncCronexec)
            for job in await asynchronous.jobs.list():
                assert_type(job.name, str)
            print(await asynchronous.runs.get("a"))
            print(await asynchronous.runs.output("a"), await asynchronous.runs.wait("a"))
"""
