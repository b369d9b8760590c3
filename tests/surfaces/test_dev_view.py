"""What the live view shows of a snapshot, and what the totals count; nothing is started."""

import io
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from cronexec.dev.failover import FailoverLog
from cronexec.dev.snapshot import Failover, Snapshot, Timetable, Totals, Upcoming, latest, total
from cronexec.dev.view import Scene, draw
from cronexec.domain.job import Job, JobDocument, Pause
from cronexec.domain.run import Cause, Executor, Outcome, Progress, Run, RunState
from cronexec.domain.schedule import Schedule
from cronexec.domain.term import TermRecord
from cronexec.ports import InstanceRecord

NOW = datetime(2026, 5, 4, 12, 0, 30, tzinfo=UTC)
PLACES = {"ams-1": "ams", "ams-2": "ams", "fra-1": "fra"}
EXECUTORS = {name: Executor(id=f"id-{name}", name=name, datacenter=where) for name, where in PLACES.items()}
TERM = TermRecord(
    epoch=7,
    seq=90,
    watermark=NOW - timedelta(milliseconds=400),
    revision=3,
    holder_id="id-ams-2",
    holder_name="ams-2",
    datacenter="ams",
    since_at=NOW - timedelta(minutes=3, seconds=20),
    read_at=NOW,
)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def run(job: str, seconds: float, state: RunState, **fields: object) -> Run:
    slot = at(seconds)
    return replace(Run(id=f"{job}@{slot}", job=job, version=1, slot=slot, state=state, epoch=7), **fields)  # type: ignore[arg-type]


def running(job: str, where: str = "ams-2", progress: Progress | None = None) -> Run:
    return run(job, -5, RunState.RUNNING, executor=EXECUTORS[where], started_at=at(-5), progress=progress)


def ended(job: str, seconds: float, state: RunState = RunState.SUCCEEDED, *, took: float = 1.0) -> Run:
    started = at(seconds) + timedelta(milliseconds=12)
    return run(
        job,
        seconds,
        state,
        executor=EXECUTORS["fra-1"],
        started_at=started,
        finished_at=started + timedelta(seconds=took),
    )


def instance(name: str, state: str, *, beat_age: float = 1) -> InstanceRecord:
    return InstanceRecord(
        executor=EXECUTORS[name], started_at=at(-200), beat_at=at(-beat_age), state=state, running=2
    )


def scene(**fields: object) -> Scene:
    instances = [instance("ams-1", "standby"), instance("ams-2", "holder"), instance("fra-1", "draining")]
    snapshot = Snapshot(
        term=TERM,
        instances=instances,
        running=[running("import", progress=Progress(done=30, total=40, message="articles"))],
        latest=[ended("close-league", -9)],
        upcoming=[Upcoming(slot=at(90), job="backup")],
        totals=Totals(due=350, run=340, skipped=10, failed=2, late_p50=0.008, late_p99=1.5),
        jobs=363,
        kinds={"close-league": "webhook"},
    )
    return replace(Scene(snapshot=snapshot, places=PLACES), **fields)  # type: ignore[arg-type]


def screen(shown: Scene, *, width: int = 80, height: int = 24) -> list[str]:
    """Return the lines that a terminal of this size would show."""
    file = io.StringIO()
    console = Console(file=file, width=width, height=height, force_terminal=True, color_system=None)
    console.print(draw(shown, width=width, height=height), end="")
    return file.getvalue().splitlines()


def line_with(text: str, lines: Iterable[str]) -> str:
    found = [line for line in lines if text in line]
    assert found, f"no line has {text!r}"
    return found[0]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (120, 40), (220, 60)])
def test_the_view_fills_a_terminal_exactly_with_little_or_much_to_show(width: int, height: int) -> None:
    little = scene()
    much = scene(
        snapshot=replace(
            little.snapshot,
            running=[running(f"job-with-a-rather-long-name-{number}") for number in range(99)],
            latest=[ended(f"another-job-with-a-rather-long-name-{number}", -9) for number in range(99)],
            upcoming=[Upcoming(slot=at(number), job=f"soon-{number}") for number in range(99)],
        )
    )

    for shown in (little, much):
        lines = screen(shown, width=width, height=height)
        assert len(lines) == height
        assert max(len(line) for line in lines) <= width
        assert lines[-1].startswith("Ctrl-C stops everything")


def test_the_head_says_who_holds_since_when_and_how_far_the_schedule_is_behind() -> None:
    lines = screen(
        scene(failovers=[Failover(at=NOW, holder="ams-2", epoch=7, took=timedelta(milliseconds=43))])
    )

    assert lines[0].strip() == "baton ams-2 (ams)  epoch 7  for 3 m 20 s  lag 400 ms  failovers 1, last 43 ms"
    assert (
        lines[1].strip() == "last minute: 350 due, 340 run, 10 skipped, 2 failed  late p50 8 ms, p99 1.50 s"
    )


