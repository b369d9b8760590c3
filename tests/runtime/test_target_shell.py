import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from loop_turns import longest_hold
from patience import PATIENCE
from processes_seen import alive, open_descriptors, pids_in
from shell_instance import program_of, start_instance
from target_runs import execution_of, printed, wait_until

from cronexec.domain.run import RunState
from cronexec.domain.targets import ShellTarget as Document
from cronexec.ports import Execution
from cronexec.targets.secrets import Secrets
from cronexec.targets.shell import NOT_ALLOWED, ShellTarget

ENVIRON = {
    "PATH": os.environ["PATH"],
    "HOME": "/nowhere",
    "LANG": "C.UTF-8",
    "CRONEXEC_AMQP_URL": "amqp://user:hidden@broker/",
    "CRONEXEC_SECRET_TOKEN": "tok-123456",
    "OTHER": "x",
}


@pytest.fixture
async def shell() -> AsyncIterator[ShellTarget]:
    target = ShellTarget(allowed=True, secrets=Secrets(ENVIRON), environ=ENVIRON)
    yield target
    await target.close()


def command(text: str, **fields: object) -> Execution:
    return execution_of(Document(command=text, **fields), params={"league": 7})


async def test_a_command_that_ends_well_has_succeeded_and_its_output_is_kept(shell: ShellTarget) -> None:
    execution = command("echo out; echo err >&2")
    outcome = await shell.execute(execution)
    assert (outcome.state, outcome.exit_code) == (RunState.SUCCEEDED, 0)
    assert printed(execution) == "out\nerr\n"


async def test_an_exit_code_is_a_failure(shell: ShellTarget) -> None:
    outcome = await shell.execute(command("exit 3"))
    assert (outcome.state, outcome.exit_code) == (RunState.FAILED, 3)
    assert outcome.error == "the command ended with exit code 3"


async def test_a_signal_is_a_negative_exit_code_and_a_sentence(shell: ShellTarget) -> None:
    outcome = await shell.execute(command("kill -KILL $$"))
    assert (outcome.state, outcome.exit_code) == (RunState.FAILED, -9)
    assert outcome.error == "the command was ended by SIGKILL"


async def test_a_missing_directory_is_a_failure_that_names_it(shell: ShellTarget) -> None:
    outcome = await shell.execute(command("true", cwd="/no/such/directory"))
    assert outcome.state is RunState.FAILED
    assert outcome.error is not None
    assert "/no/such/directory" in outcome.error


async def test_a_command_runs_in_its_directory(shell: ShellTarget, tmp_path: Path) -> None:
    execution = command("pwd", cwd=str(tmp_path))
    await shell.execute(execution)
    assert printed(execution).strip() == str(tmp_path)


async def test_the_environment_has_the_jobs_variables_and_the_identity_and_nothing_of_the_instance(
    shell: ShellTarget,
) -> None:
    execution = command("env", env={"LEAGUE": "nr {{ params.league }}"})
    await shell.execute(execution)
    found = dict(line.split("=", 1) for line in printed(execution).splitlines())
    for added_by_the_shell in ("PWD", "OLDPWD", "SHLVL", "_"):
        found.pop(added_by_the_shell, None)
    assert Path(found.pop("CRONEXEC_PROGRESS")).name.startswith("progress-")
    assert found == {
        "PATH": ENVIRON["PATH"],
        "HOME": "/nowhere",
        "LANG": "C.UTF-8",
        "LEAGUE": "nr 7",
        "CRONEXEC_JOB": "close-league",
        "CRONEXEC_SLOT": "2026-11-20T03:00:00Z",
        "CRONEXEC_RUN_ID": "close-league@2026-11-20T03:00:00Z",
        "CRONEXEC_ATTEMPT": "2",
        "CRONEXEC_EPOCH": "7",
        "CRONEXEC_PARAMS": '{"league":7}',
    }


