"""What planning costs next to croniter.

For each shape and zone the same slots are computed three ways: by croniter's get_next on a naive datetime
(the yardstick), by `Schedule.slots`, and by repeated `Schedule.next_after`. Best of five.
"""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from timeit import default_timer

from croniter import croniter
from figures import Figure
from setting import Setting

from cronexec.domain.cron import CronExpression
from cronexec.domain.schedule import Schedule
from cronexec.domain.zone import Zone

SHAPES = {
    "every minute": "* * * * *",
    "every 5 minutes": "*/5 * * * *",
    "every second": "* * * * * *",
    "hourly": "17 * * * *",
    "daily": "30 3 * * *",
    "weekdays": "0 9 * * mon-fri",
    "office hours": "*/10 8-17 * * 1-5",
    "weekly": "0 4 * * sun",
    "monthly": "0 0 1 * *",
    "last of month": "0 0 L * *",
    "day or weekday": "0 9 1,15 * mon",
    "second friday": "15 10 * * fri#2",
    "leap day": "0 0 29 2 *",
}
ZONES = ["UTC", "Europe/Amsterdam", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]
START = datetime(2026, 3, 1, tzinfo=UTC)
END = datetime(2400, 1, 1, tzinfo=UTC)
SLOTS, RARE_SLOTS, ROUNDS = 500, 90, 5


def best_times(*actions: Callable[[], object]) -> list[float]:
    """Return the best time of each action in seconds; they take turns, so that other load hits all alike."""
    best = [float("inf")] * len(actions)
    for _ in range(ROUNDS):
        for index, action in enumerate(actions):
            started = default_timer()
            action()
            best[index] = min(best[index], default_timer() - started)
    return best


def step_croniter(cron: str, slots: int) -> None:
    seconds_first = len(cron.split()) == 6
    naive = START.replace(tzinfo=None)
    matches = croniter(cron, naive, implement_cron_bug=True, second_at_beginning=seconds_first)
    for _ in range(slots):
        matches.get_next(datetime)


def step_slots(schedule: Schedule, slots: int) -> None:
    assert sum(1 for _ in islice(schedule.slots(START, END), slots)) == slots


def step_next_after(schedule: Schedule, slots: int) -> None:
    at = START
    for _ in range(slots):
        at = schedule.next_after(at) or END


async def measure(_: Setting) -> AsyncIterator[Figure]:
    """Yield the ratios; no servers are needed, and nothing else runs meanwhile."""
    planned, stepped = zip(*(ratios(cron, zone) for cron in SHAPES.values() for zone in ZONES), strict=True)
    note = f"worst of {len(SHAPES)} shapes in {len(ZONES)} zones; croniter's get_next is 1"
    for name, worst in (("slots of a range", max(planned)), ("next slot", max(stepped))):
        yield Figure(measurement="planning", name=name, value=worst, unit="x", target="≤ 1.5", note=note)
    crons = [f"{number % 60} {number // 60} * * *" for number in range(1000)]
    reading, zones = best_times(
        lambda: [CronExpression(cron) for cron in crons],
        lambda: [Zone(zone).period_at(0) for zone in ZONES],
    )
    for name, seconds in (
        ("reading a new expression", reading / len(crons)),
        ("400 days of a new zone", zones / len(ZONES)),
    ):
        yield Figure(measurement="planning", name=name, value=seconds * 1e6, unit="us")


def ratios(cron: str, zone: str) -> tuple[float, float]:
    """Return what `slots` and `next_after` cost, as multiples of croniter."""
    slots = RARE_SLOTS if cron == SHAPES["leap day"] else SLOTS
    schedule = Schedule.from_document({"cron": cron, "timezone": zone}, name="job")
    yardstick, planned, stepped = best_times(
        partial(step_croniter, cron, slots),
        partial(step_slots, schedule, slots),
        partial(step_next_after, schedule, slots),
    )
    return planned / yardstick, stepped / yardstick
