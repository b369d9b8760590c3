"""That nothing of a shell command is left when its run has ended, however it tried to get away."""

import asyncio
import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from patience import PATIENCE
from processes_seen import alive, pids_in, state_of
from shell_instance import program_of, start_instance
from target_runs import cancelled, execution_of, wait_until

from cronexec.domain.run import RunState
from cronexec.domain.targets import ShellTarget as Document
from cronexec.ports import Execution
from cronexec.targets import output_pipe
from cronexec.targets.secrets import Secrets
from cronexec.targets.shell import ShellTarget

KILL_AFTER = timedelta(seconds=0.4)
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a subreaper and /proc")

DAEMON = """
import os, signal, sys
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT): signal.signal(number, signal.SIG_IGN)
with open(sys.argv[1], "a") as pids: pids.write(f"{os.getpid()}\\n")
os.closerange(0, 64)
os.chdir("/")
os.execve("/bin/sleep", ["sleep", "100"], {})
"""

RABBITS = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pids = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
until = time.monotonic() + 20
for _ in range(2):
    if os.fork() == 0: break
while time.monotonic() < until:
    os.write(pids, b"%d\\n" % os.getpid())
    if os.fork(): os._exit(0)
    os.setsid()
"""


@pytest.fixture
async def shell() -> AsyncIterator[ShellTarget]:
    target = ShellTarget(allowed=True, secrets=Secrets({}))
    yield target
    await target.close()


def python(program: str, *arguments: object) -> str:
    return shlex.join([sys.executable, "-I", "-S", "-c", program, *map(str, arguments)])


def execution(command: str, kill_after: timedelta = KILL_AFTER) -> Execution:
    return execution_of(Document(command=command, kill_after=kill_after))


async def die(pids: list[int]) -> None:
    await wait_until(lambda: not any(map(alive, pids)), lambda: [pid for pid in pids if alive(pid)])


def keepers_of(shell: ShellTarget) -> list[int]:
    assert shell._supervisor is not None
    supervisor = shell._supervisor.pid
    return [int(pid) for pid in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()]


async def test_a_daemon_that_ignores_sigterm_is_gone_when_the_cancelled_run_is(
    shell: ShellTarget, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    run = execution(f"{python(DAEMON, pids)}; echo $$ >>{pids}; while :; do sleep 0.05; done")
    task = asyncio.create_task(shell.execute(run))
    found = await pids_in(pids, 2)
    assert os.getsid(found[0]) != os.getsid(found[1])
    begun = time.monotonic()
    await cancelled(task)
    assert time.monotonic() - begun >= KILL_AFTER.total_seconds()
    assert [pid for pid in found if alive(pid)] == []
    assert run.kept_until is None


async def test_a_daemon_gets_sigterm_like_its_command(shell: ShellTarget, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    told = tmp_path / "told"
    inner = f"trap 'echo told >{told}; exit' TERM; echo $$ >>{pids}; while :; do sleep 0.05; done"
    run = execution(f"setsid sh -c {shlex.quote(inner)} & sleep 100", timedelta(seconds=20))
    task = asyncio.create_task(shell.execute(run))
    found = await pids_in(pids, 1)
    await cancelled(task)
    assert not alive(found[0])
    assert told.read_text() == "told\n"


async def test_what_forks_faster_than_it_can_be_looked_at_is_ended(
    shell: ShellTarget, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    task = asyncio.create_task(shell.execute(execution(f"{python(RABBITS, pids)}; sleep 100")))
    await pids_in(pids, 20)
    await cancelled(task)
    born = len(pids.read_text().split())
    assert not alive(int(pids.read_text().split()[-1]))
    await asyncio.sleep(0.1)
    assert len(pids.read_text().split()) == born


async def test_a_process_that_stands_still_is_ended(shell: ShellTarget, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    told = tmp_path / "told"
    text = f"trap 'echo told >{told}; exit' TERM; echo $$ >{pids}; kill -STOP $$; sleep 100"
    task = asyncio.create_task(shell.execute(execution(text, timedelta(seconds=20))))
    (pid,) = await pids_in(pids, 1)
    await wait_until(lambda: state_of(pid) == "T", lambda: state_of(pid))
    await cancelled(task)
    assert not alive(pid)
    assert told.read_text() == "told\n"


async def test_only_the_cancelled_command_loses_its_daemon(shell: ShellTarget, tmp_path: Path) -> None:
    tasks, daemons = [], []
    for name in ("one", "other"):
        pids = tmp_path / name
        run = execution(f"{python(DAEMON, pids)}; while :; do sleep 0.05; done")
        tasks.append(asyncio.create_task(shell.execute(run)))
        daemons += await pids_in(pids, 1)
    await cancelled(tasks[0])
    assert [alive(pid) for pid in daemons] == [False, True]
    await cancelled(tasks[1])
    assert [alive(pid) for pid in daemons] == [False, False]


async def test_a_daemon_of_a_command_that_ended_well_lives_until_its_instance_stops(
    shell: ShellTarget, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    outcome = await shell.execute(execution(python(DAEMON, pids)))
    assert outcome.state is RunState.SUCCEEDED
    (daemon,) = await pids_in(pids, 1)
    assert (await shell.execute(execution("true"))).state is RunState.SUCCEEDED
    assert alive(daemon)
    await shell.close()
    assert not alive(daemon)


async def test_only_those_who_print_hold_the_output(
    shell: ShellTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_pipe, "DRAIN_TIMEOUT", 100 * PATIENCE)
    commands = ["sleep 100 >/dev/null 2>&1 &", *["true"] * 5]
    runs = asyncio.gather(*(shell.execute(execution(command)) for command in commands))
    outcomes = await asyncio.wait_for(runs, PATIENCE)  # nobody waits for output of nobody
    assert {outcome.state for outcome in outcomes} == {RunState.SUCCEEDED}


async def test_a_command_that_leaves_nothing_leaves_no_keeper(shell: ShellTarget) -> None:
    for _ in range(3):
        await shell.execute(execution("true"))
    await wait_until(lambda: not keepers_of(shell), lambda: keepers_of(shell))
    assert shell._supervisor is not None
    assert shell._supervisor._processes == {}


async def test_a_killed_keeper_takes_its_command_and_its_daemons_along_and_nobody_elses(
    shell: ShellTarget, tmp_path: Path
) -> None:
    tasks, found = [], []
    for name in ("one", "other"):
        pids = tmp_path / name
        text = f"{python(DAEMON, pids)}; echo $$ >>{pids}; sleep 100 & echo $! >>{pids}; wait"
        tasks.append(asyncio.create_task(shell.execute(execution(text))))
        found.append(await pids_in(pids, 3))
    os.kill(keepers_of(shell)[0], signal.SIGKILL)
    outcome = await asyncio.wait_for(tasks[0], PATIENCE)
    assert (outcome.state, outcome.exit_code) == (RunState.FAILED, -signal.SIGKILL)
    await die(found[0])
    assert all(map(alive, found[1]))
    await cancelled(tasks[1])


async def test_a_killed_supervisor_leaves_no_daemon(shell: ShellTarget, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    text = f"{python(DAEMON, pids)}; echo $$ >>{pids}; sleep 100"
    task = asyncio.create_task(shell.execute(execution(text)))
    found = await pids_in(pids, 2)
    assert shell._supervisor is not None
    os.kill(shell._supervisor.pid, signal.SIGKILL)
    assert (await task).reason == "supervisor_lost"
    await die(found)


KEEPER = """
import socket, subprocess, sys
from cronexec.supervisor.keeper import Keeper
from cronexec.supervisor.process import become_subreaper
become_subreaper()
command = ["/bin/sh", "-c", sys.argv[2]]
Keeper(socket.socket(fileno=int(sys.argv[1]))).run(lambda: subprocess.Popen(command, start_new_session=True))
"""


def start_keeper(link: socket.socket, command: str) -> "subprocess.Popen[bytes]":
    program = [sys.executable, "-c", KEEPER, str(link.fileno()), command]
    return subprocess.Popen(program, pass_fds=(link.fileno(),), start_new_session=True)


async def test_a_supervisor_that_ends_before_it_has_listened_leaves_no_daemon(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    ours, theirs = socket.socketpair()
    with theirs:
        keeper = start_keeper(theirs, f"{python(DAEMON, pids)}; echo $$ >>{pids}; sleep 100")
    found = await pids_in(pids, 2)
    ours.close()  # with what the keeper told unread, which resets the connection
    await wait_until(lambda: keeper.poll() is not None, lambda: "the keeper lives")
    assert [pid for pid in found if alive(pid)] == []


@pytest.mark.parametrize("ended", [False, True])
async def test_a_killed_instance_leaves_no_daemon_whether_its_command_has_ended_or_not(
    ended: bool, tmp_path: Path
) -> None:
    pids, done = tmp_path / "pids", tmp_path / "done"
    text = f"{python(DAEMON, pids)}; touch {done}; {'exit 0' if ended else 'sleep 100'}"
    program = program_of(text)
    if ended:
        program = program.replace("asyncio.run(main())", "asyncio.run(main_and_wait())").replace(
            "async def main():",
            "async def main_and_wait():\n    await main()\n    await asyncio.sleep(100)\n\nasync def main():",
        )
        program = program.replace("    shell = ", "    global shell\n    shell = ")
    instance = start_instance(program)
    try:
        found = await pids_in(pids, 1)
        await wait_until(done.exists, lambda: "the command is not done")
        assert all(map(alive, found))
        await asyncio.sleep(0.3 if ended else 0)
        assert all(map(alive, found))
    finally:
        with contextlib.suppress(ProcessLookupError):
            instance.kill()
        instance.wait()
    await die(found)
