"""The clock follows the database's, by its best recent reading."""

import time
from datetime import UTC, datetime, timedelta

from cronexec.adapters.clock import KEPT_FOR, SystemClock

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
SLACK = timedelta(milliseconds=200)  # the test's own time
MS = timedelta(milliseconds=1)


def test_until_the_first_reading_it_is_this_machines() -> None:
    clock = SystemClock()
    assert abs(clock.offset) < SLACK
    assert abs(clock.now() - datetime.now(UTC)) < SLACK


def test_a_reading_is_true_at_the_middle_of_its_round_trip() -> None:
    clock = SystemClock()
    answered = time.monotonic()
    clock.measured(NOON, answered - 60, answered)
    assert timedelta(0) <= clock.now() - (NOON + timedelta(seconds=30)) < SLACK
    assert abs(clock.offset - (clock.now() - datetime.now(UTC))) < SLACK


def test_the_reading_with_the_shortest_round_trip_counts() -> None:
    clock = SystemClock()
    at = time.monotonic()
    clock.measured(NOON, at - 0.002, at)
    clock.measured(NOON + timedelta(seconds=9), at - 4, at)
    assert clock.now() - NOON < SLACK


def test_a_reading_that_is_old_gives_way_to_a_worse_one() -> None:
    clock = SystemClock()
    at = time.monotonic()
    clock.measured(NOON, at - KEPT_FOR - 1.002, at - KEPT_FOR - 1)
    clock.measured(NOON, at - 1, at)
    assert abs(clock.now() - (NOON + timedelta(seconds=0.5))) < SLACK


def test_it_tells_whole_milliseconds_in_utc() -> None:
    clock = SystemClock()
    at = time.monotonic()
    clock.measured(NOON + timedelta(microseconds=1), at, at)
    now = clock.now()
    assert now.tzinfo is UTC
    assert (now - NOON) % MS == timedelta(0)
