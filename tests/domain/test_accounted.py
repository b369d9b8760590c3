"""Whatever comes when: a ledger as holders write it, and what `ledger verify` says of it (I1)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st
from sample_jobs import NIGHTS, NOON, SECOND, decided, job, overlaps, queued
from sample_namespace import put

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
)
from cronexec.domain.job import Job, JobVersion
from cronexec.domain.ledger import Claiming, claim
from cronexec.domain.occupancy import Occupancy
from cronexec.domain.plan import Plan
from cronexec.domain.run import Run, SkipReason
from cronexec.domain.situation import Situation
from cronexec.domain.verification import verify_job

Said = dict[tuple[int, datetime], tuple[str, str | None] | None]  # by version and slot
BY_POLICY = {SkipReason.MISFIRE, SkipReason.OVERLAP}


class Holder:
    """Decides one job as the scheduler does: slots up to now, then a command, in one write."""

    def __init__(self, planned: Job, *, busy: bool = False) -> None:
        self.at = planned.from_at
        self.jobs = {planned.name: planned}
        self.plan = Plan()
        self.plan.put(planned, after=self.at)
        self.ledger: dict[str, Run] = {}
        self.versions = {1: _opened(planned)}
        self._occupancy = Occupancy()
        if busy:
            self._occupancy.occupy(queued("backup@before"))

    def fail_over(self) -> None:
        """Let another holder find the job in the database, and plan it from where the ledger reaches."""
        self.plan = Plan()
        claims = (entry for entry in self.ledger.values() if entry.reason != SkipReason.PAUSED)
        reach = [entry.until or entry.slot for entry in claims]
        for planned in self.jobs.values():
            self.plan.put(planned, after=max([self.at, *reach]))

    def tick(self, until: datetime, command: Command | None = None, *, dies_after: int | None = None) -> None:
        """Decide up to `until`; a holder that dies has written its first entries, and nothing else."""
        self.plan.compute(100)
        due = self.plan.due(until)
        claiming = Claiming(epoch=1, until=until, judged_at=until)
        entries = [entry for item in due for entry in decided(claim(item, claiming, self._occupancy))]
        self._write(entries if dies_after is None else entries[:dies_after])
        if dies_after is not None:
            self.fail_over()
            return
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

    def said_of(self, slots: Iterable[tuple[int, datetime]]) -> Said:
        """Return why slots of a version were skipped by somebody's will, or None; each has one entry."""
        wanted = list(slots)
        since = min((slot for _, slot in wanted), default=self.at)
        entries = [
            entry
            for entry in self.ledger.values()
            if entry.open_ended or (entry.until or entry.slot) >= since
        ]
        found: Said = {}
        for version, slot in wanted:
            (entry,) = (each for each in entries if each.version == version and each.covers(slot))
            by_will = entry.reason is not None and entry.reason not in BY_POLICY
            found[version, slot] = (str(entry.reason), entry.note) if by_will else None
        return found

    def _write(self, entries: Iterable[Run]) -> None:
        for entry in entries:
            assert entry.id not in self.ledger
            self.ledger[entry.id] = entry
            is_held = entry.not_before is not None
            assert not is_held or entry.not_before == self._starts_at(entry)

    def _starts_at(self, entry: Run) -> datetime | None:
        return self.jobs[entry.job].schedule.starts_at(entry.slot, job=entry.job)


def _opened(planned: Job) -> JobVersion:
    return JobVersion(
        name=planned.name,
        version=planned.version,
        document=planned.document,
        from_at=planned.from_at,
        to_at=None,
    )