async def test_secrets_reach_the_command_and_not_its_output(shell: ShellTarget) -> None:
    text = (
        'test "${secret:TOKEN}" = tok-123456 && test $T = x-tok-123456 && echo I know ${secret:TOKEN}; '
        "printf tok-; printf 123456"
    )
    execution = command(text, env={"T": "x-${secret:TOKEN}"})
    outcome = await shell.execute(execution)
    assert outcome.state is RunState.SUCCEEDED
    assert printed(execution) == "I know ***\n***"


async def test_a_missing_secret_is_a_failure_that_names_it(shell: ShellTarget) -> None:
    outcome = await shell.execute(command("echo ${secret:NONE}"))
    assert outcome.state is RunState.FAILED
    assert outcome.error is not None
    assert outcome.error.startswith("the secret NONE is missing on this instance")


async def test_braces_in_a_command_are_the_commands(shell: ShellTarget) -> None:
    execution = command("echo '{{ .Names }}'")
    await shell.execute(execution)
    assert printed(execution) == "{{ .Names }}\n"


async def test_an_instance_that_does_not_allow_shell_says_how_to() -> None:
    shell = ShellTarget(allowed=False, secrets=Secrets({}))
    execution = command("true")
    assert shell.unavailable(execution.target) == NOT_ALLOWED
    assert (await shell.execute(execution)).error == NOT_ALLOWED


