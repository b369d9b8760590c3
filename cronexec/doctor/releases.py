"""Judges what two releases that share a namespace, or did, have left of each other."""

from collections.abc import Iterator, Sequence

from cronexec.doctor.finding import Finding, warn
from cronexec.domain.declaration import digest
from cronexec.domain.job import HandlerTarget, Job
from cronexec.ports import InstanceRecord

SHOWN = 5


def judge_releases(jobs: Sequence[Job], instances: Sequence[InstanceRecord]) -> Iterator[Finding]:
    """Yield what is to be said of fields and declarations of other releases; `instances` are those alive."""
    yield from _judge_fields(jobs)
    yield from _judge_declarations(jobs, instances)


def _judge_fields(jobs: Sequence[Job]) -> Iterator[Finding]:
    odd = [
        f"{job.name} ({', '.join(job.document.unknown_fields)})"
        for job in jobs
        if job.document.unknown_fields
    ]
    if odd:
        yield warn(
            "jobs.fields",
            f"this release does not know all of, keeps, and carries out without it: {_listed(odd)}",
            "Update the instances to the release that wrote them.",
        )


def _judge_declarations(jobs: Sequence[Job], instances: Sequence[InstanceRecord]) -> Iterator[Finding]:
    """Tell of declared jobs whose handler is there, and whose definition is another release's."""
    declared = {each for instance in instances for each in instance.declares}
    handlers = {each for instance in instances for each in instance.handlers}
    other = [
        job.name
        for job in jobs
        if job.declared
        and isinstance(job.document.target, HandlerTarget)
        and job.document.target.name in handlers
        and digest(job.document) not in declared
    ]
    if other:
        yield warn(
            "jobs.declared",
            f"declared in code, and by no live instance as they are now: {_listed(other)}",
            "An instance that declares them puts its own when it starts; delete what none declares any more.",
        )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown
