"""The pace of catch-up: how many missed runs may start now.

After an outage every job may have something to catch up, and all of them ask the same few services. So
catch-up runs start in small helpings with jitter, never more than `rate` in any second on one instance; live
slots do not wait for them.

A token bucket: what it holds at most and what flows into it in a second are `rate` together. The next holder
has a bucket of its own: in the second of a handover it may add what that holds, a fifth of the rate.
"""

import random
from collections.abc import Callable

HELPINGS = 10  # a second, about


class Pace:
    """`rate`: the most starts in a second. `monotonic`: seconds."""

    def __init__(self, rate: int, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._most = max(1.0, rate / 5)
        self._flow = max(rate - self._most, rate / 2)
        self._helping = max(1.0, rate / HELPINGS)
        self._tokens = 0.0
        self._filled_at = monotonic()
        self._next_at = self._filled_at

    def allowed(self) -> int:
        """Return how many may start now."""
        now = self._monotonic()
        self._tokens = min(self._most, self._tokens + (now - self._filled_at) * self._flow)
        self._filled_at = now
        return int(self._tokens) if now >= self._next_at else 0

    def spend(self, starts: int) -> None:
        """Take note that so many start."""
        if starts:
            self._tokens -= starts
            self._next_at = self._monotonic() + self._helping / self._flow * random.uniform(0.5, 1.5)  # noqa: S311  jitter

    def pause(self) -> float:
        """Return the seconds until another may start, 0 if one may now."""
        if self.allowed():
            return 0.0
        until_token = max(0.0, 1.0 - self._tokens) / self._flow
        return max(until_token, self._next_at - self._monotonic())
