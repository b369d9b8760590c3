"""Judges the live instances, and the jobs by them: whether each can be executed somewhere."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from cronexec.doctor.finding import Finding, fail, ok, warn
from cronexec.domain.job import HandlerTarget, Job, ShellTarget
from cronexec.ports import InstanceRecord, UnreadableJob

LARGEST_OFFSET_MS = 1000
SHOWN = 5


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


def judge_jobs(jobs: Sequence[Job], instances: Sequence[InstanceRecord]) -> Iterator[Finding]:
    """Yield what is to be said of the jobs, given the live instances."""
    handlers = {name for each in instances for name in each.handlers}
    without_handler = [
        job
        for job in jobs
        if isinstance(job.document.target, HandlerTarget) and job.document.target.name not in handlers
    ]
    forgotten = [job.name for job in without_handler if job.declared]
    orphaned = [job.name for job in without_handler if not job.declared]
    shell = [job.name for job in jobs if isinstance(job.document.target, ShellTarget)]
    if orphaned:
        yield fail(
            "jobs.handlers",
            f"no live instance has the handler of {_listed(orphaned)}",
            "Start an instance of the application that registers it, or delete the jobs.",
        )
    if forgotten:
        yield warn(
            "jobs.declared",
            f"declared in code, and no live instance declares it any more: {_listed(forgotten)}",
            "Delete what is not wanted any more: cronexec job delete NAME.",
        )
    if shell and not any(each.allow_shell for each in instances):
        yield fail(
            "jobs.shell",
            f"no live instance may run shell commands, and {len(shell)} jobs do: {_listed(shell)}",
            "Set CRONEXEC_ALLOW_SHELL=true on instances that may.",
        )
    if not (orphaned or forgotten) and (not shell or any(each.allow_shell for each in instances)):
        yield ok("jobs", f"{len(jobs)} jobs; each can be executed by a live instance")


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
