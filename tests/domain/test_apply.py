"""Applying commands: what each one does to a job and writes, and what it is refused for."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from sample_jobs import NOON, at, claim_all, covering, document, job, queued
from sample_namespace import NOW, PAUSE, PAUSED, YESTERDAY, Namespace, instant, put, refusal, result

from cronexec.domain.command import CancelRun, Command, DeleteJob, PauseJob, ResumeJob, TriggerJob
from cronexec.domain.job import Job, Pause
from cronexec.domain.ledger import CloseRange
from cronexec.domain.run import Run, RunState
from cronexec.domain.situation import Effects

REFUSED = [
    (put(if_version=3), "version_conflict", "if_version"),
    (put(if_version=0), "version_conflict", "if_version"),
    (put(name="new", if_version=1), "version_conflict", "if_version"),
    (put(name="gone", if_version=5), "version_conflict", "if_version"),
    (DeleteJob(id="c", name="nobody"), "not_found", "name"),
    (DeleteJob(id="c", name="gone"), "not_found", "name"),
    (DeleteJob(id="c", name="backup", if_version=1), "version_conflict", "if_version"),
    (PauseJob(id="c", name="nobody"), "not_found", "name"),
    (PauseJob(id="c", name="gone"), "not_found", "name"),
    (ResumeJob(id="c", name="nobody"), "not_found", "name"),
    (ResumeJob(id="c", name="gone"), "not_found", "name"),
    (TriggerJob(id="c", name="nobody"), "not_found", "name"),
    (TriggerJob(id="c", name="gone"), "not_found", "name"),
    (TriggerJob(id="c", name="alone"), "conflict", "name"),
    (CancelRun(id="c", run="backup#nothing"), "not_found", "run"),
    (CancelRun(id="c", run="backup#done"), "already_settled", "run"),
    (CancelRun(id="c", run="backup#skipped"), "already_settled", "run"),
]


@pytest.mark.parametrize(("command", "code", "field"), REFUSED)
def test_what_cannot_be_applied_is_refused_with_code_and_field(
    command: Command, code: str, field: str
) -> None:
    namespace = Namespace(
        job(version=2),
        job(name="alone", overlap="skip"),
        replace(job(name="gone", version=5), deleted_at=YESTERDAY),
        unsettled=[queued("alone#1", job="alone")],
        runs=[
            queued("backup#done", state=RunState.SUCCEEDED),
            queued("backup#skipped", state=RunState.SKIPPED),
        ],
    )
    effects = namespace.apply(command)
    assert refusal(effects) == (code, field)
    assert effects.reply["id"] == command.id


SENTENCES = [
    (put(if_version=3), "the job backup is at version 2; it should be at version 3"),
    (put(if_version=0), "the job backup is at version 2; it should not exist"),
    (put(name="new", if_version=1), "there is no job new; it should be at version 1"),
]


@pytest.mark.parametrize(("command", "sentence"), SENTENCES)
def test_a_version_conflict_says_what_was_found_and_what_was_expected(
    command: Command, sentence: str
) -> None:
    assert Namespace(job(version=2)).apply(command).reply["error"]["message"] == sentence


def test_a_new_job_is_at_version_one_and_counts_from_now() -> None:
    effects = Namespace().apply(put(issued_by="ann", declared=True, if_version=0))
    made = effects.job
    assert made == Job(
        document=document(),
        version=1,
        revision=101,
        from_at=NOW,
        updated_at=NOW,
        issued_by="ann",
        declared=True,
    )
    assert [(each.version, each.from_at, each.to_at, each.issued_by) for each in effects.versions] == [
        (1, NOW, None, "ann")
    ]
    assert result(effects) == {
        "name": "backup",
        "version": 1,
        "changed": True,
        "created": True,
        "paused": False,
        "next": "2026-03-02T12:01:00Z",
    }
    assert (effects.entries, effects.settles, effects.closes) == ((), (), ())


def test_a_changed_job_closes_its_old_version_where_the_new_one_begins() -> None:
    effects = Namespace(job(version=4)).apply(put({"every": "1h"}, if_version=4))
    assert [(each.version, each.from_at, each.to_at) for each in effects.versions] == [
        (4, YESTERDAY, NOW),
        (5, NOW, None),
    ]
    assert [each.document.schedule.describe() for each in effects.versions] == ["every 1m", "every 1h"]


def test_a_job_put_unchanged_is_no_new_version_and_its_next_slot_is_to_come() -> None:
    effects = Namespace(job(version=4)).apply(put())
    assert effects == Effects(reply=effects.reply)
    assert result(effects) == {
        "name": "backup",
        "version": 4,
        "changed": False,
        "created": False,
        "paused": False,
        "next": "2026-03-02T12:01:00Z",
    }


def test_declaring_a_job_that_was_put_by_hand_is_known_and_no_new_version() -> None:
    effects = Namespace(job()).apply(put(declared=True))
    assert (result(effects)["version"], effects.job and effects.job.declared) == (1, True)
    assert effects.versions == ()


def test_a_declared_job_put_by_hand_as_it_is_stays_declared() -> None:
    effects = Namespace(replace(job(), declared=True)).apply(put())
    assert (effects.job, result(effects)["changed"]) == (None, False)


def test_versions_rise_over_deletion_and_re_creation() -> None:
    namespace = Namespace(job(version=3))
    namespace.apply(DeleteJob(id="d", name="backup"))
    effects = namespace.apply(put(if_version=0))
    assert result(effects)["version"] == 4
    assert namespace.jobs["backup"].deleted_at is None
    assert [(each.version, each.to_at) for each in effects.versions] == [(4, None)]


def test_a_put_cancels_nothing_that_is_queued() -> None:
    effects = Namespace(job(), unsettled=[queued("backup#1")]).apply(put({"every": "1h"}))
    assert effects.settles == ()


def test_two_puts_in_one_write_build_on_each_other() -> None:
    namespace = Namespace(job())
    namespace.apply(put({"every": "1h"}))
    effects = namespace.apply(put({"every": "2h"}, if_version=2))
    assert [(each.version, each.from_at, each.to_at) for each in effects.versions] == [
        (2, NOW, NOW),
        (3, NOW, None),
    ]


PAST = [
    ("11:59:30", {}, "queued", None),
    ("12:00:00", {}, "queued", None),
    ("11:00:00", {}, "queued", None),
    ("11:00:00", {"misfire": {"policy": "all"}}, "queued", None),
    ("11:00:00", {"misfire": {"policy": "skip"}}, "skipped", "misfire"),
]


@pytest.mark.parametrize(("clock", "fields", "state", "reason"), PAST)
def test_an_instant_that_is_past_is_decided_at_once_by_the_misfire_policy(
    clock: str, fields: dict[str, Any], state: str, reason: str | None
) -> None:
    effects = Namespace().apply(put(instant(clock), **fields))
    (entry,) = effects.entries
    assert (entry.slot, entry.state.value, entry.reason) == (at(clock), state, reason)
    assert (entry.id, entry.epoch, entry.version) == (f"backup@2026-03-02T{clock}Z", 9, 1)
    assert result(effects)["next"] is None


def test_the_version_of_an_instant_that_is_past_begins_before_it() -> None:
    effects = Namespace().apply(put(instant("11:00:00")))
    (version,) = effects.versions
    assert (version.from_at, version.to_at) == (at("10:59:59"), None)
    slots = version.document.schedule.slots(version.from_at, NOW)
    assert list(covering(effects.entries, slots)) == [1]


def test_an_instant_put_at_that_very_instant_runs() -> None:
    (entry,) = Namespace(now=NOON).apply(put(instant("12:00:00"))).entries
    assert (entry.slot, entry.state) == (NOON, RunState.QUEUED)


def test_an_instant_to_come_is_left_to_the_plan() -> None:
    effects = Namespace().apply(put(instant("12:00:01")))
    assert (effects.entries, result(effects)["next"]) == ((), "2026-03-02T12:00:01Z")
    assert effects.job is not None
    assert effects.job.from_at == NOW


@pytest.mark.parametrize("state", list(RunState))
def test_an_instant_with_an_entry_is_never_run_again(state: RunState) -> None:
    there = queued("backup@2026-03-02T11:00:00Z", slot=at("11:00"), state=state)
    effects = Namespace(job(instant("11:00:00")), runs=[there]).apply(
        put(instant("11:00:00"), description="new")
    )
    assert effects.entries == ()
    assert effects.job is not None
    assert effects.job.from_at == NOW


def test_an_instant_that_the_same_write_claims_is_not_claimed_twice() -> None:
    due = job(instant("12:00:00"))
    namespace = Namespace(due, claimed=claim_all(due, YESTERDAY, NOW))
    assert namespace.apply(put(instant("12:00:00"), description="new")).entries == ()


def test_an_instant_put_and_changed_in_one_write_is_claimed_once() -> None:
    namespace = Namespace()
    assert len(namespace.apply(put(instant("11:00:00"))).entries) == 1
    assert namespace.apply(put(instant("11:00:00"), description="new")).entries == ()


def test_an_instant_that_is_past_waits_for_nothing_under_skip_while_the_job_runs() -> None:
    namespace = Namespace(job(overlap="skip"), unsettled=[queued("backup#1")])
    (entry,) = namespace.apply(put(instant("11:59:30"), overlap="skip")).entries
    assert (entry.state, entry.reason) == (RunState.SKIPPED, "overlap")


def test_a_pause_opens_a_range_at_the_next_slot_and_cancels_what_is_queued() -> None:
    namespace = Namespace(job(version=2), unsettled=[queued("backup#1"), queued("backup#2")])
    effects = namespace.apply(PauseJob(id="c", name="backup", issued_by="ann"))
    (entry,) = effects.entries
    assert (entry.slot, entry.open_ended, entry.reason, entry.version) == (at("12:01"), True, "paused", 2)
    assert effects.job is not None
    assert effects.job.paused == Pause(since_at=NOW, issued_by="ann", range_id=entry.id)
    assert (effects.job.version, effects.versions) == (2, ())
    assert [(each.run_id, each.expected.value, each.outcome.reason) for each in effects.settles] == [
        ("backup#1", "queued", "job_paused"),
        ("backup#2", "queued", "job_paused"),
    ]
    assert all(each.outcome.state is RunState.CANCELLED for each in effects.settles)
    assert (result(effects)["paused"], result(effects)["next"]) == (True, None)


def test_pausing_twice_changes_nothing() -> None:
    effects = Namespace(PAUSED).apply(PauseJob(id="c", name="backup"))
    assert effects == Effects(reply=effects.reply)
    assert (result(effects)["changed"], result(effects)["paused"]) == (False, True)


def test_a_resume_closes_the_range_and_goes_on_from_now() -> None:
    effects = Namespace(PAUSED).apply(ResumeJob(id="c", name="backup"))
    assert effects.closes == (CloseRange(run_id=PAUSE.range_id, until=NOW),)
    assert effects.job is not None
    assert (effects.job.paused, effects.job.version, effects.job.updated_at) == (None, 1, NOW)
    assert (effects.versions, effects.entries) == ((), ())
    assert result(effects)["next"] == "2026-03-02T12:01:00Z"


def test_resuming_what_is_not_paused_changes_nothing() -> None:
    effects = Namespace(job()).apply(ResumeJob(id="c", name="backup"))
    assert effects == Effects(reply=effects.reply)
    assert result(effects)["changed"] is False


def test_a_job_without_slots_to_come_is_paused_without_a_range() -> None:
    namespace = Namespace(job(instant("11:00:00")))
    effects = namespace.apply(PauseJob(id="c", name="backup"))
    assert effects.entries == ()
    assert result(effects)["paused"] is True
    assert namespace.apply(ResumeJob(id="c", name="backup")).closes == ()


def test_pausing_resuming_and_pausing_in_one_write_makes_ranges_of_their_own() -> None:
    namespace = Namespace(job())
    (first,) = namespace.apply(PauseJob(id="1", name="backup")).entries
    (close,) = namespace.apply(ResumeJob(id="2", name="backup")).closes
    (second,) = namespace.apply(PauseJob(id="3", name="backup")).entries
    assert close.run_id == first.id
    assert first.slot > close.until
    assert second.id != first.id


def test_a_put_does_not_unpause_it_closes_the_range_and_opens_one_for_the_new_version() -> None:
    effects = Namespace(PAUSED).apply(put({"every": "1h"}, issued_by="bob"))
    (entry,) = effects.entries
    assert effects.closes == (CloseRange(run_id=PAUSE.range_id, until=NOW),)
    assert (entry.slot, entry.open_ended, entry.version) == (at("13:00"), True, 2)
    assert effects.job is not None
    assert effects.job.paused == replace(PAUSE, range_id=entry.id)
    assert result(effects)["paused"] is True


def test_a_put_of_an_instant_that_is_past_does_not_run_while_the_job_is_paused() -> None:
    effects = Namespace(PAUSED).apply(put(instant("11:30:00")))
    (entry,) = effects.entries
    assert (entry.slot, entry.state, entry.reason) == (at("11:30"), RunState.SKIPPED, "paused")
    (version,) = [each for each in effects.versions if each.version == 2]
    assert list(covering([entry], version.document.schedule.slots(version.from_at, NOW))) == [1]


def test_an_instant_that_is_past_finds_the_run_that_the_same_write_claims() -> None:
    """And is skipped where that leaves it no place."""
    slot = queued("backup@2026-03-02T12:00:00Z", claimed_at=NOW)
    namespace = Namespace(job(overlap="skip"), claimed=[slot])
    (entry,) = namespace.apply(put(instant("11:59:30"), overlap="skip")).entries
    assert (entry.slot, entry.reason) == (at("11:59:30"), "overlap")


def test_a_job_created_anew_after_it_was_deleted_while_paused_is_not_paused() -> None:
    namespace = Namespace(PAUSED)
    deleted = namespace.apply(DeleteJob(id="c", name="backup"))
    assert deleted.closes == (CloseRange(run_id=PAUSE.range_id, until=NOW),)
    assert result(namespace.apply(put()))["paused"] is False


def test_a_deleted_job_leaves_a_tombstone_a_closed_version_and_no_queued_run() -> None:
    namespace = Namespace(job(version=2), unsettled=[queued("backup#1"), queued("other#1", job="other")])
    effects = namespace.apply(DeleteJob(id="c", name="backup", issued_by="ann", if_version=2))
    assert effects.job is not None
    assert (effects.job.deleted_at, effects.job.revision, effects.job.issued_by) == (NOW, 101, "ann")
    assert [(each.version, each.from_at, each.to_at) for each in effects.versions] == [(2, YESTERDAY, NOW)]
    assert [(each.run_id, each.outcome.reason) for each in effects.settles] == [("backup#1", "job_deleted")]
    assert result(effects) == {"name": "backup", "version": 2, "deleted": True}


CANCELLING = [DeleteJob(id="c", name="backup"), PauseJob(id="c", name="backup")]


@pytest.mark.parametrize("command", CANCELLING)
def test_what_the_same_write_claims_is_cancelled_with_its_job(command: Command) -> None:
    late = job(misfire={"policy": "all", "limit": 2})
    namespace = Namespace(late, claimed=claim_all(late, at("11:50"), at("11:58"), judged_at=NOW))
    namespace.apply(TriggerJob(id="t", name="backup"))
    cancelled = [settle.run_id for settle in namespace.apply(command).settles]
    assert cancelled == ["backup@2026-03-02T11:57:00Z", "backup@2026-03-02T11:58:00Z", "backup#t"]


def test_every_slot_of_every_version_is_accounted_for_through_a_life_of_changes() -> None:
    """I1: claims up to each change, then the change; what each version owes is covered exactly once."""
    namespace, entries, versions = Namespace(now=NOON), [], {}
    steps: list[tuple[Command, str]] = [
        (put(), "12:05:30.250"),
        (put({"every": "30s"}), "12:10"),
        (PauseJob(id="1", name="backup"), "12:15:00.001"),
        (put({"every": "2m"}), "12:20:59.999"),
        (ResumeJob(id="2", name="backup"), "12:29:30"),
        (DeleteJob(id="3", name="backup"), "12:40"),
        (put(), "12:45"),
    ]
    for command, until in steps:
        effects = namespace.apply(command)
        versions |= {each.version: each for each in effects.versions}
        entries = closed([*entries, *effects.entries], effects)
        entries += claimed_until(namespace, at(until))
        namespace.now, namespace.claimed = at(until), {}
    for version in versions.values():
        slots = list(version.document.schedule.slots(version.from_at, version.to_at or namespace.now))
        assert slots
        own = [entry for entry in entries if entry.version == version.version]
        assert set(covering(own, slots)) == {1}


def closed(entries: list[Run], effects: Effects) -> list[Run]:
    """Close ranges as the store does."""
    ends = {close.run_id: close.until for close in effects.closes}
    kept = [entry for entry in entries if entry.slot <= ends.get(entry.id, entry.slot)]
    return [
        replace(entry, open_ended=False, until=ends[entry.id]) if entry.id in ends else entry
        for entry in kept
    ]


def claimed_until(namespace: Namespace, until: datetime) -> list[Run]:
    current = namespace.jobs["backup"]
    if current.paused or current.deleted_at:
        return []
    return claim_all(current, namespace.now, until)
