"""The jobs of a chaos run: many that stay, and some that commands change all the time.

Most jobs want every slot, however late (`overlap: allow`, a long grace), so that what is missing shows. Some
have what makes slots skip: runs that last longer than their interval, with each of the overlap policies, and
a grace of two seconds with each of the misfire policies, with and without a window. Some fail at first, and
are retried. Some exclude slots, or start them with jitter. A few webhooks finish later, by a callback, and a
few handlers have a process of their own.
"""

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

Document = dict[str, Any]

ALL_SLOTS: Document = {"overlap": "allow", "misfire": {"grace": "1h"}}
SOME_SLOTS: tuple[Document, ...] = (
    {"misfire": {"grace": "2s"}},
    {"misfire": {"grace": "2s", "policy": "all", "limit": 20}, "overlap": "allow"},
    {"misfire": {"grace": "2s", "policy": "skip"}, "overlap": "skip"},
    {"misfire": {"grace": "2s", "policy": "all", "limit": 20, "window": "8s"}, "overlap": "allow"},
    {"misfire": {"grace": "2s", "window": "5s"}, "overlap": "allow"},
)
OVERLAPS: tuple[Any, ...] = (
    "queue",
    "skip",
    "replace",
    {"policy": "queue", "queue_limit": 3},
    {"policy": "allow", "max_running": 2},
)
SPECIAL: dict[int, Document] = {  # by the last digit of a job's number
    5: {"jitter": "900ms"},
    6: {"exclude": [{"cron": "*/3 * * * * *"}]},
    7: {"exclude": [{"cron": "20-39 * * * * *"}]},
}
LASTING = {1: "callback", 2: "isolated"}  # by the last two digits
ZONES = ("UTC", "Europe/Amsterdam", "Asia/Kolkata", "America/St_Johns")
SHELL = (
    'now=$(date +%s.%N); echo "ran $CRONEXEC_JOB $CRONEXEC_SLOT $CRONEXEC_ATTEMPT $CRONEXEC_EPOCH '
    '$CRONEXEC_RUN_ID - $now $now" >> {file}'
)


class JobMaker:
    """Makes documents whose work leaves evidence in `file`, or at `receiver` (a URL).

    None is due after `end`; everything follows from `rng`.
    """

    def __init__(self, *, rng: random.Random, file: str, receiver: str, end: float) -> None:
        self._rng = rng
        self._targets: dict[str, Document] = {
            "quick": {"type": "handler", "name": "quick"},
            "threaded": {"type": "handler", "name": "threaded"},
            "flaky": {"type": "handler", "name": "flaky"},
            "webhook": {"type": "webhook", "url": receiver},
            "callback": {"type": "webhook", "url": receiver, "wait": "callback"},
            "isolated": {"type": "handler", "name": "isolated", "isolation": "process"},
            "shell": {"type": "shell", "command": SHELL.replace("{file}", file)},
        }
        self._end = datetime.fromtimestamp(int(end), UTC).isoformat()

    def every_second(self, count: int) -> Iterator[Document]:
        for number in range(count):
            schedule: Document = {"every": "1s"} if number % 2 else {"cron": "* * * * * *"}
            schedule |= SPECIAL.get(number % 10, {})
            if number % 10 == 9:
                yield self._slow(f"second-{number}", schedule)
            else:
                yield self._job(f"second-{number}", schedule, LASTING.get(number % 100))

    def every_minute(self, count: int) -> Iterator[Document]:
        for number in range(count):
            zone = self._rng.choice(ZONES)
            schedules: list[Document] = [
                {"cron": "* * * * *", "timezone": zone},
                {"cron": f"{self._rng.randrange(60)} * * * * *", "timezone": zone},
                {"every": "1m", "anchor": datetime.fromtimestamp(self._rng.randrange(60), UTC).isoformat()},
            ]
            yield self._job(f"minute-{number}", schedules[number % 3])

    def changing(self, name: str) -> Document:
        """Return some definition of a job that commands change."""
        every = self._rng.choice(("1s", "2s", "3s", "7s"))
        expression = self._rng.choice(("* * * * * *", "*/2 * * * * *", "10-50/5 * * * * *"))
        schedule = self._rng.choice(({"every": every}, {"cron": expression}))
        document = self._job(name, schedule)
        return document | {"description": f"variant {self._rng.randrange(1_000_000)}"}

    def once(self, name: str, at: float) -> Document:
        """Return a job for one instant."""
        instant = datetime.fromtimestamp(int(at), UTC).isoformat()
        return {"name": name, "schedule": {"at": instant}, "target": self._targets["quick"], **ALL_SLOTS}

    def _slow(self, name: str, schedule: Document) -> Document:
        overlap = self._rng.choice(OVERLAPS)
        return {
            "name": name,
            "schedule": schedule | {"end": self._end},
            "target": {"type": "handler", "name": "slow"},
            "params": {"seconds": self._rng.choice((0.5, 1.5, 4.0))},
            "overlap": overlap,
        }

    def _job(self, name: str, schedule: Document, kind: str | None = None) -> Document:
        drawn = self._rng.choices(("quick", "threaded", "webhook", "shell", "flaky"), (50, 10, 32, 3, 5))[0]
        kind = kind or drawn
        policies = self._rng.choice(SOME_SLOTS) if self._rng.random() < 0.2 else ALL_SLOTS
        return {
            "name": name,
            "schedule": schedule | {"end": self._end},
            "target": self._targets[kind],
            **policies,
            **(self._retries() if kind == "flaky" else {}),
        }

    def _retries(self) -> Document:
        """Return what lets a job succeed at some attempt after the first."""
        retry = {"max_attempts": 4, "initial_delay": "500ms", "max_delay": "4s"}
        return {"retry": retry, "params": {"succeeds_at": self._rng.choice((2, 3))}}
