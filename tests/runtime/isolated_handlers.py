"""Handlers for processes of their own: what they do to themselves there."""

import asyncio
import ctypes
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cronexec.targets.handler_run import Run


class NoSuchLeagueError(LookupError):
    pass


def note(run: Run, *what: object) -> None:
    """Write to the file that the run's params name, for the test to see."""
    with Path(run.params["file"]).open("a") as file:
        file.write(" ".join(map(str, what)) + "\n")


def tell(run: Run) -> dict[str, Any]:
    run.print("printed")
    print("to stdout")  # noqa: T201  it is to end up in the output
    os.write(2, b"to stderr\n")
    run.log.info("match.played", match=3)
    told = [run.id, run.job, run.attempt, run.epoch, run.scheduled, run.slot.isoformat(), run.params]
    return {"told": told, "pid": os.getpid(), "parent": os.getppid()}


def report(run: Run) -> None:
    for done in range(1000):
        run.progress(done + 1, 1000, "matches")


def fail(_run: Run) -> None:
    raise NoSuchLeagueError("no such league at amqp://user:hidden@broker/")


def leave(_run: Run) -> None:
    sys.exit(3)


def crash(run: Run) -> None:
    run.progress(1, 2, "before the end")
    run.print("before the end")
    ctypes.string_at(0)


def vanish(_run: Run) -> None:
    os._exit(7)


def be_killed(_run: Run) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def compute(run: Run) -> None:
    """Compute for ever, and clean up when told to end."""
    note(run, "begun", os.getpid())
    try:
        while True:
            sum(range(1000))
    finally:
        note(run, "cleaned up", bool(run.cancelled))


def wait(run: Run) -> None:
    note(run, "begun", os.getpid())
    run.cancelled.wait(100)
    note(run, "went on")


def swallow(run: Run) -> None:
    note(run, "begun", os.getpid())
    while True:
        try:
            time.sleep(0.01)
        except BaseException:  # noqa: BLE001, S112  it is to be this bad
            continue


def block(run: Run) -> None:
    """Be in foreign code, where no signal handler of Python's runs, with a child that ignores signals."""
    child = os.fork()
    if child == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        note(run, "begun", os.getpid())
        time.sleep(100)
        os._exit(0)
    note(run, "begun", os.getpid())
    libc = ctypes.PyDLL(None)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    libc.sleep(100)


async def asynchronous(run: Run) -> str:
    await run.progress(1, 1)
    await asyncio.sleep(0)
    return "awaited"


async def wait_asynchronously(run: Run) -> None:
    note(run, "begun", os.getpid())
    try:
        await asyncio.Event().wait()
    finally:
        note(run, "cleaned up", bool(run.cancelled))


def identify(_run: Run) -> list[int]:
    return [os.getpid(), threading.active_count()]


def nothing() -> str:
    return "took nothing"


def flood(_run: Run) -> None:
    for _ in range(2000):
        print("x" * 999)  # noqa: T201  it is to end up in the output


def flood_the_log(run: Run) -> None:
    for number in range(2000):
        run.log.info("match.played", match=number)


def log_without_measure(run: Run) -> None:
    run.log.info("match.played", report="x" * 5_000_000)


def close_output(_run: Run) -> str:
    """Do as daemons do."""
    sys.stdout.close()
    sys.stderr.close()
    os.close(1)
    os.close(2)
    return "nobody reads this"


def let_a_child_return(run: Run) -> str:
    """Fork, and forget that the child comes back from here as well, before its parent does."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return f"{'parent' if child else 'child'} of {run.job}"


def loudly(function: Callable[[Run], str]) -> Callable[[Run], str]:
    @functools.wraps(function)
    def louder(run: Run) -> str:
        return function(run) + "!"

    return louder


def _decorated(run: Run) -> str:
    return f"{run.job} was wrapped"


inner = _decorated
inner.__qualname__ = inner.__name__ = "wrapped"
wrapped = loudly(inner)


class League:
    @staticmethod
    def close(_run: Run) -> str:
        return "static"

    def play(self, _run: Run) -> str:
        return "bound"
