"""An instance as a process of its own: an application that embeds cronexec, and leaves evidence of its runs.

Every handler appends one line, `job slot attempt`, to the file named on the command line; a second argument
sets its wall clock wrong.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable

from cronexec import Cronexec, Run
from cronexec.adapters import clock
from cronexec.collector import calm_collector
from cronexec.log import configure


def main(evidence: str, wall_offset: float) -> None:
    if wall_offset:
        set_wall_clock(wall_offset)
    configure(level="info", fmt="json")
    calm_collector()
    cron = Cronexec.from_env()
    file = os.open(evidence, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def leave(run: Run) -> None:
        os.write(file, f"{run.job} {run.slot:%Y-%m-%dT%H:%M:%SZ} {run.attempt}\n".encode())

    @cron.handler("quick")
    async def quick(run: Run) -> None:
        leave(run)

    @cron.handler("threaded")
    def threaded(run: Run) -> None:
        leave(run)

    @cron.handler("slow")
    def slow(run: Run) -> None:
        run.cancelled.wait(float(run.params.get("seconds", 2)))
        leave(run)

    @cron.handler("blocking")
    async def blocking(run: Run) -> None:
        time.sleep(float(run.params.get("seconds", 30)))  # noqa: ASYNC251  the fault that is tested
        leave(run)

    @cron.handler("flaky")
    async def flaky(run: Run) -> None:
        leave(run)
        if run.attempt < int(run.params.get("succeeds_at", 2)):
            raise ConnectionError("not yet")

    declare(cron, leave, os.environ.get("MEMBER_RELEASE"))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    cron.start()
    stop.wait()
    cron.stop()


def declare(cron: Cronexec, leave: Callable[[Run], None], release: str | None) -> None:
    """Declare what this release of the application does: the new one has another schedule, and a new job."""
    if release is not None:
        cron.job("nightly", every="1h" if release == "old" else "2h")(leave)
    if release == "new":
        cron.job("fresh", every="1s")(leave)


def set_wall_clock(offset: float) -> None:
    """Have this process's wall clock be wrong; `adapters.clock` is the only place that reads it."""
    right = clock._wall
    clock._wall = lambda: right() + clock.timedelta(seconds=offset)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)
