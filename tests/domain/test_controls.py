"""What controls do to a job, and that every slot is accounted for once whatever controls come when."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sample_jobs import MINUTE, NOON, SECOND, at, job, queued
from sample_namespace import NOW, Namespace, put, refusal, result

from cronexec.domain.command import (
    BlackoutJob,
    DeleteJob,
    PauseJob,
    ResumeJob,
    SkipSlots,
    UnblackoutJob,
    command_from_fields,
)
from cronexec.domain.controls import revoke
from cronexec.domain.job import Job
from cronexec.domain.job_state import MOST_BLACKOUTS, Blackout
from cronexec.domain.ledger import CloseRange
from cronexec.domain.run import Run
from cronexec.domain.situation import Effects
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
