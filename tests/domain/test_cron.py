"""Cron expressions: their fields, what is refused, and the table of times against croniter itself."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from cronexec.domain.cron import CronExpression, canonical_cron, parse_cron
from cronexec.domain.schedule_error import ScheduleError


def matches(text: str, after: str, count: int) -> list[str]:
    expression = CronExpression(text)
    local = int(datetime.fromisoformat(after).replace(tzinfo=UTC).timestamp())
    found = []
    for _ in range(count):
        following = expression.next_after(local)
        assert following is not None
        local = following
        found.append(datetime.fromtimestamp(local, UTC).strftime("%Y-%m-%d %H:%M:%S"))
    return found


FIELDS = [
    ("5 4 * * *", ["2026-01-01 04:05:00", "2026-01-02 04:05:00"]),
    ("10 5 4 * * *", ["2026-01-01 04:05:10", "2026-01-02 04:05:10"]),
    ("*/30 59 23 * * *", ["2026-01-01 23:59:00", "2026-01-01 23:59:30", "2026-01-02 23:59:00"]),
    (
        "0 0 * * MON-wed",
        ["2026-01-05 00:00:00", "2026-01-06 00:00:00", "2026-01-07 00:00:00", "2026-01-12 00:00:00"],
    ),
    ("0 0 1 feb,Apr *", ["2026-02-01 00:00:00", "2026-04-01 00:00:00", "2027-02-01 00:00:00"]),
    ("0 0 L * *", ["2026-01-31 00:00:00", "2026-02-28 00:00:00", "2026-03-31 00:00:00"]),
    ("0 0 29 2 *", ["2028-02-29 00:00:00", "2032-02-29 00:00:00"]),
    ("0 0 * * fri#2", ["2026-01-09 00:00:00", "2026-02-13 00:00:00"]),
    ("0 0 * * L5", ["2026-01-30 00:00:00", "2026-02-27 00:00:00"]),
    ("0 0 ? * 7", ["2026-01-04 00:00:00", "2026-01-11 00:00:00"]),
    ("0 22-2/2 * * *", ["2026-01-01 02:00:00", "2026-01-01 22:00:00", "2026-01-02 00:00:00"]),
    ("3-3 3-3 * * *", ["2026-01-01 03:03:00", "2026-01-02 03:03:00"]),
    ("0 05-5 * * *", ["2026-01-01 05:00:00", "2026-01-02 05:00:00"]),
    ("0 00-0/2 * * *", ["2026-01-02 00:00:00", "2026-01-03 00:00:00"]),
    ("0 0 31-L * *", ["2026-01-31 00:00:00", "2026-03-31 00:00:00"]),
    ("0 0 1 jan-1 *", ["2027-01-01 00:00:00", "2028-01-01 00:00:00"]),
    ("0 0 * * 0-7", ["2026-01-02 00:00:00", "2026-01-03 00:00:00", "2026-01-04 00:00:00"]),
    ("0 12 * * 1-Mon", ["2026-01-05 12:00:00", "2026-01-12 12:00:00"]),
    (
        "0 12 * * mon-mon",
        ["2026-01-05 12:00:00", "2026-01-12 12:00:00"],
    ),
    # Day of month and day of week: either, as in Debian's cron, unless one of them begins with a star
    (
        "0 0 13 * fri",
        ["2026-01-02 00:00:00", "2026-01-09 00:00:00", "2026-01-13 00:00:00", "2026-01-16 00:00:00"],
    ),
    ("0 0 */10 * fri", ["2026-05-01 00:00:00", "2026-07-31 00:00:00", "2026-08-21 00:00:00"]),
    ("0 0 1-31 * fri", ["2026-01-02 00:00:00", "2026-01-03 00:00:00"]),
    ("0 0 31 2 fri", ["2026-02-06 00:00:00", "2026-02-13 00:00:00"]),
    ("@hourly", ["2026-01-01 01:00:00", "2026-01-01 02:00:00"]),
    ("@daily", ["2026-01-02 00:00:00", "2026-01-03 00:00:00"]),
    ("@midnight", ["2026-01-02 00:00:00", "2026-01-03 00:00:00"]),
    ("@weekly", ["2026-01-04 00:00:00", "2026-01-11 00:00:00"]),
    ("@MONTHLY", ["2026-02-01 00:00:00", "2026-03-01 00:00:00"]),
    ("@yearly", ["2027-01-01 00:00:00", "2028-01-01 00:00:00"]),
    ("@annually", ["2027-01-01 00:00:00", "2028-01-01 00:00:00"]),
]


@pytest.mark.parametrize(("text", "expected"), FIELDS)
def test_an_expression_matches_the_wall_clock(text: str, expected: list[str]) -> None:
    assert matches(text, "2026-01-01T00:00:00", len(expected)) == expected


REFUSED = [
    ("", "has 0 fields"),
    ("* * * *", "write 5 (minute, hour, day of month, month, day of week), or 6 with the seconds first"),
    ("0 0 0 1 1 * 2026", "has 7 fields"),
    ("61 25 * * *", "minute '61' (accepted: 0-59; lists, ranges and steps of them); hour '25'"),
    ("0 0 0 * *", "day of month '0'"),
    ("0 0 * 13 *", "month '13' (accepted: 1-12 or jan-dec"),
    ("0 0 * * fry", "day of week 'fry'"),
    ("*/0 * * * *", "minute '*/0'"),
    ("1,,2 * * * *", "minute '1,,2'"),
    ("0 0 30 2 *", "never fires"),
    ("0 0 31 4,6,9,11 *", "never fires"),
    ("0 0 30 2 */2", "never fires"),
    ("@reboot", "Run it from the application's own start"),
    ("@dayly", "did you mean @daily?"),
    ("@noon-ish", "known are @hourly"),
    ("H 3 * * *", "H is for a job's own time"),
    ("0 h(1-5) * * *", "H is for a job's own time"),
    ("R/15 * * * *", "R, another time in every process, is not available"),
    ("0 0 15W * *", "W (the nearest weekday) is not available"),
    ("0 0 LW * *", "W (the nearest weekday) is not available"),
    ("0 0 1 * mon#1", "write two jobs"),
    ("0 0 * * *,mon#1", "leave * out"),
    ("1-mon 0 * * *", "minute '1-mon'"),
    ("0 0 1 * L5", "write two jobs"),
    ("0 0 * * mon#1,tue", "not mixed with others"),
]


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_what_cannot_be_computed_is_refused_with_the_reason(text: str, said: str) -> None:
    with pytest.raises(ScheduleError) as refused:
        parse_cron(text)
    assert refused.value.field == "cron"
    assert said in str(refused.value)


@given(st.text(alphabet="0123456789*/-,#?LWHRlwhr@ monfrjau", max_size=24))
@settings(max_examples=400, derandomize=True, deadline=None)
def test_no_text_whatever_raises_anything_but_a_schedule_error(text: str) -> None:
    expression = None
    with suppress(ScheduleError):
        expression = CronExpression(canonical_cron(text))
    assert expression is None or expression.next_after(0) is not None


SHAPES = [
    "* * * * *", "*/7 * * * *", "0 3 * * *", "5,10-20/3 1,13 * * *", "0 0 1,15 * *", "0 9 1,15 * mon",
    "30 4 */3 * 1-5", "0 0 L * *", "15 10 * * fri#3", "0 0 29 2 *", "0 0 L 2 fri", "45 23 31 * *",
    "0 12 * 6-8 sun", "* 5 * * L2",
]  # fmt: skip


@given(st.sampled_from(SHAPES), st.integers(0, 4_000_000_000))
@settings(max_examples=200, derandomize=True, deadline=None)
def test_the_table_of_times_gives_what_croniter_gives(text: str, local: int) -> None:
    expression = CronExpression(text)
    ours = [local]
    for _ in range(20):
        ours.append(expression.next_after(ours[-1]) or 0)
    assert ours[1:] == [int(found) for found in islice(croniter(text, local, implement_cron_bug=True), 20)]


def test_one_expression_serves_many_threads() -> None:
    expression = CronExpression("30 4 1,15 * fri")
    starts = [number * 7_654_321 for number in range(400)]
    alone = [CronExpression("30 4 1,15 * fri").next_after(start) for start in starts]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(expression.next_after, starts)) == alone
