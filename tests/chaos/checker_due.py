"""Which slots a job document asks for, computed without cronexec: cron expressions by cronsim.

Slots are whole seconds since 1970. Only what chaos runs use is understood: `cron` with a time zone, `every`
with an anchor, `at`, `start` and `end`, both included, and `exclude` with cron expressions of six fields.
`jitter` changes no slot. Anything else is a ValueError.
"""

import re
from bisect import bisect_right
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
KNOWN = {"cron", "timezone", "every", "anchor", "at", "start", "end", "exclude", "jitter"}


def due(document: Mapping[str, Any], after: float, until: float) -> list[int]:
    """Return the slots of the document's schedule in (after, until], ascending."""
    schedule = document["schedule"]
    if unknown := schedule.keys() - KNOWN:
        raise ValueError(f"the checker does not know the schedule's {min(unknown)}")
    first = max(after, instant(schedule["start"]) - 1) if "start" in schedule else after
    last = min(until, instant(schedule["end"])) if "end" in schedule else until
    if first >= last:
        return []
    if "at" in schedule:
        slot = int(instant(schedule["at"]))
        return [slot] if first < slot <= last else []
    if "every" in schedule:
        return _every(length(schedule["every"]), int(instant(schedule.get("anchor", 0))), first, last)
    return _cron(schedule["cron"], schedule.get("timezone", "UTC"), first, last)


def excluded(document: Mapping[str, Any], slot: int) -> bool:
    """Whether the document's schedule has `slot` and does not want it run."""
    schedule = document["schedule"]
    zone = schedule.get("timezone", "UTC")
    exclusions = map(_seconds, schedule.get("exclude", ()))
    return any(slot in _cron_in_hour(each, zone, slot // 3600) for each in exclusions)


def _seconds(exclusion: Mapping[str, str]) -> str:
    if exclusion.keys() != {"cron"} or len(exclusion["cron"].split()) != 6:
        raise ValueError(f"no exclusion that the checker knows: {exclusion}")
    return exclusion["cron"]


def _every(every: int, anchor: int, after: float, until: float) -> list[int]:
    first = int(after // 1) + 1
    first += (anchor - first) % every
    return list(range(first, int(until // 1) + 1, every))


def _cron(expression: str, zone: str, after: float, until: float) -> list[int]:
    """Return a part of the hours that it touches, which all jobs with the expression share."""
    slots: list[int] = []
    for hour in range(int(after // 3600), int(until // 3600) + 1):
        slots += _cron_in_hour(expression, zone, hour)
    return slots[bisect_right(slots, after) : bisect_right(slots, until)]


@cache
def _cron_in_hour(expression: str, zone: str, hour: int) -> list[int]:
    tz = UTC if zone == "UTC" else ZoneInfo(zone)
    end = (hour + 1) * 3600
    slots = []
    for slot in CronSim(expression, datetime.fromtimestamp(hour * 3600 - 1, tz)):
        if (seconds := int(slot.timestamp())) >= end:
            return slots
        slots.append(seconds)
    return slots


def length(given: str | float) -> int:
    """Return whole seconds: of a number, or of a text such as `1h30m`."""
    if not isinstance(given, str):
        return int(given)
    parts = re.findall(r"(\d+)([smhd])", given)
    if not parts or "".join(number + unit for number, unit in parts) != given:
        raise ValueError(f"no length that the checker knows: {given!r}")
    return sum(int(number) * UNITS[unit] for number, unit in parts)


def instant(given: str | float | datetime) -> float:
    """Return the seconds since 1970 of an instant with an offset, or of a number of seconds."""
    if isinstance(given, datetime):
        return given.timestamp()
    if isinstance(given, str):
        return datetime.fromisoformat(given).timestamp()
    return given
