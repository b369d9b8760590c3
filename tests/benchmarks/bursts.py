"""Jobs whose cron expressions differ and yet fire at the same seconds.

Every expression names the hours around now on its zone's wall clock, and three more hours of the day, which
make it different from the others; minutes are all, seconds every `interval` seconds.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import combinations, cycle, islice
from typing import Any
from zoneinfo import ZoneInfo

ZONES = ("UTC", "Europe/Amsterdam", "America/New_York", "Asia/Tokyo", "Australia/Sydney")
HOURS_AHEAD = 3
OTHER_HOURS = 3
EXPRESSIONS = 300  # of each zone
NOOP = {"type": "handler", "name": "noop"}


def bursting_jobs(count: int, *, interval: int, now: datetime) -> list[dict[str, Any]]:
    """Return jobs that are all due at every second that is a multiple of `interval`, until hours from now."""
    crons = {zone: cycle(islice(_expressions(zone, interval, now), EXPRESSIONS)) for zone in ZONES}
    return [
        {
            "name": f"burst-{number}",
            "schedule": {"cron": next(crons[zone]), "timezone": zone},
            "target": NOOP,
        }
        for number, zone in zip(range(count), cycle(ZONES), strict=False)
    ]


def count_expressions(jobs: list[dict[str, Any]]) -> int:
    return len({job["schedule"]["cron"] for job in jobs})


def next_multiple(after: datetime, seconds: int) -> datetime:
    """Return the first instant from `after` on whose second is a multiple of `seconds`."""
    return datetime.fromtimestamp(-(-after.timestamp() // seconds) * seconds, UTC)


def _expressions(zone: str, interval: int, now: datetime) -> Iterator[str]:
    local = [now.astimezone(ZoneInfo(zone)) + timedelta(hours=ahead) for ahead in range(HOURS_AHEAD)]
    around = {instant.hour for instant in local}
    seconds = ",".join(str(second) for second in range(0, 60, interval))
    others = [hour for hour in range(24) if hour not in around]
    for chosen in combinations(others, OTHER_HOURS):
        hours = ",".join(str(hour) for hour in sorted(around | set(chosen)))
        yield f"{seconds} * {hours} * * *"
