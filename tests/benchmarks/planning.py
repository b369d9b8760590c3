"""What planning costs next to croniter: `python tests/benchmarks/planning.py`.

For each shape and zone the same slots are computed three ways: by croniter's get_next on a naive datetime
(the yardstick), by `Schedule.slots`, and by repeated `Schedule.next_after`. Best of five, in us per slot.
"""

# ruff: noqa: T201  a benchmark prints

import os
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from itertools import islice
from timeit import default_timer

from croniter import croniter

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


def measure(*actions: Callable[[], object]) -> list[float]:
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


def print_ratios() -> None:
    print(f"{'shape':16}{'zone':22}{'croniter':>10}{'slots':>8}{'ratio':>7}{'next':>8}{'ratio':>7}")
    worst = 0.0
    for shape, cron in SHAPES.items():
        slots = RARE_SLOTS if shape == "leap day" else SLOTS
        for zone in ZONES:
            schedule = Schedule.from_document({"cron": cron, "timezone": zone}, name="job")
            times = measure(
                partial(step_croniter, cron, slots),
                partial(step_slots, schedule, slots),
                partial(step_next_after, schedule, slots),
            )
            yardstick, planned, stepped = (seconds / slots * 1e6 for seconds in times)
            worst = max(worst, planned / yardstick, stepped / yardstick)
            print(
                f"{shape:16}{zone:22}{yardstick:10.1f}{planned:8.1f}{planned / yardstick:7.2f}"
                f"{stepped:8.1f}{stepped / yardstick:7.2f}"
            )
    print(f"worst ratio {worst:.2f} (at most 1.5 wanted)")


def print_first_costs() -> None:
    crons = [f"{number % 60} {number // 60} * * *" for number in range(1000)]
    reading, zones = measure(
        lambda: [CronExpression(cron) for cron in crons],
        lambda: [Zone(zone).period_at(0) for zone in ZONES],
    )
    print(f"reading a new expression {reading / len(crons) * 1e6:.0f} us", end="; ")
    print(f"400 days of a new zone {zones / len(ZONES) * 1e6:.0f} us")


if __name__ == "__main__":
    print(f"Python {platform.python_version()}, croniter {version('croniter')}, tzdata {version('tzdata')}")
    print(f"us per slot; load {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores")
    print_ratios()
    print_first_costs()