def text(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")


# What is drawn says how it is made at an instant: strategies that are made anew for each draw take long.

BEGINNINGS = (NOON, *(datetime.fromisoformat(night) for night in NIGHTS))
CRONS = ("*/4 * * * *", "0-20 */7 * * * *", "* 1 * * *", "*/14 * * * * *")
Exclude = Callable[[datetime], Any]
RECURRENCES: list[dict[str, Any]] = [
    {"every": "1m"},
    {"every": "7s"},
    {"every": "3m"},
    {"cron": "*/2 * * * *"},
    {"cron": "H/3 * * * *"},
    {"cron": "*/5 1,2,3 * * *", "timezone": "Europe/Amsterdam"},
    {"cron": "*/5 1,2,3 * * *", "timezone": "Europe/Amsterdam", "dst": {"gap": "skip", "fold": "both"}},
    {"cron": "*/7 1,2 * * *", "timezone": "Australia/Lord_Howe", "dst": {"fold": "second"}},
]


lengths = st.integers(0, 400).map(lambda seconds: timedelta(seconds=seconds))


def _stretch(both: list[int]) -> Exclude:
    return lambda begin: "/".join(text(begin + seconds * SECOND) for seconds in sorted(both))


def _cron(cron: str) -> Exclude:
    return lambda _: {"cron": cron}


def _day(_: None) -> Exclude:
    return lambda begin: {"calendar": [text(begin)[:10]]}


def _schedule(
    recurrence: dict[str, Any], exclude: list[Exclude], jitter: str | None
) -> Callable[[datetime], dict[str, Any]]:
    jittered = {"jitter": jitter} if jitter else {}
    excluding = {"exclude": exclude} if exclude else {}
    return lambda begin: (
        recurrence | jittered | {key: [each(begin) for each in given] for key, given in excluding.items()}
    )


def _once(seconds: int) -> Callable[[datetime], dict[str, Any]]:
    return lambda begin: {"at": text(begin + seconds * SECOND)}


exclusions = st.one_of(
    st.lists(st.integers(0, 4_000), min_size=2, max_size=2).map(_stretch),
    st.sampled_from(CRONS).map(_cron),
    st.none().map(_day),
)
recurrences = st.builds(
    _schedule,
    st.sampled_from(RECURRENCES),
    st.just([]) | st.lists(exclusions, max_size=3),
    st.sampled_from([None, "5s"]),
)
schedules = recurrences | st.integers(-300, 300).map(_once)
misfires = st.builds(
    lambda policy, grace, window, limit: (
        {"policy": policy, "grace": grace, "limit": limit} | ({"window": window} if window else {})
    ),
    st.sampled_from(["latest", "all", "skip"]),
    st.sampled_from(["0s", "20s", "1m", "5m"]),
    st.sampled_from([None, "6m"]),
    st.integers(1, 5),
)


NAMED: dict[str, Any] = {"id": "c", "name": "backup"}
Made = Callable[[datetime], Command | None]


def _pause(until: int | None, why: str | None) -> Made:
    return lambda now: PauseJob(**NAMED, until=None if until is None else now + until * SECOND, reason=why)


def _blackout(start: int | None, end: int) -> Made:
    return lambda now: BlackoutJob(
        **NAMED, start=None if start is None else now + start * SECOND, end=now + end * SECOND
    )


def _put(schedule: Callable[[datetime], dict[str, Any]], misfire: dict[str, Any], overlap: Any) -> Made:
    return lambda now: put(schedule(now), misfire=misfire, overlap=overlap)


def _plain(command: Command | None) -> Made:
    return lambda _: command


seconds = st.integers(1, 400)
commands = st.one_of(
    st.builds(_pause, st.none() | seconds, st.sampled_from([None, "why"])),
    st.builds(_blackout, st.none() | st.integers(-200, 0), seconds),
    st.builds(_put, schedules, misfires, overlaps),
    st.sampled_from(
        [
            _plain(None),
            _plain(ResumeJob(**NAMED)),
            _plain(UnblackoutJob(**NAMED)),
            _plain(DeleteJob(**NAMED)),
            *(_plain(SkipSlots(**NAMED, count=count)) for count in range(5)),
        ]
    ),
)


@dataclass(frozen=True, kw_only=True)
class Tick:
    """What comes after `length`. `dies_after`: so many entries are written before a holder is lost, first."""

    length: timedelta
    command: Made
    dies_after: int | None
    fails_over: bool


ticks = st.builds(
    Tick,
    length=st.builds(lambda length, ms: length + timedelta(milliseconds=ms), lengths, st.integers(1, 999)),
    command=commands,
    dies_after=st.sampled_from([None, None, None, 0, 1, 3]),
    fails_over=st.booleans(),
)


@given(
    begin=st.sampled_from(BEGINNINGS),
    schedule=recurrences,
    overlap=overlaps,
    misfire=misfires,
    steps=st.lists(ticks, min_size=1, max_size=14),
    busy=st.booleans(),
)
@settings(max_examples=120, derandomize=True, deadline=None)
def test_every_slot_has_one_entry_whatever_features_controls_and_failovers_come_when(
    begin: datetime,
    schedule: Callable[[datetime], dict[str, Any]],
    overlap: Any,
    misfire: dict[str, Any],
    steps: list[Tick],
    *,
    busy: bool,
) -> None:
    """And what the job said it would skip was skipped, for that reason."""
    holder = Holder(job(schedule(begin), from_at=begin, overlap=overlap, misfire=misfire), busy=busy)
    for step in steps:
        until = holder.at + step.length
        if step.dies_after is not None:
            holder.tick(until, dies_after=step.dies_after)
            until += step.length
        said = foretold(holder.jobs["backup"], holder.at, until)
        holder.tick(until, step.command(until))
        assert holder.said_of(said) == said
        if step.fails_over:
            holder.fail_over()
    holder.tick(holder.at + timedelta(seconds=900))

    entries = sorted(holder.ledger.values(), key=lambda entry: entry.slot)
    found = verify_job(holder.versions.values(), entries, watermark=holder.at, since=begin)
    for reason in found.skips:
        event(reason)
    assert found.ok, found
    assert found.due == found.run + found.skipped


def foretold(planned: Job, after: datetime, until: datetime) -> Said:
    """Return what the job says of its slots in (after, until]: why it will skip them, or None."""
    if planned.deleted_at is not None:
        return {}
    slots = planned.schedule.slots(after, until)
    whys = ((slot, planned.will_skip(slot)) for slot in slots)
    return {(planned.version, slot): (why.reason.value, why.note) if why else None for slot, why in whys}
