"""The checker reads documents, evidence and logs as they are written, and computes slots as it should."""

from datetime import UTC, datetime
from typing import Any

import evidence
import pytest
from checker_due import due, excluded, length
from checker_history import History, entry, read_log
from checker_report import Tolerances
from checker_timeline import timeline
from hypothesis import given, settings
from hypothesis import strategies as st

from cronexec.domain.schedule import Schedule

NIGHT = datetime(2026, 10, 25, 0, 0, tzinfo=UTC).timestamp()  # clocks go back in Europe
SCHEDULES: list[dict[str, Any]] = [
    {"every": "1s"},
    {"every": "7s", "anchor": "2026-01-01T00:00:03+00:00"},
    {"every": "1h30m"},
    {"cron": "* * * * *", "timezone": "Europe/Amsterdam"},
    {"cron": "*/2 * * * * *"},
    {"cron": "10-50/5 * * * * *", "timezone": "America/St_Johns"},
    {"cron": "0 3 * * *", "timezone": "Europe/Amsterdam"},
    {"cron": "30 * * * * *", "start": "2026-10-25T00:10:00+00:00", "end": "2026-10-25T00:20:30+00:00"},
    {"at": "2026-10-25T00:30:00+00:00"},
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_slots_are_those_of_the_schedule_however_the_time_is_split(schedule: dict[str, Any]) -> None:
    until = NIGHT + 7200
    theirs = Schedule.from_document(schedule, name="job")
    expected = [
        int(slot.timestamp())
        for slot in theirs.slots(datetime.fromtimestamp(NIGHT, UTC), datetime.fromtimestamp(until, UTC))
    ]

    @settings(max_examples=20, deadline=None)
    @given(split=st.floats(NIGHT, until))
    def agree(split: float) -> None:
        document = {"schedule": schedule}
        assert due(document, NIGHT, split) + due(document, split, until) == expected

    agree()


@pytest.mark.parametrize(
    ("text", "seconds"), [("1s", 1), ("90s", 90), ("1h30m", 5400), ("2d", 172_800), (5, 5)]
)
def test_lengths_are_read(text: str, seconds: int) -> None:
    assert length(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "1s2", "s", "1.5s"])
def test_what_is_no_length_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no length"):
        length(text)


def test_a_schedule_that_the_checker_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="dst"):
        due({"schedule": {"cron": "0 3 * * *", "dst": {"gap": "skip"}}}, 0, 10)


def test_jitter_changes_no_slot_and_what_is_excluded_is_due() -> None:
    document = {"schedule": {"every": "1s", "jitter": "1s", "exclude": [{"cron": "*/4 * * * * *"}]}}
    assert due(document, 0, 8) == list(range(1, 9))
    assert [slot for slot in range(1, 9) if excluded(document, slot)] == [4, 8]


@pytest.mark.parametrize("exclusion", [{"cron": "* * * * *"}, {"calendar": ["2026-12-24"]}])
def test_an_exclusion_that_the_checker_does_not_know_is_refused(exclusion: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="no exclusion that the checker knows"):
        excluded({"schedule": {"every": "1s", "exclude": [exclusion]}}, 4)


def test_beginnings_and_ends_of_work_are_matched_and_killed_work_has_no_end() -> None:
    one, other = "job 2026-10-25T00:00:00Z 1 3 job@x a1", "job 2026-10-25T00:00:01Z 1 3 job@y a1"
    lines = [
        evidence.mark("began", one, 1.0),
        evidence.mark("began", other, 1.5),
        evidence.ran("job 2026-10-25T00:00:02Z 1 3 job@z -", 2.0, 2.5),
        evidence.mark("ended", one, 3.0),
    ]
    first, second, third = evidence.read(line.decode() for line in lines)
    assert (first.began_at, first.ended_at, first.slot, first.epoch) == (1.0, 3.0, int(NIGHT), 3)
    assert (second.run, second.ended_at) == ("job@y", None)
    assert (third.instance, third.ended_at) == ("-", 2.5)


def test_an_entry_is_read_from_its_document() -> None:
    at = datetime(2026, 10, 25, tzinfo=UTC)
    found = entry(
        {
            "_id": "job@x",
            "job": "job",
            "version": 2,
            "slot": at,
            "state": "abandoned",
            "epoch": 4,
            "attempt": 1,
            "cause": "schedule",
            "started_at": at,
            "executor": {"id": "1", "name": "a1", "datacenter": "east"},
            "outcome": {"state": "abandoned", "reason": "instance_lost"},
        }
    )
    assert (found.executor, found.reason, found.started_at, found.until) == (
        "a1",
        "instance_lost",
        NIGHT,
        None,
    )


