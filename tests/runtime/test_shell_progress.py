"""The pipe by which shell commands tell their progress."""

import asyncio
import os
import shutil
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from loop_turns import longest_hold
from patience import PATIENCE
from target_runs import Reports, execution_of, printed, wait_until

from cronexec.domain.run import RunState
from cronexec.domain.targets import ShellTarget as Document
from cronexec.ports import Execution
from cronexec.targets import shell_progress
from cronexec.targets.secrets import Secrets
from cronexec.targets.shell import ShellTarget

ENVIRON = {"PATH": os.environ["PATH"], "CRONEXEC_SECRET_TOKEN": "tok-123456"}
CRONEXEC = f"{sys.executable} -c 'from cronexec.cli.main import main; main()'"


@pytest.fixture
async def shell() -> AsyncIterator[ShellTarget]:
    target = ShellTarget(allowed=True, secrets=Secrets(ENVIRON), environ=ENVIRON)
    yield target
    await target.close()


def command(text: str, **fields: Any) -> Execution:
    return execution_of(Document.model_validate({"command": text} | fields))


def is_pipe(path: str) -> bool:
    return Path(path).is_fifo()


def mode_of_directory(path: str) -> int | None:
    """Return the rights to the directory that a path is in, None where there is none."""
    parent = Path(path).parent
    return stat.S_IMODE(parent.stat().st_mode) if parent.exists() else None


def reported(execution: Execution) -> list[tuple[float, float | None, str]]:
    assert isinstance(execution.report, Reports)
    return execution.report.seen


async def test_what_is_told_until_the_very_end_is_reported(shell: ShellTarget) -> None:
    execution = command('echo 1 2 half > "$CRONEXEC_PROGRESS"; echo 2 2 > "$CRONEXEC_PROGRESS"')
    assert (await shell.execute(execution)).state is RunState.SUCCEEDED
    assert reported(execution) == [(1, 2, "half"), (2, 2, "")]


async def test_the_command_line_tells_it_and_needs_no_server(shell: ShellTarget) -> None:
    execution = command(f"{CRONEXEC} progress 2 5 'of the matches'")
    assert (await shell.execute(execution)).state is RunState.SUCCEEDED, printed(execution)
    assert reported(execution) == [(2, 5, "of the matches")]


async def test_many_lines_at_once_and_nonsense_between_them_are_taken(shell: ShellTarget) -> None:
    lines = "(seq 1 5000; echo nonsense; echo more nonsense; echo 7 ok)"
    execution = command(f'{lines} > "$CRONEXEC_PROGRESS"')
    await shell.execute(execution)
    assert [done for done, _, _ in reported(execution)] == [*range(1, 5001), 7]
    assert printed(execution).count("no progress: expected DONE") == 1


async def test_a_secret_shows_in_no_message(shell: ShellTarget) -> None:
    execution = command('echo 1 1 "with ${secret:TOKEN}" > "$CRONEXEC_PROGRESS"')
    await shell.execute(execution)
    assert reported(execution) == [(1, 1, "with ***")]


async def test_nobody_else_can_enter_and_nothing_is_left(shell: ShellTarget) -> None:
    execution = command('echo "$CRONEXEC_PROGRESS"')
    await shell.execute(execution)
    pipe = printed(execution).strip()
    assert not is_pipe(pipe)
    assert mode_of_directory(pipe) == 0o700
    await shell.close()
    assert mode_of_directory(pipe) is None


async def test_after_the_run_is_over_the_command_line_says_so(shell: ShellTarget, tmp_path: Path) -> None:
    said = tmp_path / "said"
    late = f'while [ -e "$CRONEXEC_PROGRESS" ]; do sleep 0.05; done; {CRONEXEC} progress 1 2> {said}.new'
    execution = command(f"({late}; mv {said}.new {said}) > /dev/null 2>&1 &")
    await shell.execute(execution)
    await wait_until(said.exists, lambda: list(tmp_path.iterdir()), PATIENCE)
    assert said.read_text() == "Error: no progress can be told: its run is over, or its instance is gone\n"


async def test_a_cancelled_run_leaves_no_pipe(shell: ShellTarget, tmp_path: Path) -> None:
    path = tmp_path / "path"
    execution = command(f'echo "$CRONEXEC_PROGRESS" > {path}; sleep 60')
    running = asyncio.create_task(shell.execute(execution))
    await wait_until(lambda: path.exists() and path.read_text(), lambda: list(tmp_path.iterdir()))
    assert is_pipe(path.read_text().strip())
    running.cancel()
    await asyncio.wait({running})
    assert not is_pipe(path.read_text().strip())


async def test_without_a_place_for_pipes_commands_run_all_the_same(
    shell: ShellTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> str:
        raise OSError("read-only file system")

    monkeypatch.setattr(shell_progress.tempfile, "mkdtemp", refuse)
    execution = command('echo "${CRONEXEC_PROGRESS-none}"')
    assert (await shell.execute(execution)).state is RunState.SUCCEEDED
    assert printed(execution) == "none\n"


async def test_a_flood_of_progress_does_not_hold_the_loop(shell: ShellTarget) -> None:
    execution = command('yes 1 | head -n 100000 > "$CRONEXEC_PROGRESS"')
    running = asyncio.create_task(shell.execute(execution))
    longest = await longest_hold(running)
    assert running.result().state is RunState.SUCCEEDED
    assert len(reported(execution)) == 100_000
    assert longest < 0.03, "the loop was held"


async def test_where_somebody_has_cleaned_up_the_next_run_has_a_pipe_again(shell: ShellTarget) -> None:
    first, second = command('echo "$CRONEXEC_PROGRESS"'), command('echo 1 2 > "$CRONEXEC_PROGRESS"')
    await shell.execute(first)
    shutil.rmtree(Path(printed(first).strip()).parent)
    assert (await shell.execute(second)).state is RunState.SUCCEEDED
    assert reported(second) == [(1, 2, "")]


async def test_another_directory_in_the_place_of_ours_is_not_used(shell: ShellTarget, tmp_path: Path) -> None:
    first, second = command('echo "$CRONEXEC_PROGRESS"'), command('echo "$CRONEXEC_PROGRESS"')
    await shell.execute(first)
    directory = Path(printed(first).strip()).parent
    shutil.rmtree(directory)
    directory.symlink_to(tmp_path)
    await shell.execute(second)
    directory.unlink()
    assert Path(printed(second).strip()).parent != directory


async def test_where_there_was_no_place_for_a_moment_the_next_run_has_a_pipe(
    shell: ShellTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("too many open files")

    first, second = command('echo "${CRONEXEC_PROGRESS-none}"'), command('echo 1 2 > "$CRONEXEC_PROGRESS"')
    with monkeypatch.context() as patched:
        patched.setattr(shell_progress.os, "mkfifo", refuse)
        await shell.execute(first)
    await shell.execute(second)
    assert printed(first) == "none\n"
    assert reported(second) == [(1, 2, "")]


@pytest.mark.parametrize("before", [995, 997, 1000])
async def test_no_beginning_of_a_secret_shows_in_a_message_that_is_cut(
    shell: ShellTarget, before: int
) -> None:
    execution = command(f'echo "1 2 {"x" * before}${{secret:TOKEN}}" > "$CRONEXEC_PROGRESS"')
    await shell.execute(execution)
    ((_, _, message),) = reported(execution)
    assert message == "x" * before + ("***" if before < 1000 else "")
