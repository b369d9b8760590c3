"""Jitter: when a run may start after its slot."""

from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from sample_jobs import decided, job

from cronexec.domain.ledger import Claiming, claim
from cronexec.domain.occupancy import Occupancy
from cronexec.domain.plan import Due
from cronexec.domain.schedule import Schedule

SLOT = datetime(2026, 9, 21, 13, tzinfo=UTC)


def schedule(jitter: object = "5m", **fields: object) -> Schedule:
    return Schedule.from_document({"every": "1h", **fields, "jitter": jitter}, name="job")


def test_the_instant_is_the_same_for_ever() -> None:
    # Another one would start a run twice as early or late while two releases run side by side.
    assert schedule().starts_at(SLOT, job="close-league") == SLOT + timedelta(
        minutes=3, seconds=23, milliseconds=201
    )


@given(st.integers(1, 3_600_000), st.integers(0, 100_000), st.text("abcz-.0", min_size=1))
@settings(max_examples=200, derandomize=True, deadline=None)
def test_a_run_starts_at_a_whole_millisecond_from_its_slot_to_before_the_jitter_ends(
    milliseconds: int, hours: int, name: str
) -> None:
    jitter = timedelta(milliseconds=milliseconds)
    slot = SLOT + timedelta(hours=hours)
    starts_at = schedule(milliseconds / 1000).starts_at(slot, job=name)
    assert starts_at is not None
    assert slot <= starts_at < slot + jitter
    assert starts_at.microsecond % 1000 == 0


def test_jobs_with_one_slot_are_spread_evenly_and_so_are_the_slots_of_one_job() -> None:
    jobs = [schedule().starts_at(SLOT, job=f"job-{number}") for number in range(2000)]
    slots = [
        schedule().starts_at(slot, job="job")
        for slot in (SLOT + timedelta(hours=count) for count in range(2000))
    ]
    for instants in (jobs, slots):
        minutes = Counter(at.minute for at in instants if at is not None)
        assert set(minutes) == set(range(5))
        assert all(320 < count < 480 for count in minutes.values())


def test_a_schedule_without_jitter_holds_nothing_back() -> None:
    assert schedule(None).starts_at(SLOT, job="job") is None
    assert schedule(0) == schedule(None)
    assert "jitter" not in schedule("0s").to_document()
    assert schedule(300) == schedule("5m") != schedule("4m")
    assert schedule(300).to_document()["jitter"] == "5m"


def test_every_kind_of_schedule_takes_jitter() -> None:
    for document in ({"at": "2026-09-21T13:00Z"}, {"cron": "0 0 * * *"}, {"cron": "0 0 29 2 *"}):
        read = Schedule.from_document({**document, "jitter": "23h59m"}, name="job")
        assert Schedule.from_document(read.to_document(), name="job") == read
        assert (read.starts_at(SLOT, job="job") or SLOT) > SLOT


def test_the_slot_stays_nominal_and_the_run_may_not_start_before_its_instant() -> None:
    held = job({"every": "1h", "jitter": "5m"}, name="close-league", from_at=SLOT - timedelta(days=1))
    due = Due(job=held, first=SLOT, after=SLOT - timedelta(seconds=1))
    [entry] = claim(due, Claiming(epoch=1, until=SLOT, judged_at=SLOT), Occupancy())
    assert entry.slot == SLOT
    assert entry.not_before == held.schedule.starts_at(SLOT, job="close-league")


def test_a_run_whose_instant_has_passed_is_not_held_back() -> None:
    held = job({"every": "1h", "jitter": "5m"}, name="close-league", from_at=SLOT - timedelta(days=1))
    due = Due(job=held, first=SLOT, after=SLOT - timedelta(seconds=1))
    late = SLOT + timedelta(minutes=5)
    [entry] = decided(claim(due, Claiming(epoch=1, until=late, judged_at=late), Occupancy()))
    assert (entry.slot, entry.not_before) == (SLOT, None)