def test_a_command_that_was_sent_twice_counts_from_the_first_sending_to_the_first_reply() -> None:
    history = History(watermark=0)
    put = {"type": "job.put", "job": {"name": "job", "schedule": {"every": "1s"}}}
    reply = {"id": "1", "ok": True, "result": {"name": "job", "version": 1, "changed": True}}
    read_log(
        history,
        [
            {"event": "command.sent", "at": 1.0, "id": "1", "sender": "a1", "command": put},
            {"event": "command.failed", "at": 2.0, "id": "1", "why": "…", "confirmed": True},
            {"event": "command.sent", "at": 3.0, "id": "1", "sender": "b1", "command": put},
            {"event": "command.answered", "at": 4.0, "id": "1", "reply": reply},
            {"event": "command.answered", "at": 5.0, "id": "1", "reply": reply},
        ],
    )
    (sent,) = history.commands
    assert (sent.job, sent.sent_at, sent.replied_at, len(sent.replies)) == ("job", 1.0, 4.0, 2)
    states = timeline([sent], {}, tolerance=Tolerances().change)
    assert states.certain(4.0 + 1.3) == states.states[-1]
    assert states.known(4.01, tolerance=Tolerances().change) == states.states[-1], (
        "whoever was answered knows"
    )
    assert states.known(3.9, tolerance=Tolerances().change) == states.states[0]
    assert states.certain(3.0) is None
    assert states.certain(-1.0) == states.states[0]


def test_a_command_without_reply_counts_where_the_audit_log_has_it() -> None:
    history = History(watermark=0)
    command = {"type": "job.put", "job": {"name": "job", "schedule": {"every": "1s"}}}
    read_log(history, [{"event": "command.sent", "at": 1.0, "id": "1", "sender": "a", "command": command}])
    record = {
        "reply": {"id": "1", "ok": True, "result": {"version": 1, "changed": True}},
        "received_at": datetime.fromtimestamp(2, UTC),
    }
    assert len(timeline(history.commands, {}, tolerance=1).states) == 1
    assert timeline(history.commands, {"1": record}, tolerance=1).states[-1].hi == 3.0


def test_a_pause_whose_reply_comes_after_its_end_was_applied_before_it() -> None:
    put = {"type": "job.put", "job": {"name": "job", "schedule": {"every": "1s"}}}
    pause = {"type": "job.pause", "name": "job", "until": "1970-01-01T00:00:40+00:00"}
    history = History(watermark=0)
    for number, (command, sent_at, answered_at) in enumerate([(put, 1.0, 2.0), (pause, 10.0, 60.0)]):
        reply = {"ok": True, "result": {"version": 1, "changed": True}}
        sent = {"event": "command.sent", "id": str(number), "sender": "a1", "command": command}
        answered = {"event": "command.answered", "id": str(number), "reply": reply}
        read_log(history, [sent | {"at": sent_at}, answered | {"at": answered_at}])
    states = timeline(history.commands, {}, tolerance=1.0)
    assert states.clear
    assert (states.states[-2].paused, states.states[-2].lo) == (True, 9.0)
    assert [states.certain(at) for at in (20.0, 39.9)] == [None, None]
    assert states.certain(40.1) == states.states[-1]
    assert not states.states[-1].paused


def test_faults_and_terms_are_read_from_the_log() -> None:
    history = History(watermark=0)
    fault = {"event": "disturbed", "number": 0, "kind": "SIGSTOP", "target": "a1"}
    term = {"event": "term", "watermark": 0.0, "holder": "a1"}
    read_log(
        history,
        [
            {**fault, "at": 1.0},
            {"event": "healed", "at": 2.0, "number": 0},
            {**fault, "at": 3.0, "number": 1},
            {"event": "killed", "at": 4.0, "instance": "a1"},
            {**term, "at": 5.0, "epoch": 1, "seq": 1},
            {**term, "at": 6.0, "epoch": 1, "seq": 2},
            {**term, "at": 7.0, "epoch": 2, "seq": 3},
            {**term, "at": 8.0, "epoch": 3, "seq": 4},
            {**term, "at": 9.0, "epoch": 3, "seq": 5},
        ],
    )
    assert [(one.began_at, one.healed_at) for one in history.disturbances] == [
        (1.0, 2.0),
        (3.0, float("inf")),
    ]
    assert history.killed == {"a1": 4.0}
    assert history.first_claims() == {1: 6.0, 3: 9.0}, "an epoch's first change is its raising"
