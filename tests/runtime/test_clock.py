"""The clock follows the database's, by its best recent reading."""

import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

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
    answered = clock.monotonic()
    clock.measured(NOON, answered - 60, answered)
    assert timedelta(0) <= clock.now() - (NOON + timedelta(seconds=30)) < SLACK
    assert abs(clock.offset - (clock.now() - datetime.now(UTC))) < SLACK


def test_the_reading_with_the_shortest_round_trip_counts() -> None:
    clock = SystemClock()
    at = clock.monotonic()
    clock.measured(NOON, at - 0.002, at)
    clock.measured(NOON - timedelta(seconds=1), at - 4, at)
    assert clock.now() - NOON < SLACK


def test_a_reading_that_is_old_gives_way_to_a_worse_one() -> None:
    clock = SystemClock()
    at = clock.monotonic()
    clock.measured(NOON, at - KEPT_FOR - 1.002, at - KEPT_FOR - 1)
    clock.measured(NOON, at - 1, at)
    assert abs(clock.now() - (NOON + timedelta(seconds=0.5))) < SLACK


@pytest.mark.parametrize("step", [timedelta(seconds=300), timedelta(seconds=-3), timedelta(seconds=0.1)])
def test_a_reading_that_contradicts_the_older_ones_counts_at_once(step: timedelta) -> None:
    clock = SystemClock()
    at = clock.monotonic()
    for _ in range(3):
        clock.measured(NOON, at - 0.001, at)
    clock.measured(NOON + step, at - 0.030, at)
    after_the_step = NOON + step + timedelta(seconds=0.015)
    assert timedelta(0) <= clock.now() + MS - after_the_step < SLACK


def test_readings_that_may_both_be_right_are_kept() -> None:
    clock = SystemClock()
    at = clock.monotonic()
    clock.measured(NOON, at, at)
    clock.measured(NOON - 515 * MS, at - 1, at)
    assert timedelta(0) <= clock.now() + MS - NOON < SLACK


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a clock that counts a suspension")
def test_a_suspension_of_the_machine_counts() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= SystemClock().monotonic() <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_it_tells_whole_milliseconds_in_utc() -> None:
    clock = SystemClock()
    at = clock.monotonic()
    clock.measured(NOON + timedelta(microseconds=1), at, at)
    now = clock.now()
    assert now.tzinfo is UTC
    assert (now - NOON) % MS == timedelta(0)
