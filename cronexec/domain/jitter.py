"""Jitter: how long after its slot a run may start, so that jobs with one slot do not all start at once.

It is a hash of the job's name and the slot, even over [0, jitter): the same on every instance and after a
failover. The slot stays nominal, only the start waits.

No jitter may be longer than what is between two slots, or a run could start after the next one.
"""

from datetime import timedelta
from hashlib import blake2b
from typing import Any

from cronexec.domain.duration import format_duration, parse_duration
from cronexec.domain.instants import SECOND
from cronexec.domain.recurrence import Recurrence
from cronexec.domain.schedule_error import ScheduleError

_MILLISECOND = timedelta(milliseconds=1)
_DAY = timedelta(days=1)
_DRAWN_FROM = 2**64


def read_jitter(given: Any, recurrence: Recurrence | None) -> timedelta:
    """Return the length given; raises ScheduleError (jitter) for none, a day or more, or more than a gap."""
    try:
        jitter = parse_duration(given)
    except ValueError as error:
        raise ScheduleError("jitter", str(error)) from None
    if jitter >= _DAY:
        raise ScheduleError("jitter", f"jitter {format_duration(jitter)}: give less than a day.")
    gap = None if recurrence is None else recurrence.shortest_gap()
    if gap is not None and jitter > gap * SECOND:
        between = format_duration(gap * SECOND)
        raise ScheduleError(
            "jitter",
            f"jitter {format_duration(jitter)} is longer than the {between} between two slots; a run could "
            f"start after the next; give at most {between}.",
        )
    return jitter


def draw_delay(jitter: timedelta, job: str, slot: int) -> timedelta:
    """Return how long the run of `job` for `slot` (seconds since the epoch) waits, in whole milliseconds."""
    drawn = int.from_bytes(blake2b(f"{job}\n{slot}".encode(), digest_size=8).digest())
    return drawn * (jitter // _MILLISECOND) // _DRAWN_FROM * _MILLISECOND
