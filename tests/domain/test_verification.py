"""What is taken out of a ledger, put in twice or made up is found; a ledger as claims make it is in order."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from cronexec.domain.job import JobDocument, JobVersion
from cronexec.domain.run import Run, RunState, slot_run_id
from cronexec.domain.verification import FINDINGS_KEPT, Verification, verify_job

START = datetime(2026, 3, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
LONG_AGO = START - timedelta(days=365)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def version_of(
    number: int, schedule: dict[str, str], from_at: datetime, to_at: datetime | None = None
) -> JobVersion:
    document = JobDocument.parse(
        {"name": "tick", "schedule": schedule, "target": {"type": "handler", "name": "tick"}}
    )
    return JobVersion(name="tick", version=number, document=document, from_at=from_at, to_at=to_at)


def entry(slot: datetime, version: int = 1, state: RunState = RunState.SUCCEEDED, **fields: object) -> Run:
    run = Run(id=slot_run_id("tick", slot), job="tick", version=version, slot=slot, state=state, epoch=1)
    return replace(run, **fields)  # type: ignore[arg-type]


def skipped(slot: datetime, until: datetime | None = None, version: int = 1, reason: str = "misfire") -> Run:
    return entry(slot, version, RunState.SKIPPED, until=until, reason=reason)


def verified(
    versions: Sequence[JobVersion],
    entries: Sequence[Run],
    watermark: datetime,
    since: datetime = LONG_AGO,
) -> Verification:
    in_order = sorted(entries, key=lambda each: each.slot)
    return verify_job(versions, in_order, watermark=watermark, since=since)


EVERY_10S = version_of(1, {"every": "10s"}, START)


def full_ledger(count: int) -> list[Run]:
    return [entry(at(10 * number)) for number in range(1, count + 1)]


def test_a_ledger_with_every_slot_once_is_in_order() -> None:
    found = verified([EVERY_10S], full_ledger(6), at(65))

    assert found.ok
    assert (found.due, found.run, found.skipped) == (6, 6, 0)
    assert found.runs == {RunState.SUCCEEDED: 6}


def test_slots_after_the_watermark_are_not_due_and_their_entries_do_not_count() -> None:
    found = verified([EVERY_10S], full_ledger(6), at(30))

    assert found.ok
    assert (found.due, found.run) == (3, 3)


def test_a_version_owns_the_slots_after_its_beginning_up_to_and_with_its_end() -> None:
    versions = [
        version_of(1, {"every": "10s"}, START, at(20)),
        version_of(2, {"every": "20s"}, at(20)),
    ]
    entries = [entry(at(10)), entry(at(20)), entry(at(40), 2)]

    assert verified(versions, entries, at(55)).ok


def test_an_entry_of_another_version_does_not_account_for_a_slot() -> None:
    versions = [version_of(1, {"every": "10s"}, START, at(20)), version_of(2, {"every": "10s"}, at(20))]
    entries = [entry(at(10)), entry(at(20), 2)]

    found = verified(versions, entries, at(20))

    assert (found.missing, found.unexpected) == (1, 1)
    assert found.findings["missing"][0].slot == at(20)


def test_a_range_accounts_for_every_slot_it_covers() -> None:
    entries = [entry(at(10)), skipped(at(20), at(45)), entry(at(50))]

    found = verified([EVERY_10S], entries, at(50))

    assert found.ok
    assert (found.due, found.run, dict(found.skips)) == (5, 2, {"misfire": 3})


def test_a_range_that_began_before_the_beginning_accounts_for_what_follows() -> None:
    found = verified([EVERY_10S], [skipped(at(10), at(60)), entry(at(70))], at(70), since=at(35))

    assert found.ok
    assert (found.due, found.skipped) == (4, 3)


def test_an_open_range_accounts_for_slots_up_to_the_watermark() -> None:
    paused = replace(skipped(at(20), reason="paused"), open_ended=True)

    found = verified([EVERY_10S], [entry(at(10)), paused], at(100))

    assert found.ok
    assert dict(found.skips) == {"paused": 9}


def test_a_run_within_a_range_is_doubled() -> None:
    found = verified([EVERY_10S], [skipped(at(10), at(40)), entry(at(30))], at(40))

    assert (found.doubled, found.missing) == (1, 0)
    assert found.findings["doubled"][0].slot == at(30)
    assert len(found.findings["doubled"][0].entries) == 2


def test_an_instant_that_was_past_when_it_was_put_is_due_in_its_own_version() -> None:
    versions = [
        version_of(1, {"every": "10s"}, START, at(35)),
        version_of(2, {"at": "2026-03-01T00:00:15Z"}, at(14)),
    ]
    entries = [*full_ledger(3), skipped(at(15), version=2)]

    found = verified(versions, entries, at(60))

    assert found.ok
    assert (found.due, found.run, found.skipped) == (4, 3, 1)


def test_a_run_that_was_not_due_is_unexpected() -> None:
    found = verified([EVERY_10S], [*full_ledger(3), entry(at(15))], at(30))

    assert not found.ok
    assert found.unexpected == 1
    assert found.findings["unexpected"][0].entries == ("tick@2026-03-01T00:00:15Z",)


def test_an_entry_of_a_version_that_is_newer_than_what_was_read_is_left_alone() -> None:
    late = entry(at(15), 2, claimed_at=at(31))

    assert verified([EVERY_10S], [*full_ledger(3), late], at(30)).ok


def test_a_job_without_versions_was_not_due() -> None:
    assert verified([], [entry(at(10))], at(30)).unexpected == 1


def test_abandoned_runs_are_runs() -> None:
    entries = [entry(at(10)), entry(at(20), state=RunState.ABANDONED), entry(at(30))]

    found = verified([EVERY_10S], entries, at(30))

    assert found.ok
    assert (found.run, found.abandoned) == (3, 1)


def test_only_the_first_findings_are_kept_and_all_are_counted() -> None:
    found = verified([EVERY_10S], [], at(10 * 100))

    assert found.missing == 100
    assert len(found.findings["missing"]) == FINDINGS_KEPT


def test_verifications_of_jobs_add_up() -> None:
    one = verified([EVERY_10S], full_ledger(3), at(40))
    other = verified([EVERY_10S], [skipped(at(10))], at(10))

    total = one + other

    assert (total.due, total.run, total.skipped, total.missing) == (5, 3, 1, 1)
    assert [finding.slot for finding in total.findings["missing"]] == [at(40)]


SCHEDULES = st.sampled_from(
    [
        {"every": "7s"},
        {"every": "1m"},
        {"cron": "*/5 * * * * *"},
        {"cron": "*/2 * * * *", "timezone": "Asia/Kolkata"},
    ]
)


@st.composite
def ledgers(draw: st.DrawFn) -> tuple[list[JobVersion], list[Run], datetime]:
    """Draw a history of versions, and the ledger that accounts for it, in runs and in ranges."""
    changes = sorted(draw(st.sets(st.integers(1, 600_000), min_size=1, max_size=4)))
    instants = [START, *(START + timedelta(milliseconds=change) for change in changes)]
    watermark = instants[-1]
    versions = []
    entries: list[Run] = []
    for number, (from_at, to_at) in enumerate(pairwise(instants), 1):
        version = version_of(number, draw(SCHEDULES), from_at, None if to_at == watermark else to_at)
        versions.append(version)
        slots = list(version.document.schedule.slots(from_at, to_at))
        while slots:
            length = draw(st.integers(1, min(6, len(slots))))
            part, slots = slots[:length], slots[length:]
            entries += [entry(part[0], number)] if length == 1 else [skipped(part[0], part[-1], number)]
    return versions, entries, watermark


@given(ledgers())
def test_what_accounts_for_every_slot_is_in_order_and_due_is_run_plus_skipped(
    ledger: tuple[list[JobVersion], list[Run], datetime],
) -> None:
    versions, entries, watermark = ledger

    found = verified(versions, entries, watermark)

    assert found.ok
    assert found.due == found.run + found.skipped
    assert found.run == sum(each.state is not RunState.SKIPPED for each in entries)


@given(ledgers(), st.data())
def test_an_entry_that_is_removed_is_missed_by_as_many_slots_as_it_covered(
    ledger: tuple[list[JobVersion], list[Run], datetime], data: st.DataObject
) -> None:
    versions, entries, watermark = ledger
    if not entries:
        return
    gone = data.draw(st.sampled_from(entries))
    schedule = versions[gone.version - 1].document.schedule
    covered = list(schedule.slots(gone.slot - SECOND, gone.until or gone.slot))

    found = verified(versions, [each for each in entries if each is not gone], watermark)

    assert (found.missing, found.doubled, found.unexpected) == (len(covered), 0, 0)
    assert [finding.slot for finding in found.findings["missing"]] == covered[:FINDINGS_KEPT]


@given(ledgers(), st.data())
def test_an_entry_that_is_there_twice_doubles_as_many_slots_as_it_covers(
    ledger: tuple[list[JobVersion], list[Run], datetime], data: st.DataObject
) -> None:
    versions, entries, watermark = ledger
    if not entries:
        return
    twice = data.draw(st.sampled_from(entries))
    schedule = versions[twice.version - 1].document.schedule
    covered = list(schedule.slots(twice.slot - SECOND, twice.until or twice.slot))

    found = verified(versions, [*entries, replace(twice, id="again")], watermark)

    assert (found.missing, found.doubled) == (0, len(covered))


@given(ledgers(), st.integers(0, 600_000))
def test_verifying_from_any_instant_on_counts_the_slots_after_it(
    ledger: tuple[list[JobVersion], list[Run], datetime], milliseconds: int
) -> None:
    versions, entries, watermark = ledger
    since = START + timedelta(milliseconds=milliseconds)

    found = verified(versions, entries, watermark, since=since)

    due = [
        slot
        for each in versions
        for slot in each.document.schedule.slots(max(each.from_at, since), each.to_at or watermark)
    ]
    assert found.ok
    assert found.due == len([slot for slot in due if slot > since])
