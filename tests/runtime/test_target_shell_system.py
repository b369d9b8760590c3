"""What the system and its neighbours do to the processes between an instance and its commands."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from patience import PATIENCE
from processes_seen import alive, pids_in
from target_runs import cancelled, execution_of, printed, wait_until

from cronexec.domain.run import RunState
from cronexec.domain.targets import ShellTarget as Document
from cronexec.ports import Execution
from cronexec.targets.secrets import Secrets
from cronexec.targets.shell import ShellTarget

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs prlimit and /proc")

BLOCKED = {signal.SIGTERM, signal.SIGCHLD, signal.SIGINT, signal.SIGHUP}


@pytest.fixture
async def shell() -> AsyncIterator[ShellTarget]:
    target = ShellTarget(allowed=True, secrets=Secrets({}))
    yield target
    await target.close()


@pytest.fixture
def blocked_signals() -> Iterator[None]:
    """Block signals in this thread, as a server does that waits for them itself."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def execution(command: str, kill_after: timedelta = timedelta(seconds=10 * PATIENCE)) -> Execution:
    return execution_of(Document(command=command, kill_after=kill_after))


def descriptors_of(pid: int) -> set[int]:
    return {int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()}


def start_stranger() -> "subprocess.Popen[bytes]":
    return subprocess.Popen(["sleep", "1000"], start_new_session=True)


def supervisor_of(shell: ShellTarget) -> int:
    assert shell._supervisor is not None
    return shell._supervisor.pid


async def test_a_supervisor_without_descriptors_starts_nothing_and_what_it_runs_goes_on(
    shell: ShellTarget, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    running = asyncio.create_task(shell.execute(execution(f"echo $$ >{pids}; exec sleep 1000")))
    (pid,) = await pids_in(pids, 1)
    supervisor = supervisor_of(shell)
    before = resource.prlimit(supervisor, resource.RLIMIT_NOFILE)
    used = descriptors_of(supervisor)
    least = min(set(range(len(used) + 1)) - used)

    errors = []
    for number in range(least, least + 8):
        resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (number, before[1]))
        outcome = await asyncio.wait_for(shell.execute(execution("true")), PATIENCE)
        errors.append(outcome.error)
    resource.prlimit(supervisor, resource.RLIMIT_NOFILE, before)

    assert errors[0] == "the command could not be started: Too many open files"
    assert all("Too many open files" in error for error in errors if error)
    assert alive(pid)
    assert supervisor_of(shell) == supervisor
    assert (await shell.execute(execution("true"))).state is RunState.SUCCEEDED
    await cancelled(running)
    assert not alive(pid)


@pytest.mark.usefixtures("blocked_signals")
async def test_signals_that_the_instance_has_blocked_reach_its_commands_and_their_ends_are_noticed(
    shell: ShellTarget, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    ended = await asyncio.wait_for(shell.execute(execution("exit 3")), PATIENCE)
    assert ended.exit_code == 3
    run = execution(f"trap 'echo told; exit' TERM; echo $$ >{pids}; while :; do sleep 0.05; done")
    task = asyncio.create_task(shell.execute(run))
    await pids_in(pids, 1)
    await cancelled(task)
    assert printed(run).endswith("told\n")


async def test_a_command_that_makes_its_keeper_stand_still_is_ended_all_the_same(
    shell: ShellTarget, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    run = execution(f"kill -STOP $PPID; echo $$ >{pids}; exec sleep 1000")
    task = asyncio.create_task(shell.execute(run))
    (pid,) = await pids_in(pids, 1)
    await cancelled(task)
    assert not alive(pid)
    assert run.kept_until is None


async def test_the_group_of_a_command_that_has_ended_is_left_alone_when_the_supervisor_is_lost(
    shell: ShellTarget, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    outcome = await shell.execute(execution(f"setsid sh -c 'echo $$ >{pids}; exec sleep 1000' &"))
    assert outcome.state is RunState.SUCCEEDED
    (daemon,) = await pids_in(pids, 1)
    assert shell._supervisor is not None
    (ended,) = shell._supervisor._processes.values()
    with start_stranger() as stranger:
        if ended.pid is not None:  # what it would be if its number were a stranger's by now
            ended.pid = stranger.pid
        os.kill(supervisor_of(shell), signal.SIGKILL)
        await wait_until(lambda: not alive(daemon), lambda: daemon)
        await wait_until(lambda: shell._supervisor and shell._supervisor.lost, lambda: "not lost")
        assert stranger.poll() is None
        stranger.kill()


async def test_a_command_that_may_take_months_to_end_is_not_killed_meanwhile(
    shell: ShellTarget, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    text = f"trap 'sleep 0.3; echo cleaned up; exit' TERM; echo $$ >{pids}; while :; do sleep 0.05; done"
    run = execution(text, kill_after=timedelta(days=90))
    task = asyncio.create_task(shell.execute(run))
    await pids_in(pids, 1)
    await cancelled(task)
    assert printed(run).endswith("cleaned up\n")
