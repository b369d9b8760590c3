"""What happened in one history: who did or met what, when, in order; and the first thing that must not have.

Lines are kept as they come and only made text when somebody reads them.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from enum import Enum
from typing import Any

LONGEST_LIST = 6


class ViolationError(AssertionError):
    """An invariant does not hold. `rule` is its number (I1 to I8)."""

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(f"{rule}: {what}")
        self.rule = rule
        self.what = what


class History:
    """The lines, and the first violation. `over` is called at the violation: nothing after it counts."""

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._lines: list[tuple[float, str, str, Mapping[str, Any]]] = []
        self.violation: ViolationError | None = None
        self.over: Callable[[], None] = lambda: None

    def add(self, who: str, what: str, **facts: Any) -> None:
        self._lines.append((self._time(), who, what, facts))

    def violate(self, rule: str, what: str) -> None:
        """Take note that an invariant does not hold."""
        if self.violation is None:
            self.violation = ViolationError(rule, what)
            self.add("!", f"{rule} {what}")
            self.over()

    def __len__(self) -> int:
        return len(self._lines)

    def lines(self) -> Iterator[str]:
        for time, who, what, facts in self._lines:
            told = " ".join(f"{key}={_text(value)}" for key, value in facts.items() if value is not None)
            yield f"{time:9.4f} {who:<4} {what} {told}".rstrip()

    def digest(self) -> str:
        return hashlib.sha256("\n".join(self.lines()).encode()).hexdigest()[:16]


def _text(value: Any) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, datetime):
        return value.strftime("%H:%M:%S.%f")[:-3]
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list | tuple):
        shown = ",".join(_text(each) for each in value[:LONGEST_LIST])
        return f"[{shown}{',…' if len(value) > LONGEST_LIST else ''}]"
    return str(value)


CRASHES = {
    "instance.failed",
    "service.crashed",
    "candidate.crashed",
    "command.crashed",
    "run.start_crashed",
    "run.target_crashed",
    "run.outcome_unwritable",
    "run.version_missing",
    "run.already_claimed",
}


class InstanceLog:
    """A `Log` that writes into the history; what must never be said is a violation."""

    def __init__(self, history: History, who: str) -> None:
        self._history = history
        self._who = who

    def _say(self, event: str, **fields: Any) -> None:
        self._history.add(self._who, event, **fields)
        if event in CRASHES:
            error = str(fields.pop("error", "")) or repr(fields.pop("exc_info", ""))
            self._history.violate("crash", f"{self._who} said {event} {fields}: {error.splitlines()[-1]}")

    info = warning = error = _say

    def debug(self, event: str, **fields: Any) -> None:
        """Not worth a line."""

    def exception(self, event: str, **fields: Any) -> None:
        import traceback  # noqa: PLC0415  only when something has crashed

        self._say(event, error=traceback.format_exc(limit=-4), **fields)

    def bind(self, **_: Any) -> "InstanceLog":
        return self
