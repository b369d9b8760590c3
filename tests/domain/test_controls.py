"""What controls do to a job, and that every slot is accounted for once whatever controls come when."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_jobs import MINUTE, NOON, SECOND, at, decided, job, queued
from sample_namespace import NOW, Namespace, put, refusal, result

from cronexec.adapters.memory_runs import close_range
from cronexec.domain.apply import apply
from cronexec.domain.command import (
    BlackoutJob,
    Command,
    DeleteJob,
    PauseJob,
    ResumeJob,
    SkipSlots,
    UnblackoutJob,
    command_from_fields,
)
from cronexec.domain.controls import revoke
from cronexec.domain.job import Job, JobVersion
from cronexec.domain.job_state import MOST_BLACKOUTS, Blackout
from cronexec.domain.ledger import Claiming, CloseRange, claim
from cronexec.domain.occupancy import Occupancy
from cronexec.domain.plan import Plan
from cronexec.domain.run import Run
from cronexec.domain.situation import Effects, Situation
from cronexec.domain.verification import verify_job
from cronexec.errors import InvalidDocumentError

UNTIL = at("12:05")


def pause(until: datetime | None = UNTIL, **fields: Any) -> PauseJob:
    return PauseJob(id="c", name="backup", until=until, **{"issued_by": "ann", **fields})


def paused(**fields: Any) -> tuple[Namespace, Job, Run]:
    """Return a namespace whose job is paused until 12:05 since `NOW`, with its range."""
    namespace = Namespace(job())
    effects = namespace.apply(pause(**fields))
    assert effects.job is not None
    return namespace, effects.job, effects.entries[0]


# Pauses with an end.


def test_a_pause_with_an_end_writes_its_range_up_to_that_end() -> None:
    namespace = Namespace(job(), unsettled=[queued("backup#1")])
    effects = namespace.apply(pause(reason="holidays", owner="zoe"))
    (entry,) = effects.entries
    assert (entry.slot, entry.until, entry.open_ended) == (at("12:01"), UNTIL, False)
    assert (entry.reason, entry.note, entry.issued_by) == ("paused", "holidays", "zoe")
    assert [settle.run_id for settle in effects.settles] == ["backup#1"]
    told = result(effects)
    assert (told["paused"], told["paused_until"], told["next"]) == (
        True,
        "2026-03-02T12:05:00Z",
        "2026-03-02T12:06:00Z",
    )


def test_a_pause_that_ends_before_the_next_slot_has_no_range() -> None:
    effects = Namespace(job()).apply(pause(at("12:00:59")))
    assert effects.entries == ()
    assert effects.job is not None
    assert effects.job.paused is not None
    assert effects.job.planned_from(NOW) == at("12:00:59")


def test_a_pause_into_the_past_is_refused() -> None:
    assert refusal(Namespace(job()).apply(pause(NOW))) == ("invalid", "until")


def test_a_pause_that_is_asked_for_again_changes_nothing() -> None:
    namespace, _, _ = paused(reason="holidays")
    assert result(namespace.apply(pause()))["changed"] is False
    assert result(namespace.apply(pause(reason="holidays")))["changed"] is False


def test_another_end_ends_the_range_and_begins_one_that_goes_on() -> None:
    namespace, _, first = paused(reason="holidays")
    namespace.now = at("12:02:10")
    effects = namespace.apply(pause(at("12:09"), issued_by="zoe"))
    (entry,) = effects.entries
    assert effects.closes == (CloseRange(run_id=first.id, until=namespace.now, foreseen=UNTIL),)
    assert (entry.slot, entry.until, entry.note) == (at("12:03"), at("12:09"), "holidays")
    assert effects.job is not None
    assert effects.job.paused is not None
    assert (effects.job.paused.since_at, effects.job.paused.issued_by) == (NOW, "zoe")


def test_a_pause_with_an_end_may_become_one_without() -> None:
    namespace, _, _ = paused()
    (entry,) = namespace.apply(pause(None)).entries
    assert entry.open_ended


def test_resuming_before_the_end_shortens_the_range() -> None:
    namespace, _, entry = paused()
    namespace.now = at("12:02:10")
    effects = namespace.apply(ResumeJob(id="r", name="backup"))
    assert effects.closes == (CloseRange(run_id=entry.id, until=namespace.now, foreseen=UNTIL),)
    assert result(effects)["next"] == "2026-03-02T12:03:00Z"


def test_a_pause_whose_end_has_come_is_over_without_a_command() -> None:
    namespace, planned, _ = paused()
    namespace.now = UNTIL
    assert planned.paused_at(UNTIL) is None
    assert result(namespace.apply(ResumeJob(id="r", name="backup")))["changed"] is False
    changed = namespace.apply(put({"every": "2m"}))
    assert changed.closes == ()
    assert changed.entries == ()
    assert result(changed)["paused"] is False


def test_a_pause_after_one_that_is_over_is_a_new_one() -> None:
    namespace, _, _ = paused(reason="holidays", owner="zoe")
    namespace.now = at("12:05:00.001")
    effects = namespace.apply(pause(None))
    assert effects.closes == ()
    assert effects.job is not None
    assert effects.job.paused is not None
    assert (effects.job.paused.since_at, effects.job.paused.reason, effects.job.paused.owner) == (
        namespace.now,
        None,
        None,
    )


def test_a_new_version_is_paused_up_to_the_same_end() -> None:
    namespace, _, _ = paused(reason="holidays")
    namespace.now = at("12:02:10")
    (entry,) = namespace.apply(put({"every": "2m"})).entries
    assert (entry.version, entry.slot, entry.until, entry.note) == (2, at("12:04"), UNTIL, "holidays")


def test_a_run_that_comes_back_is_cancelled_only_while_the_pause_lasts() -> None:
    _, planned, _ = paused()
    run = queued("backup#1", claimed_at=NOON)
    assert revoke(run, planned, UNTIL - SECOND) is not None
    assert revoke(run, planned, UNTIL) is None


# The next slots.


def skip(count: int = 1, **fields: Any) -> SkipSlots:
    return SkipSlots(id="s", name="backup", count=count, **{"issued_by": "ann", **fields})


def skipped(effects: Effects) -> list[str]:
    return [slot[11:16] for slot in result(effects)["skipped"]]


def test_the_next_slots_are_skipped_and_told() -> None:
    effects = Namespace(job()).apply(skip(2, reason="quiet"))
    assert skipped(effects) == ["12:01", "12:02"]
    assert result(effects)["next"] == "2026-03-02T12:03:00Z"
    assert effects.job is not None
    assert [(each.slot, each.issued_by, each.reason) for each in effects.job.skip_next] == [
        (at("12:01"), "ann", "quiet"),
        (at("12:02"), "ann", "quiet"),
    ]
    assert effects.entries == ()


def test_asking_again_is_asking_once_and_another_number_takes_its_place() -> None:
    namespace = Namespace(job())
    namespace.apply(skip(2))
    assert result(namespace.apply(skip(2, issued_by="zoe")))["changed"] is False
    assert skipped(namespace.apply(skip(3, issued_by="zoe"))) == ["12:01", "12:02", "12:03"]
    assert [each.issued_by for each in namespace.jobs["backup"].skip_next] == ["ann", "ann", "zoe"]
    assert skipped(namespace.apply(skip(1))) == ["12:01"]
    assert skipped(namespace.apply(skip(0))) == []
    assert namespace.jobs["backup"].skip_next == ()
    assert result(namespace.apply(skip(0)))["changed"] is False


def test_slots_that_are_skipped_anyway_do_not_count() -> None:
    namespace, _, _ = paused()
    namespace.apply(BlackoutJob(id="b", name="backup", start=at("12:07"), end=at("12:08")))
    assert skipped(namespace.apply(skip(2))) == ["12:06", "12:09"]


def test_of_a_schedule_that_ends_only_what_is_left_is_skipped() -> None:
    namespace = Namespace(job({"at": at("12:30").isoformat()}))
    assert skipped(namespace.apply(skip(3))) == ["12:30"]


# Windows.


def black_out(start: str | None, end: str, **fields: Any) -> BlackoutJob:
    begin = at(start) if start else None
    return BlackoutJob(id="b", name="backup", start=begin, end=at(end), **{"issued_by": "ann", **fields})


def test_a_window_from_now_on_that_is_asked_for_twice_is_one() -> None:
    namespace = Namespace(job())
    assert result(namespace.apply(black_out(None, "12:10")))["changed"]
    namespace.now += SECOND
    assert not result(namespace.apply(black_out(None, "12:10")))["changed"]
    assert result(namespace.apply(black_out(None, "12:10", reason="move")))["changed"]
    assert result(namespace.apply(black_out(None, "12:11")))["changed"]
    assert result(namespace.apply(black_out("12:05", "12:10")))["changed"]


def test_a_window_begins_now_where_nothing_else_is_said_and_is_kept_in_whole_seconds() -> None:
    effects = Namespace(job()).apply(black_out(None, "12:10:00.900", reason="move"))
    assert effects.job is not None
    assert effects.job.blackouts == (
        Blackout(start_at=at("12:00:01"), end_at=at("12:10"), issued_by="ann", reason="move"),
    )
    assert result(effects)["next"] == "2026-03-02T12:11:00Z"


def test_windows_are_in_order_the_same_one_is_kept_once_and_past_ones_are_dropped() -> None:
    namespace = Namespace(job())
    namespace.apply(black_out("13:00", "14:00"))
    namespace.apply(black_out("12:30", "12:40"))
    assert result(namespace.apply(black_out("13:00", "14:00", issued_by="zoe")))["changed"] is False
    assert [window.start_at for window in namespace.jobs["backup"].blackouts] == [at("12:30"), at("13:00")]
    namespace.now = at("12:50")
    namespace.apply(black_out("15:00", "15:10"))
    assert [window.start_at for window in namespace.jobs["backup"].blackouts] == [at("13:00"), at("15:00")]


def test_a_window_in_the_past_and_one_too_many_are_refused() -> None:
    namespace = Namespace(job())
    assert refusal(namespace.apply(black_out("11:00", "12:00"))) == ("invalid", "end")
    windows = tuple(
        Blackout(
            start_at=NOON + hours * timedelta(hours=1), end_at=NOON + hours * timedelta(hours=1) + MINUTE
        )
        for hours in range(1, MOST_BLACKOUTS + 1)
    )
    full = Namespace(replace(job(), blackouts=windows))
    assert refusal(full.apply(black_out("12:30", "12:31"))) == ("conflict", "name")


def test_windows_are_lifted_all_or_those_with_one_reason() -> None:
    namespace = Namespace(job())
    for start, reason in (("13:00", "move"), ("14:00", "move"), ("15:00", "holidays")):
        namespace.apply(black_out(start, "16:00", reason=reason))
    assert result(namespace.apply(UnblackoutJob(id="u", name="backup", reason="move")))["lifted"] == 2
    assert [window.reason for window in namespace.jobs["backup"].blackouts] == ["holidays"]
    assert result(namespace.apply(UnblackoutJob(id="v", name="backup")))["lifted"] == 1
    assert result(namespace.apply(UnblackoutJob(id="w", name="backup")))["changed"] is False


def test_windows_and_skipped_slots_are_state_that_a_put_keeps_and_a_deletion_ends() -> None:
    namespace = Namespace(job())
    namespace.apply(black_out("13:00", "14:00"))
    namespace.apply(skip(1))
    changed = namespace.apply(put({"every": "2m"})).job
    assert changed is not None
    assert (len(changed.blackouts), len(changed.skip_next), changed.version) == (1, 1, 2)
    deleted = namespace.apply(DeleteJob(id="d", name="backup")).job
    assert deleted is not None
    assert (deleted.blackouts, deleted.skip_next) == ((), ())


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"type": "job.pause", "until": "2026-12-27T08:00"}, "until"),
        ({"type": "job.pause", "reason": ""}, "reason"),
        ({"type": "job.pause", "reason": "x" * 501}, "reason"),
        ({"type": "job.skip", "count": 101}, "count"),
        ({"type": "job.skip", "count": -1}, "count"),
        ({"type": "job.blackout"}, "end"),
        ({"type": "job.blackout", "start": "2026-12-27T08:00Z", "end": "2026-12-27T07:00Z"}, ""),
    ],
)
def test_a_control_that_says_too_little_or_too_much_is_refused(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidDocumentError) as refused:
        command_from_fields({"id": "c", "name": "backup", **fields})
    assert [each.field for each in refused.value.problems] == [field]


# Whatever comes when: a ledger as the holder writes it, and what `ledger verify` says of it.


class Holder:
    """Decides one job as the scheduler does: slots up to now, then a command, in one write."""

    def __init__(self, planned: Job) -> None:
        self.at = planned.from_at
        self.jobs = {planned.name: planned}
        self.plan = Plan()
        self.plan.put(planned, after=self.at)
        self.ledger: dict[str, Run] = {}
        self.versions = {1: _opened(planned)}

    def fail_over(self) -> None:
        """Let another holder find the jobs in the database, and plan them from the watermark on."""
        self.plan = Plan()
        for planned in self.jobs.values():
            self.plan.put(planned, after=self.at)

    def tick(self, until: datetime, command: Command | None = None) -> None:
        self.plan.compute(100)
        due = self.plan.due(until)
        claiming = Claiming(epoch=1, until=until, judged_at=until)
        for item in due:
            self._write(decided(claim(item, claiming, Occupancy())))
        self.at = until
        self.plan.resume(due, after=until)
        if command is not None:
            self._apply(command)

    def _apply(self, command: Command) -> None:
        situation = Situation(
            at=self.at,
            epoch=1,
            revision=max(planned.revision for planned in self.jobs.values()),
            jobs=self.jobs,
            occupancy=Occupancy(),
            runs=self.ledger,
        )
        effects = apply(command, situation)
        self._write(effects.entries)
        for close in effects.closes:
            close_range(self.ledger, close)
        self.versions |= {version.version: version for version in effects.versions}
        if effects.job is not None:
            self.jobs[effects.job.name] = effects.job
            self.plan.put(effects.job, after=self.at)

    def reason_of(self, version: int, slot: datetime) -> str | None:
        """Return why the slot was skipped by somebody's will; None where it ran, or a policy skipped it."""
        (entry,) = (each for each in self.ledger.values() if each.version == version and each.covers(slot))
        return None if entry.reason in {"misfire", "overlap"} else entry.reason

    def _write(self, entries: Any) -> None:
        for entry in entries:
            assert entry.id not in self.ledger
            self.ledger[entry.id] = entry


