"""The evidence that runs leave outside: one line each, appended by whoever did the work.

```
ran   JOB SLOT ATTEMPT EPOCH RUN INSTANCE BEGAN_AT ENDED_AT     what takes no time
began JOB SLOT ATTEMPT EPOCH RUN INSTANCE BEGAN_AT              what takes some
ended JOB SLOT ATTEMPT EPOCH RUN INSTANCE ENDED_AT
```

SLOT is ISO 8601, UTC; instants are seconds since 1970 by the machine's clock; INSTANCE is `-` where the work
was not done by an instance (a webhook's receiver). A line is one write to a file opened for appending, so
lines of many processes do not mix, and a process that is killed leaves whole lines.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cache

NOBODY = "-"


@dataclass(slots=True)
class Work:
    """That the work of one attempt was begun. Slot and instants in seconds since 1970."""

    job: str
    slot: int
    attempt: int
    epoch: int
    run: str
    instance: str
    began_at: float
    ended_at: float | None = None


def ran(identity: str, began_at: float, ended_at: float) -> bytes:
    """Return the line of work that is over; `identity` is JOB SLOT ATTEMPT EPOCH RUN INSTANCE."""
    return f"ran {identity} {began_at:.4f} {ended_at:.4f}\n".encode()


def mark(what: str, identity: str, at: float) -> bytes:
    """Return the line of a beginning (`began`) or an end (`ended`)."""
    return f"{what} {identity} {at:.4f}\n".encode()


def read(lines: Iterable[str]) -> list[Work]:
    """Return the work in the order of its beginnings' lines. Raises ValueError for a line that is none."""
    found: list[Work] = []
    under_way: dict[tuple[str, str, str, str], Work] = {}
    for line in lines:
        what, job, slot, attempt, epoch, run, instance, *instants = line.split()
        key = (run, attempt, epoch, instance)
        if what == "ended":
            if (begun := under_way.pop(key, None)) is not None:
                begun.ended_at = float(instants[0])
            continue
        work = Work(job, seconds(slot), int(attempt), int(epoch), run, instance, float(instants[0]))
        if what == "began":
            under_way[key] = work
        else:
            work.ended_at = float(instants[1])
        found.append(work)
    return found


@cache
def seconds(slot: str) -> int:
    """Return the seconds since 1970 of a slot's text."""
    return int(datetime.fromisoformat(slot).timestamp())
