"""What the doctor says of jobs that another release has written or declared."""

from datetime import UTC, datetime
from typing import Any

from cronexec.doctor.finding import Level
from cronexec.doctor.releases import judge_releases
from cronexec.domain.declaration import digest
from cronexec.domain.job import Job, JobDocument
from cronexec.domain.run import Executor
from cronexec.ports import InstanceRecord

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def job(name: str, *, declared: bool = False, unknown: dict[str, Any] | None = None) -> Job:
    given = {"name": name, "schedule": {"every": "1h"}, "target": {"type": "handler", "name": name}}
    document = JobDocument.parse_stored(given | (unknown or {}), list(unknown or {}))
    return Job(document=document, version=1, revision=1, from_at=NOON, updated_at=NOON, declared=declared)


def instance(*handlers: str, declares: tuple[str, ...] = ()) -> InstanceRecord:
    executor = Executor(id="i", name="anna", datacenter="east")
    return InstanceRecord(
        executor=executor, started_at=NOON, beat_at=NOON, handlers=handlers, declares=declares
    )


def test_nothing_is_said_where_all_is_of_one_release() -> None:
    one, by_hand = job("one", declared=True), job("by-hand")
    alive = instance("one", "by-hand", declares=(digest(one.document),))
    assert list(judge_releases([one, by_hand], [alive])) == []


def test_fields_that_are_kept_unread_are_named() -> None:
    (finding,) = judge_releases([job("one"), job("two", unknown={"colour": 1, "sound": 2})], [])
    assert (finding.check, finding.level) == ("jobs.fields", Level.WARN)
    assert "two (colour, sound)" in finding.message


def test_a_declaration_that_no_live_instance_makes_is_named_where_its_handler_is_there() -> None:
    (finding,) = judge_releases([job("one", declared=True), job("gone", declared=True)], [instance("one")])
    assert (finding.check, finding.level) == ("jobs.declared", Level.WARN)
    assert "as they are now: one" in finding.message
    assert "gone" not in finding.message