def test_each_instance_has_a_line_with_its_state_and_its_heartbeat() -> None:
    lines = screen(scene(down=frozenset({"ams-1"})))

    assert line_with("ams-1 ", lines[3:]).split() == ["ams-1", "ams", "down", "-", "-"]
    assert line_with("fra-1 ", lines[3:]).split() == ["fra-1", "fra", "draining", "2", "1", "s", "ago"]


def test_a_run_with_progress_has_a_bar_and_one_without_its_age() -> None:
    with_both = replace(scene().snapshot, running=[*scene().snapshot.running, running("reindex")])
    lines = screen(scene(snapshot=with_both))

    assert "━" in line_with("import ", lines)
    assert "75% articles" in line_with("import ", lines)
    assert "for 5.00 s" in line_with("reindex", lines)


def test_what_a_run_says_of_itself_is_shown_as_it_is() -> None:
    told = [
        running("counted", progress=Progress(done=1, total=4, message="[/a]")),
        running("uncounted", progress=Progress(done=1, total=None, message="[bold]b")),
    ]
    lines = screen(scene(snapshot=replace(scene().snapshot, running=told)))

    assert "25% [/a]" in line_with("counted", lines)
    assert "[bold]b" in line_with("uncounted", lines)


def test_a_run_whose_instance_is_down_says_so_below_the_others() -> None:
    shown = replace(scene().snapshot, running=[running("lost", "ams-1"), running("alive")])
    lines = screen(scene(snapshot=shown, down=frozenset({"ams-1"})))

    assert "its instance died" in line_with("lost", lines)
    assert lines.index(line_with("alive", lines)) < lines.index(line_with("lost", lines))


def test_a_last_run_has_its_kind_outcome_lateness_length_and_instance() -> None:
    line = line_with("close-league", screen(scene()))

    assert line.split() == ["12:00:21", "close-league", "hook", "succeeded", "12", "ms", "1.00", "s", "fra-1"]


def test_a_wide_terminal_shows_the_reason_of_a_failure() -> None:
    outcome = Outcome(state=RunState.FAILED, error="503 Service Unavailable")
    failed = replace(ended("ping", -9, RunState.FAILED), outcome=outcome)

    assert "503 Service Unavailable" in line_with(
        "ping", screen(scene(snapshot=replace(scene().snapshot, latest=[failed])), width=130, height=40)
    )


def test_totals_count_each_slot_of_a_range_entry() -> None:
    every_second = Schedule.from_document({"every": "1s"}, name="tick")
    runs = [
        ended("tick", -1),
        run("tick", -2, RunState.QUEUED),
        ended("tick", -3, RunState.TIMED_OUT),
        ended("tick", -4, RunState.ABANDONED),
        run("tick", -20, RunState.SKIPPED, until=at(-11)),
        run("other", -30, RunState.SKIPPED),
        run("tick", -1, RunState.SUCCEEDED, cause=Cause.TRIGGER),
    ]

    counted = total(runs, NOW, {"tick": every_second})

    assert (counted.due, counted.run, counted.waiting, counted.skipped) == (15, 3, 1, 11)
    assert (counted.failed, counted.abandoned) == (1, 1)
    assert counted.late_p99 == pytest.approx(0.012)


def test_the_latest_runs_are_those_that_ended_last_whatever_their_slot() -> None:
    runs = [
        ended("short", -5),
        ended("long", -40, took=39),
        running("open"),
        run("skip", -3, RunState.SKIPPED),
    ]

    assert [each.job for each in latest(runs, 10)] == ["long", "skip", "short"]


def test_the_timetable_follows_changes_pauses_and_deletions() -> None:
    timetable = Timetable()
    timetable.update([job("a", "10s", 1), job("b", "15s", 2), job("c", "20s", 3)])
    assert [each.job for each in timetable.next_slots(NOW, 2)] == ["a", "c"]

    paused = replace(job("c", "20s", 4), paused=Pause(since_at=NOW, issued_by=None, range_id="c@x..4"))
    timetable.update([replace(job("a", "10s", 5), deleted_at=NOW), paused])

    assert timetable.next_slots(NOW, 9) == [Upcoming(slot=at(15), job="b")]
    assert timetable.next_slots(at(15), 9) == [Upcoming(slot=at(30), job="b")]
    assert timetable.revision == 5


def job(name: str, every: str, revision: int) -> Job:
    document = JobDocument.parse(
        {"name": name, "schedule": {"every": every}, "target": {"type": "shell", "command": "true"}}
    )
    return Job(document=document, version=1, revision=revision, from_at=at(-99), updated_at=at(-99))


def test_a_handover_is_counted_once_whether_it_was_seen_or_timed_first() -> None:
    log = FailoverLog()
    log.saw(TERM)
    log.saw(replace(TERM, epoch=8, holder_name="fra-1"))
    log.timed(replace(TERM, epoch=8, holder_name="fra-1"), "ams-2", timedelta(milliseconds=40))
    log.timed(replace(TERM, epoch=9), "fra-1", timedelta(milliseconds=50))
    log.saw(replace(TERM, epoch=9))

    assert [(each.epoch, each.killed) for each in log.failovers] == [(8, "ams-2"), (9, "fra-1")]
