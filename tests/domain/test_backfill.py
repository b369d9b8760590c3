"""Backfills: which past slots are run, under which names, and what is refused."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sample_jobs import MINUTE, NOON, SECOND, at, document, job, queued
from sample_namespace import NOW, Namespace, instant, refusal, result

from cronexec.domain.apply import apply
from cronexec.domain.backfill import past_slots
from cronexec.domain.command import BackfillJob, command_from_fields
from cronexec.domain.controls import revoke
from cronexec.domain.job import Pause
from cronexec.domain.occupancy import Occupancy
from cronexec.domain.policy import judge
from cronexec.domain.run import Cause, Run, RunState, backfill_run_id, slot_run_id, slot_text
from cronexec.domain.situation import Effects, named_slots
from cronexec.errors import InvalidDocumentError

DAYS = NOON - timedelta(days=30)


def backfill(since: str = "11:00", until: str = "11:04", **fields: Any) -> BackfillJob:
    return BackfillJob(id=fields.pop("id", "b1"), name="backup", since=at(since), until=at(until), **fields)


def sent() -> dict[str, Any]:
    return {key: value for key, value in backfill().to_document().items() if key != "schema"}


def ran(slot: str, *, cause: Cause = Cause.SCHEDULE, **fields: Any) -> Run:
    name = slot_run_id if cause is Cause.SCHEDULE else backfill_run_id
    given = {"state": RunState.SUCCEEDED, "started_at": at(slot), "cause": cause} | fields
    return queued(name("backup", at(slot)), slot=at(slot), **given)


def ids(effects: Effects) -> list[str]:
    return [entry.id for entry in effects.entries]


def test_every_slot_of_the_range_is_run_both_ends_included() -> None:
    effects = Namespace(job(version=3)).apply(backfill(issued_by="ann"))
    assert ids(effects) == [f"backup#backfill:2026-03-02T11:0{minute}:00Z" for minute in range(5)]
    assert effects.entries[0] == Run(
        id="backup#backfill:2026-03-02T11:00:00Z",
        job="backup",
        version=3,
        slot=at("11:00"),
        state=RunState.QUEUED,
        epoch=9,
        cause=Cause.BACKFILL,
        catch_up=True,
        claimed_at=NOW,
        issued_by="ann",
    )
    assert result(effects) == {"name": "backup", "queued": 5, "ran_before": 0, "excluded": 0, "next": None}


def test_the_slots_before_the_job_was_there_are_those_of_its_schedule_now() -> None:
    effects = Namespace(job({"every": "1h"}, from_at=NOW)).apply(backfill("03:30", "06:00"))
    assert [slot_text(entry.slot) for entry in effects.entries] == [
        "2026-03-02T04:00:00Z",
        "2026-03-02T05:00:00Z",
        "2026-03-02T06:00:00Z",
    ]


def test_one_command_makes_no_more_runs_than_its_limit_and_says_how_to_go_on() -> None:
    namespace = Namespace(job())
    first = namespace.apply(backfill("10:00", "11:00", limit=40))
    assert (result(first)["queued"], result(first)["next"]) == (40, "2026-03-02T10:40:00Z")
    rest = namespace.apply(backfill("10:40", "11:00", id="b2", limit=40))
    assert (result(rest)["queued"], result(rest)["next"]) == (21, None)
    with pytest.raises(InvalidDocumentError, match="at most 500"):
        command_from_fields(sent() | {"limit": 501})


RAN_ALREADY = [
    pytest.param(ran("11:02"), id="it ran by the schedule"),
    pytest.param(ran("11:02", state=RunState.FAILED), id="it failed"),
    pytest.param(ran("11:02", state=RunState.RUNNING), id="it is running"),
    pytest.param(ran("11:02", state=RunState.QUEUED, started_at=None), id="it is still to start"),
    pytest.param(ran("11:02", cause=Cause.BACKFILL), id="it was backfilled"),
]


@pytest.mark.parametrize("known", RAN_ALREADY)
def test_a_range_with_slots_that_ran_already_is_refused_and_they_are_named(known: Run) -> None:
    namespace = Namespace(job(), runs=[known])
    effects = namespace.apply(backfill())
    assert refusal(effects) == ("conflict", "ran")
    assert "1 of 5 slots ran already: 2026-03-02T11:02:00Z;" in effects.reply["error"]["message"]


@pytest.mark.parametrize("known", RAN_ALREADY)
def test_slots_that_ran_already_are_left_out_where_that_is_said(known: Run) -> None:
    effects = Namespace(job(), runs=[known]).apply(backfill(ran="skip"))
    assert at("11:02") not in {entry.slot for entry in effects.entries}
    assert (result(effects)["queued"], result(effects)["ran_before"]) == (4, 1)


NEVER_RAN = [
    pytest.param(ran("11:02", state=RunState.SKIPPED, started_at=None), id="it was skipped"),
    pytest.param(ran("11:02", state=RunState.CANCELLED, started_at=None), id="it was cancelled before"),
    pytest.param(
        replace(ran("11:02"), id="backup#key", cause=Cause.TRIGGER), id="only a trigger came at that instant"
    ),
    pytest.param(replace(ran("11:02"), job="other"), id="it ran for another job"),
]


@pytest.mark.parametrize("known", NEVER_RAN)
def test_slots_that_never_ran_are_run(known: Run) -> None:
    assert result(Namespace(job(), runs=[known]).apply(backfill()))["queued"] == 5


def test_a_slot_that_is_run_once_more_has_a_run_of_its_own() -> None:
    namespace = Namespace(job())
    namespace.apply(backfill("11:00", "11:01"))
    effects = namespace.apply(backfill("11:00", "11:01", id="b2", ran="again"))
    assert ids(effects) == [
        "backup#backfill:2026-03-02T11:00:00Z:b2",
        "backup#backfill:2026-03-02T11:01:00Z:b2",
    ]
    assert result(effects)["ran_before"] == 2


def test_what_the_same_write_claims_has_run_too() -> None:
    claimed = queued(slot_run_id("backup", NOON), slot=NOON)
    effects = Namespace(job(), claimed=[claimed]).apply(backfill("11:59", "12:00"))
    assert refusal(effects) == ("conflict", "ran")


REFUSED = [
    (backfill("11:04", "11:00"), "invalid", "since"),
    (backfill("11:00", "12:01"), "invalid", "until"),
    (backfill().model_copy(update={"name": "nobody"}), "not_found", "name"),
    (backfill(params={"leage": 8}), "invalid", "params.leage"),
]


@pytest.mark.parametrize(("command", "code", "field"), REFUSED)
def test_what_cannot_be_run_is_refused(command: BackfillJob, code: str, field: str) -> None:
    typed = job(params_schema={"properties": {"league": {"type": "integer", "default": 7}}})
    assert refusal(Namespace(typed).apply(command)) == (code, field)


def test_slots_that_the_schedule_excludes_are_left_out() -> None:
    excluding = job({"every": "1h", "exclude": ["2026-03-01"]})
    found = past_slots(excluding.schedule, NOON - timedelta(hours=14), NOON - timedelta(hours=10), 10)
    assert (found.slots[0], found.excluded) == (at("00:00"), 2)


def test_a_range_may_begin_between_two_seconds() -> None:
    schedule = document({"every": 1}).schedule
    assert past_slots(schedule, NOON + SECOND / 2, NOON + 2 * SECOND, 9).slots == (
        NOON + SECOND,
        NOON + 2 * SECOND,
    )


EXTREMES = ["0001-01-01T00:00:00+00:00", "0001-01-01T00:00:00Z", "1969-12-31T23:59:59.5Z"]


@pytest.mark.parametrize("since", EXTREMES)
@pytest.mark.parametrize("until", ["9999-12-31T23:59:59.999999Z", "2026-03-02T11:00:00Z"])
def test_no_range_is_too_wide_to_be_looked_at(since: str, until: str) -> None:
    wide = command_from_fields(sent() | {"since": since, "until": until})
    assert isinstance(wide, BackfillJob)
    for schedule in ({"every": 1}, {"cron": "0 3 29 2 *", "timezone": "Europe/Amsterdam"}, instant("12:00")):
        name, slots = named_slots(wide, {"backup": job(schedule)}) or ("", ())
        assert name == "backup"
        assert all(slot.year >= 1970 for slot in slots)
        assert len(slots) <= 500


def test_an_instant_beyond_the_calendar_is_refused() -> None:
    wrong = sent() | {"since": "0001-01-01T00:00:00+23:00"}
    with pytest.raises(InvalidDocumentError, match="since: expected an instant with its offset"):
        command_from_fields(wrong)


def test_backfills_wait_one_after_the_other_behind_live_slots() -> None:
    namespace = Namespace(job())
    effects = namespace.apply(backfill())
    occupancy = Occupancy()
    ready = [entry.id for entry in effects.entries if occupancy.enter(entry, job().document.overlap)]
    assert ready == ids(effects)[:1]
    live = queued(slot_run_id("backup", NOON))
    assert not occupancy.enter(live, job().document.overlap)
    assert occupancy.settle(ready[0]) == (live,)


def test_backfills_wait_behind_catch_ups_and_take_no_place_from_them() -> None:
    policies = job(misfire={"policy": "latest"}).document
    occupancy = Occupancy()
    running, *backfills = Namespace(job()).apply(backfill()).entries
    for entry in (running, *backfills):
        occupancy.enter(entry, policies.overlap)
    assert occupancy.places("backup").take(policies, catch_up=True)
    missed = queued(slot_run_id("backup", at("11:30")), slot=at("11:30"), catch_up=True)
    assert not occupancy.enter(missed, policies.overlap)
    assert occupancy.settle(running.id) == (missed,)
    assert occupancy.settle(missed.id) == (backfills[0],)


def test_a_backfill_asked_for_since_a_pause_is_wanted_and_one_from_before_is_not() -> None:
    [entry, *_] = Namespace(job()).apply(backfill()).entries
    paused = replace(job(), paused=Pause(since_at=NOW - MINUTE, issued_by="ann", range_id=""))
    assert revoke(entry, paused, NOW) is None
    assert revoke(replace(entry, claimed_at=DAYS), paused, NOW) is not None


def test_the_slots_to_look_up_are_those_of_the_command() -> None:
    jobs = {"backup": job()}
    assert named_slots(backfill("11:00", "11:01"), jobs) == ("backup", (at("11:00"), at("11:01")))
    assert named_slots(backfill(), {}) is None


def test_a_backfill_leaves_the_schedule_as_it_is() -> None:
    effects = apply(backfill(), Namespace(job()).situation())
    assert (effects.job, effects.versions, effects.closes) == (None, (), ())
    due: list[datetime] = [
        each.slot for each in judge(job(), first=NOON, after=NOON - SECOND, until=NOON, judged_at=NOON)
    ]
    assert not any(entry.covers(slot) for entry in effects.entries for slot in due)
