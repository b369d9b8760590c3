"""Retries: which ends of an attempt are followed by another, and after how long."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_jobs import NOON

from cronexec.domain.follow_up import MOST_REPEATS, next_attempt_at, repeats_abandoned, stays_undecided
from cronexec.domain.job import JobDocument
from cronexec.domain.run import Outcome, RunState

SECOND = timedelta(seconds=1)
FAILED = Outcome(state=RunState.FAILED)
TIMED_OUT = Outcome(state=RunState.TIMED_OUT)
ABANDONED = Outcome(state=RunState.ABANDONED)


def job(**fields: Any) -> JobDocument:
    return JobDocument.parse(
        {"name": "a", "schedule": {"every": "1m"}, "target": {"type": "handler", "name": "a"}} | fields
    )


def delay(document: JobDocument, outcome: Outcome, *, attempt: int = 1, chance: float = 0.5) -> float | None:
    at = next_attempt_at(document, attempt=attempt, outcome=outcome, ended_at=NOON, chance=chance)
    return None if at is None else (at - NOON).total_seconds()


def test_without_a_policy_nothing_is_retried() -> None:
    assert delay(job(), FAILED) is None


@pytest.mark.parametrize(("attempt", "longest"), [(1, 4), (2, 8), (3, 16), (4, 20), (60, 20)])
def test_delays_double_up_to_the_longest_with_full_jitter(attempt: int, longest: float) -> None:
    document = job(retry={"max_attempts": 100, "initial_delay": "4s", "max_delay": "20s"})
    assert delay(document, FAILED, attempt=attempt, chance=0.0) == 0
    assert delay(document, FAILED, attempt=attempt, chance=0.5) == longest / 2
    assert delay(document, FAILED, attempt=attempt, chance=0.999) == pytest.approx(longest, rel=0.01)


@pytest.mark.parametrize("attempt", [1, 31, 60])
@pytest.mark.parametrize(("initial", "most", "longest"), [("30d", None, 300), ("1ms", "9999999d", None)])
def test_delays_beyond_all_calendars_can_be_counted(
    attempt: int, initial: str, most: str | None, longest: float | None
) -> None:
    document = job(retry={"max_attempts": 100, "initial_delay": initial, "max_delay": most})
    assert (found := delay(document, FAILED, attempt=attempt)) is not None
    assert longest is None or found == longest / 2
    asked = Outcome(state=RunState.FAILED, retry_after=timedelta(days=9_000_000))
    assert delay(document, asked, attempt=attempt) is not None


def test_the_last_attempt_is_followed_by_none() -> None:
    document = job(retry={"max_attempts": 3})
    assert [delay(document, FAILED, attempt=attempt) is None for attempt in (1, 2, 3, 4)] == [
        False,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(
    "state", [RunState.SUCCEEDED, RunState.CANCELLED, RunState.ABANDONED], ids=lambda state: state.value
)
def test_only_what_failed_or_timed_out_is_retried(state: RunState) -> None:
    assert delay(job(retry={}), Outcome(state=state)) is None


WHEN = [
    ({"timeout": True}, TIMED_OUT, True),
    ({"timeout": True}, FAILED, False),
    ({"errors": True}, FAILED, True),
    ({"errors": True}, TIMED_OUT, False),
    ({"statuses": ["5xx", 429]}, Outcome(state=RunState.FAILED, status=503), True),
    ({"statuses": ["5xx", 429]}, Outcome(state=RunState.FAILED, status=429), True),
    ({"statuses": ["5xx", 429]}, Outcome(state=RunState.FAILED, status=404), False),
    ({"exit_codes": [75, -9]}, Outcome(state=RunState.FAILED, exit_code=75), True),
    ({"exit_codes": [75, -9]}, Outcome(state=RunState.FAILED, exit_code=-9), True),
    ({"exit_codes": [75]}, Outcome(state=RunState.FAILED, exit_code=1), False),
    ({"exceptions": ["OSError"]}, Outcome(state=RunState.FAILED, exceptions=("x.Timeout", "OSError")), True),
    ({"exceptions": ["Timeout"]}, Outcome(state=RunState.FAILED, exceptions=("x.Timeout",)), True),
    ({"exceptions": ["y.Timeout"]}, Outcome(state=RunState.FAILED, exceptions=("x.Timeout",)), False),
]


@pytest.mark.parametrize(("when", "outcome", "retried"), WHEN)
def test_a_policy_that_names_failures_retries_these_only(
    when: dict[str, Any], outcome: Outcome, *, retried: bool
) -> None:
    assert (delay(job(retry={"when": when}), outcome) is not None) is retried


def test_a_server_that_says_when_to_come_is_given_that_time_up_to_the_longest_delay() -> None:
    document = job(retry={"initial_delay": "1s", "max_delay": "30s"})
    assert delay(document, Outcome(state=RunState.FAILED, status=503, retry_after=20 * SECOND)) == 20
    assert delay(document, Outcome(state=RunState.FAILED, status=503, retry_after=3600 * SECOND)) == 30


@given(
    attempt=st.integers(1, 200),
    initial=st.integers(0, 10_000),
    longest=st.integers(0, 100_000),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_no_delay_is_negative_or_longer_than_the_longest(
    attempt: int, initial: int, longest: int, chance: float
) -> None:
    retry = {"max_attempts": 100, "initial_delay": min(initial, longest), "max_delay": longest}
    found = delay(job(retry=retry), FAILED, attempt=attempt, chance=chance)
    assert found is None if attempt >= 100 else found is not None and 0 <= found <= longest


def test_an_abandoned_run_is_repeated_at_once_where_its_job_says_so_and_not_for_ever() -> None:
    document = job(abandoned="retry")
    assert delay(document, ABANDONED) == 0
    assert [repeats_abandoned(document, attempt) for attempt in range(1, MOST_REPEATS + 1)] == [
        True,
        True,
        False,
    ]
    assert delay(job(abandoned="retry", retry={"max_attempts": 2}), ABANDONED, attempt=2) is None


def test_only_an_abandoned_run_of_a_job_that_asks_waits_for_a_person() -> None:
    assert stays_undecided(job(abandoned="ask"), ABANDONED)
    assert not stays_undecided(job(abandoned="ask"), FAILED)
    assert not stays_undecided(job(), ABANDONED)
