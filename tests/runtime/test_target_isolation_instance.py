"""Isolated handlers of an application that is a script: they start no instance, and die with theirs."""

import contextlib
import subprocess
import sys
from pathlib import Path

from isolated_runs import begun
from processes_seen import alive
from target_runs import wait_until

HERE = Path(__file__).parent
INSTANCE = """
import asyncio, sys
sys.path[:0] = {paths!r}
import isolated_handlers
from cronexec import Cronexec
from datetime import timedelta

cron = Cronexec()

@cron.handler("in-script")
def in_script(run):
    cron.start()
    return f"the instance is {{cron.health().state}}"

cron.start() if __name__ != "__main__" else None

async def main(name):
    from target_runs import execution_of, printed
    from cronexec.domain.targets import HandlerTarget as Document
    from cronexec.targets.handler import HandlerTarget
    handlers = cron._declarations.handlers
    handlers.register("block", isolated_handlers.block)
    target = HandlerTarget(handlers)
    document = Document(name=name, isolation="process", kill_after=timedelta(seconds=0.4))
    execution = execution_of(document, params={{"file": {file!r}}})
    print(await target.execute(execution), printed(execution))
    await target.close()

if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
"""


def script(tmp_path: Path) -> tuple[Path, Path]:
    program, file = tmp_path / "app.py", tmp_path / "notes"
    program.write_text(INSTANCE.format(paths=[str(HERE), str(HERE.parent)], file=str(file)))
    return program, file


def start_script(program: Path, name: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, str(program), name], start_new_session=True)


def test_a_handler_of_a_script_is_found_and_starts_no_instance_there(tmp_path: Path) -> None:
    program, _ = script(tmp_path)
    done = subprocess.run(
        [sys.executable, str(program), "in-script"], capture_output=True, text=True, timeout=60, check=True
    )
    assert "SUCCEEDED" in done.stdout
    assert "the instance is stopped" in done.stdout


async def test_processes_and_all_they_started_die_with_an_instance_that_is_killed(tmp_path: Path) -> None:
    program, file = script(tmp_path)
    instance = start_script(program, "block")
    try:
        pids = await begun(file, 2)
        assert all(map(alive, pids))
    finally:
        with contextlib.suppress(ProcessLookupError):
            instance.kill()
        instance.wait()
    await wait_until(lambda: not any(map(alive, pids)), lambda: [pid for pid in pids if alive(pid)])
