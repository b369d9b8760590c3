"""Judges the instances, and the jobs by those that live: whether each can be executed.

An instance lives while its heartbeat is recent by the database's clock; the record of one that was killed
stays for a day, and counts for nothing but to say so. Runs are executed where the baton is, so what only
standbys could execute waits for them to hold.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cronexec.doctor.finding import Finding, fail, ok, warn
from cronexec.domain.job import HandlerTarget, Job, ShellTarget
from cronexec.ports import InstanceRecord, UnreadableJob

LARGEST_OFFSET_MS = 1000
SHOWN = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Roll:
    """Who answers when the instances are called: by their heartbeats, read at one instant."""

    alive: Sequence[InstanceRecord]
    lost: Sequence[InstanceRecord]


def call_roll(instances: Sequence[InstanceRecord], *, now: datetime, lost_after: timedelta) -> Roll:
    """Tell those that live from those that are lost; `now` is the database's clock."""
    alive = [each for each in instances if now - each.beat_at <= lost_after]
    return Roll(alive=alive, lost=[each for each in instances if now - each.beat_at > lost_after])


def judge_lost(roll: Roll) -> Iterator[Finding]:
    """Yield a finding for each instance that ended without taking its leave.

    One whose name is alive again was restarted, and needs nobody.
    """
    names = {each.executor.name for each in roll.alive}
    for each in sorted(roll.lost, key=lambda record: record.beat_at, reverse=True):
        said = f"{each.executor.name} is lost: its last heartbeat was at {each.beat_at:%Y-%m-%d %H:%M:%S} UTC"
        if each.executor.name in names:
            yield ok("instances.lost", f"{said}; it has been started again since")
        else:
            yield warn(
                "instances.lost",
                said,
                "Start it again if it is missed. It was killed or cut off: its log tells. "
                "The record goes by itself after a day.",
            )


def judge_instances(instances: Sequence[InstanceRecord]) -> Iterator[Finding]:
    """Yield what is to be said of the live instances."""
    if not instances:
        yield fail("instances", "no instance is alive", "Start one: cronexec serve.")
        return
    names = ", ".join(sorted(f"{each.executor.name} ({each.state})" for each in instances)[:SHOWN])
    more = f" and {len(instances) - SHOWN} more" if len(instances) > SHOWN else ""
    yield ok("instances", f"{len(instances)} alive: {names}{more}")
    yield from _judge_versions(instances)
    for each in instances:
        if abs(each.clock_offset_ms) > LARGEST_OFFSET_MS:
            yield warn(
                "instances.clock",
                f"the clock of {each.executor.name} is {each.clock_offset_ms:.0f} ms from the database's",
                "Have it set by NTP or chrony.",
            )


def _judge_versions(instances: Sequence[InstanceRecord]) -> Iterator[Finding]:
    for package in sorted({package for each in instances for package in each.versions}):
        holders = defaultdict(list)
        for each in instances:
            holders[each.versions.get(package, "none")].append(each.executor.name)
        if len(holders) > 1:
            said = "; ".join(f"{version} on {_listed(names)}" for version, names in sorted(holders.items()))
            yield warn(
                "instances.versions",
                f"instances differ in {package}: {said}",
                "Install the same: they might compute different slots.",
            )


def judge_jobs(
    jobs: Sequence[Job], instances: Sequence[InstanceRecord], *, holder_id: str | None = None
) -> Iterator[Finding]:
    """Yield what is to be said of the jobs, given the live instances, of which one may hold the baton."""
    able = _Able(instances)
    found = [*_judge_handlers(jobs, able), *_judge_shell(jobs, able)]
    holder = next((each for each in instances if each.executor.id == holder_id), None)
    if holder is not None:
        found += _judge_holder(jobs, able, holder)
    yield from found
    if not found:
        yield ok("jobs", f"{len(jobs)} jobs; each can be executed by a live instance")


class _Able:
    """What some instances can execute together."""

    def __init__(self, instances: Sequence[InstanceRecord]) -> None:
        self._handlers = {name for each in instances for name in each.handlers}
        self.has_shell = any(each.allow_shell for each in instances)

    def executes(self, job: Job) -> bool:
        match job.document.target:
            case HandlerTarget(name=name):
                return name in self._handlers
            case ShellTarget():
                return self.has_shell
        return True


def _judge_handlers(jobs: Sequence[Job], able: _Able) -> Iterator[Finding]:
    without = _those(
        jobs, lambda job: isinstance(job.document.target, HandlerTarget) and not able.executes(job)
    )
    if orphaned := [job.name for job in without if not job.declared]:
        yield fail(
            "jobs.handlers",
            f"no live instance has the handler of {_listed(orphaned)}",
            "Start an instance of the application that registers it, or delete the jobs.",
        )
    if forgotten := [job.name for job in without if job.declared]:
        yield warn(
            "jobs.declared",
            f"declared in code, and no live instance declares it any more: {_listed(forgotten)}",
            "Delete what is not wanted any more: cronexec job delete NAME.",
        )


def _judge_shell(jobs: Sequence[Job], able: _Able) -> Iterator[Finding]:
    shell = [job.name for job in _those(jobs, lambda job: isinstance(job.document.target, ShellTarget))]
    if shell and not able.has_shell:
        yield fail(
            "jobs.shell",
            f"no live instance may run shell commands, and {len(shell)} jobs do: {_listed(shell)}",
            "Set CRONEXEC_ALLOW_SHELL=true on instances that may.",
        )


def _judge_holder(jobs: Sequence[Job], able: _Able, holder: InstanceRecord) -> Iterator[Finding]:
    """Yield what standbys could execute and the holder cannot: it waits, and fails after its grace."""
    alone = _Able([holder])
    if waiting := _those(jobs, lambda job: able.executes(job) and not alone.executes(job)):
        yield fail(
            "jobs.holder",
            f"only standbys can execute, and the holder {holder.executor.name} cannot: "
            f"{_listed([job.name for job in waiting])}",
            "Have every instance that may hold register the same handlers and allow the same targets; "
            "until then let one that can hold the baton: cronexec baton release.",
        )


def _those(jobs: Sequence[Job], wanted: Callable[[Job], bool]) -> list[Job]:
    return [job for job in jobs if wanted(job)]


def judge_unreadable(unreadable: Sequence[UnreadableJob]) -> Iterator[Finding]:
    """Yield a failure if there are jobs that this release cannot read: it does not carry them out."""
    if unreadable:
        names = _listed([each.name for each in unreadable])
        yield fail(
            "jobs.unreadable",
            f"this release cannot read, and does not carry out: {names} ({unreadable[0].why})",
            "Run the release that wrote them, or one with what is missing; then: cronexec ledger verify.",
        )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown
