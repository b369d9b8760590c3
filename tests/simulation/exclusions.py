"""What the schedules of simulated jobs exclude, read anew from their documents.

Only the two forms that `scenario` draws are known: every so many seconds, and a stretch of time.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any


def excluded_by(schedule: Mapping[str, Any], slot: datetime) -> str | None:
    """Return the first entry of `exclude` that covers `slot`, as it is told; None where none does."""
    for entry in schedule.get("exclude", ()):
        told = entry["cron"] if isinstance(entry, Mapping) else entry
        if _covers(entry, slot):
            return str(told)
    return None


def _covers(entry: Any, slot: datetime) -> bool:
    if isinstance(entry, Mapping):
        step, *_ = entry["cron"].removeprefix("*/").split()
        return slot.second % int(step) == 0
    first, _, last = entry.partition("/")
    return datetime.fromisoformat(first) <= slot <= datetime.fromisoformat(last or first)