async def test_a_cancelled_command_gets_sigterm_and_what_it_printed_is_kept(
    shell: ShellTarget, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    text = f"trap 'echo bye; exit' TERM; echo begun; echo $$ >{pids}; while :; do :; done"
    execution = command(text)
    task = asyncio.create_task(shell.execute(execution))
    (pid,) = await pids_in(pids, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not alive(pid)
    assert printed(execution) == "begun\nbye\n"


async def test_a_command_that_ignores_sigterm_is_killed_after_kill_after(
    shell: ShellTarget, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    text = f"trap '' TERM; sleep 100 & echo $! >>{pids}; echo $$ >>{pids}; while :; do sleep 0.05; done"
    task = asyncio.create_task(shell.execute(command(text, kill_after=timedelta(seconds=0.4))))
    found = await pids_in(pids, 2)
    begun = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - begun >= 0.4
    assert [pid for pid in found if alive(pid)] == []


async def test_a_command_cancelled_twice_is_killed_at_once(shell: ShellTarget, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    stubborn = f"trap '' TERM; echo $$ >{pids}; while :; do sleep 0.05; done"
    execution = command(stubborn, kill_after=timedelta(seconds=10 * PATIENCE))
    task = asyncio.create_task(shell.execute(execution))
    (pid,) = await pids_in(pids, 1)
    task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, PATIENCE)
    await wait_until(lambda: not alive(pid), lambda: pid)


async def test_a_background_process_neither_delays_the_outcome_nor_is_killed_by_it(
    shell: ShellTarget, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    execution = command(f"(while :; do echo again; sleep 0.02; done) & echo $! >{pids}; echo done")
    outcome = await asyncio.wait_for(shell.execute(execution), PATIENCE)
    assert outcome.state is RunState.SUCCEEDED
    (pid,) = await pids_in(pids, 1)
    assert alive(pid)
    await shell.close()
    assert not alive(pid)


@pytest.mark.parametrize(("secret", "length"), [("", 200_000_000), (": ${secret:TOKEN}", 50_000_000)])
async def test_a_flood_of_output_is_bounded_and_does_not_hold_the_loop(
    secret: str, length: int, shell: ShellTarget
) -> None:
    execution = command(f"{secret}\n head -c {length} /dev/zero | tr '\\0' t; echo; echo the end")
    task = asyncio.create_task(shell.execute(execution))
    longest = await longest_hold(task)
    output = execution.output.output()
    assert task.result().state is RunState.SUCCEEDED
    assert output.tail.endswith("t\nthe end\n")
    assert len(output.head) + len(output.tail) + output.dropped == length + len("\nthe end\n")
    assert longest < 0.02, "the loop was held"


async def test_twenty_commands_at_once_all_report(shell: ShellTarget) -> None:
    executions = [command(f"exit {number}") for number in range(20)]
    outcomes = await asyncio.gather(*(shell.execute(execution) for execution in executions))
    assert [outcome.exit_code for outcome in outcomes] == list(range(20))


async def test_a_killed_supervisor_fails_its_runs_kills_their_groups_and_is_replaced(
    shell: ShellTarget, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    text = f"echo $$ >>{pids}; sleep 100 & echo $! >>{pids}; wait"
    task = asyncio.create_task(shell.execute(command(text)))
    found = await pids_in(pids, 2)
    assert shell._supervisor is not None
    os.kill(shell._supervisor.pid, signal.SIGKILL)
    outcome = await task
    assert (outcome.state, outcome.reason) == (RunState.FAILED, "supervisor_lost")
    await wait_until(lambda: not any(map(alive, found)), lambda: [pid for pid in found if alive(pid)])
    assert (await shell.execute(command("true"))).state is RunState.SUCCEEDED


async def test_a_supervisor_that_cannot_be_started_is_a_failure() -> None:
    shell = ShellTarget(allowed=True, secrets=Secrets({}), python="/no/such/python")
    outcome = await shell.execute(command("true"))
    assert outcome.state is RunState.FAILED
    assert outcome.error is not None
    assert "/no/such/python" in outcome.error


async def test_signals_to_the_supervisor_end_nothing(shell: ShellTarget) -> None:
    assert (await shell.execute(command("true"))).state is RunState.SUCCEEDED
    assert shell._supervisor is not None
    pid = shell._supervisor.pid
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pid, number)
    assert (await shell.execute(command("true"))).state is RunState.SUCCEEDED
    assert shell._supervisor.pid == pid


@pytest.mark.parametrize("how", ["exits", "ignores"])
async def test_commands_and_all_they_started_die_with_an_instance_that_is_killed(
    how: str, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    trap = "trap '' TERM; " if how == "ignores" else ""
    text = (
        f"{trap}(while :; do sleep 0.1; done) & echo $! >>{pids}; echo $$ >>{pids}; echo $PPID >>{pids}; "
        "while :; do sleep 0.1; done"
    )
    program = program_of(text)
    instance = start_instance(program)
    try:
        found = await pids_in(pids, 3)
        assert all(map(alive, found))
    finally:
        instance.kill()
        instance.wait()
    await wait_until(lambda: not any(map(alive, found)), lambda: [pid for pid in found if alive(pid)])


async def test_a_forked_child_of_the_instance_does_not_keep_its_commands_alive(
    tmp_path: Path,
) -> None:
    pids = tmp_path / "pids"
    holder = tmp_path / "holder"
    text = f"echo $$ >>{pids}; while :; do sleep 0.1; done"
    program = program_of(text).replace(
        "    await shell.execute(",
        f"""
    async def fork_later():
        while not os.path.exists({str(pids)!r}):
            await asyncio.sleep(0.01)
        if os.fork() == 0:
            import time
            time.sleep(60)
            os._exit(0)
        open({str(holder)!r}, "w").write("forked")
    later = asyncio.create_task(fork_later())
    await shell.execute(""",
    )
    instance = start_instance(program)
    try:
        found = await pids_in(pids, 1)
        await wait_until(holder.exists, lambda: "not forked")
        os.kill(instance.pid, signal.SIGKILL)
        await wait_until(lambda: not any(map(alive, found)), lambda: found)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(instance.pid, signal.SIGKILL)
        instance.wait()


async def test_no_descriptor_is_left_open(shell: ShellTarget) -> None:
    await shell.execute(command("true"))
    before = open_descriptors()
    for _ in range(5):
        await shell.execute(command("echo x"))
    assert open_descriptors() == before
