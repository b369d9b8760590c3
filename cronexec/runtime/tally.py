"""The tally: how often an instance has logged which event of warning or error level, and when last.

A log line is seen by who reads the log. A count is seen by who looks at the instance: `health()` has it, and
each heartbeat carries it to the database, where `doctor` finds it from anywhere. So nothing that was worth a
warning is silent where nobody collects logs (invariant I7).

Names of events are constants, so there are few. Should that ever be wrong, names beyond `MOST_NAMES` are
counted together, and a heartbeat carries the `MOST_TOLD` most frequent.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

from cronexec.ports import EventCount

MOST_NAMES = 200
MOST_TOLD = 50
OTHERS = "others"


class Tally:
    """Belongs to an instance, from its start on. Thread-safe. `now` is the database's clock."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._counts: dict[str, EventCount] = {}

    def count(self, event: str) -> None:
        """Take note of an event that is being logged."""
        at = self._now()
        with self._lock:
            if event not in self._counts and len(self._counts) >= MOST_NAMES:
                event = OTHERS
            known = self._counts.get(event, EventCount(event=event, count=0, last_at=at))
            self._counts[event] = replace(known, count=known.count + 1, last_at=at)

    def counts(self) -> Mapping[str, int]:
        """Return how often each event was logged."""
        with self._lock:
            return {event: counted.count for event, counted in self._counts.items()}

    def most_frequent(self) -> tuple[EventCount, ...]:
        """Return what a heartbeat carries, the most frequent first."""
        with self._lock:
            counted = list(self._counts.values())
        return tuple(sorted(counted, key=lambda each: (-each.count, each.event))[:MOST_TOLD])
