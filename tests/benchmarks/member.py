"""One instance as a process of its own: an application that embeds cronexec, whose handler does nothing.

The handler's first line reads the clock; what it noted is kept in memory and told when `evidence` is asked
for on standard input, so that writing it down is no part of what is measured. SIGTERM, and the end of
standard input (the benchmark is gone), stop the instance in good order.
"""

import json
import signal
import sys
import time
from types import FrameType

from cronexec import Cronexec, Run
from cronexec.collector import calm_collector
from cronexec.log import configure

Noted = tuple[str, float, int, float]


def main() -> None:
    configure(level="info", fmt="json")
    calm_collector()
    cron = Cronexec.from_env()
    noted: list[Noted] = []

    @cron.handler("noop")
    async def noop(run: Run) -> None:
        begun_at = time.time()
        noted.append((run.job, run.slot.timestamp(), run.attempt, begun_at))

    signal.signal(signal.SIGTERM, leave)
    cron.start()
    try:
        for line in sys.stdin:
            if line == "evidence\n":
                told = noted[:]
                del noted[: len(told)]
                print(json.dumps(told), flush=True)  # noqa: T201  the answer
    finally:
        cron.stop()


def leave(_number: int, _frame: FrameType | None) -> None:
    """End the wait for standard input."""
    sys.exit(0)


if __name__ == "__main__":
    main()
