"""Which slots are marked as those of a night on which the clocks change, and how."""

from datetime import datetime
from typing import Any

import pytest

from cronexec.domain.schedule import Schedule

AMSTERDAM, APIA = "Europe/Amsterdam", "Pacific/Apia"
SPRING, AUTUMN = "2026-03-28T12:00Z", "2026-10-24T12:00Z"

# (zone, cron, dst, after, what is marked of the next four slots: its index, kind and local time)
MARKED: list[tuple[str, str, dict[str, str], str, list[tuple[int, str, str]]]] = [
    (AMSTERDAM, "30 2 * * *", {}, SPRING, [(0, "gap", "02:30")]),
    (AMSTERDAM, "15,45 30 2 * * *", {}, SPRING, [(0, "gap", "02:30:15")]),
    (AMSTERDAM, "0 3 * * *", {}, SPRING, []),
    (AMSTERDAM, "30 2 * * *", {"gap": "skip"}, SPRING, []),
    (AMSTERDAM, "0 */3 * * *", {}, SPRING, []),
    (AMSTERDAM, "30 2 * * *", {}, AUTUMN, [(0, "first_of_two", "02:30")]),
    (AMSTERDAM, "30 2 * * *", {"fold": "second"}, AUTUMN, [(0, "second_of_two", "02:30")]),
    (AMSTERDAM, "30 2 * * *", {"fold": "both"}, AUTUMN,
     [(0, "first_of_two", "02:30"), (1, "second_of_two", "02:30")]),
    (AMSTERDAM, "0 * * * *", {}, "2026-10-24T23:00Z",
     [(0, "first_of_two", "02:00"), (1, "second_of_two", "02:00")]),
    (AMSTERDAM, "0 1,3 * * *", {}, AUTUMN, []),
    (APIA, "0 9 * * *", {}, "2011-12-29T22:00Z", [(0, "gap", "2011-12-30 09:00")]),
    ("UTC", "30 2 * * *", {}, SPRING, []),
]  # fmt: skip


@pytest.mark.parametrize(("timezone", "cron", "dst", "after", "expected"), MARKED)
def test_slots_of_nights_on_which_the_clocks_change_are_marked(
    timezone: str, cron: str, dst: dict[str, Any], after: str, expected: list[tuple[int, str, str]]
) -> None:
    schedule = Schedule.from_document({"cron": cron, "timezone": timezone, "dst": dst}, name="job")
    found, slot = [], schedule.next_after(datetime.fromisoformat(after))
    for index in range(4):
        assert slot is not None
        if (changed := schedule.clock_change(slot)) is not None:
            found.append((index, changed.change.value, changed.local))
        slot = schedule.next_after(slot)
    assert found == expected


def test_other_schedules_know_no_clock() -> None:
    gap = datetime.fromisoformat("2026-03-29T01:00Z")
    assert Schedule.from_document({"every": "1h"}, name="job").clock_change(gap) is None
    assert Schedule.from_document({"at": "2026-03-29T01:00Z"}, name="job").clock_change(gap) is None