def _opened(planned: Job) -> JobVersion:
    return JobVersion(
        name=planned.name,
        version=planned.version,
        document=planned.document,
        from_at=planned.from_at,
        to_at=None,
    )


lengths = st.integers(0, 400).map(lambda seconds: timedelta(seconds=seconds))
SCHEDULES = [{"every": "1m"}, {"every": "7s"}, {"every": "3m"}, {"cron": "*/2 * * * *"}]


def commands(now: datetime) -> st.SearchStrategy[Command | None]:
    later = st.integers(1, 400).map(lambda seconds: now + seconds * SECOND)
    starts = st.none() | st.integers(-200, 0).map(lambda seconds: now + seconds * SECOND)
    return st.one_of(
        st.none(),
        st.builds(pause, st.none() | later, reason=st.sampled_from([None, "why"])),
        st.just(ResumeJob(id="c", name="backup")),
        st.builds(skip, st.integers(0, 4)),
        st.builds(lambda start, end: BlackoutJob(id="c", name="backup", start=start, end=end), starts, later),
        st.just(UnblackoutJob(id="c", name="backup")),
        st.builds(put, st.sampled_from(SCHEDULES)),
        st.just(DeleteJob(id="c", name="backup")),
    )


@given(st.data())
@settings(max_examples=200, derandomize=True, deadline=None)
def test_every_slot_has_one_entry_whatever_controls_and_failovers_come_when(data: st.DataObject) -> None:
    """And what the job said it would skip was skipped, for that reason."""
    holder = Holder(job(data.draw(st.sampled_from(SCHEDULES)), from_at=NOON, overlap="allow"))
    for _ in range(data.draw(st.integers(1, 14))):
        until = holder.at + data.draw(lengths) + timedelta(milliseconds=data.draw(st.integers(1, 999)))
        said = foretold(holder.jobs["backup"], holder.at, until)
        holder.tick(until, data.draw(commands(until)))
        assert {slot: holder.reason_of(*slot) for slot in said} == said
        if data.draw(st.booleans()):
            holder.fail_over()
    holder.tick(holder.at + timedelta(seconds=900))

    entries = sorted(holder.ledger.values(), key=lambda entry: entry.slot)
    found = verify_job(holder.versions.values(), entries, watermark=holder.at, since=NOON)
    assert found.ok, found
    assert found.due == found.run + found.skipped


def foretold(planned: Job, after: datetime, until: datetime) -> dict[tuple[int, datetime], str | None]:
    """Return what the job says of its slots in (after, until]: why it will skip them, or None."""
    if planned.deleted_at is not None:
        return {}
    slots = planned.schedule.slots(after, until)
    whys = ((slot, planned.will_skip(slot)) for slot in slots)
    return {(planned.version, slot): why.reason.value if why else None for slot, why in whys}
