"""An instance whose handlers do not end by themselves; what they do is in the file named by MEMBER_NOTES."""

import asyncio
import os
import signal
import threading
from pathlib import Path

from cronexec import Cronexec, Run
from cronexec.log import configure

cron = Cronexec.from_env()
NOTES = Path(os.environ["MEMBER_NOTES"])


def note(run: Run, what: str) -> None:
    with NOTES.open("a") as file:
        file.write(f"{run.job} {what} {os.getpid()}\n")


@cron.handler("asynchronous")
async def asynchronous(run: Run) -> None:
    note(run, "begun")
    try:
        await asyncio.Event().wait()
    finally:
        note(run, "ended")


@cron.handler("threaded")
def threaded(run: Run) -> None:
    note(run, "begun")
    run.cancelled.wait(100)
    note(run, "ended")


@cron.handler("isolated")
def isolated(run: Run) -> None:
    """Compute, with a daemon in the background that ignores signals."""
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        note(run, "begun")
        threading.Event().wait(100)
        os._exit(0)
    note(run, "begun")
    try:
        while True:
            sum(range(1000))
    finally:
        note(run, "ended")


@cron.handler("brief")
def brief(run: Run) -> int:
    return run.attempt


def main() -> None:
    configure(level="info", fmt="json")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    cron.start()
    stop.wait()
    cron.stop()


if __name__ == "__main__":
    main()
