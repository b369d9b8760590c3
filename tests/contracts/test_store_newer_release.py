"""Jobs that a newer release has written, in the hands of this one: nothing of them is lost."""

from dataclasses import replace
from typing import Any

import pytest
from stores import MongoBench, begin, document, job, slot_at, version, write

from cronexec.adapters.clock import SystemClock
from cronexec.adapters.mongo_collections import Collection
from cronexec.domain.job import JobDocument, Pause
from cronexec.domain.term import Term
from cronexec.errors import InvalidDocumentError
from cronexec.log import get_logger
from cronexec.ports import Store, UnreadableJob
from cronexec.runtime.jobs import JobTable


@pytest.fixture
def store(mongo: MongoBench) -> Store:
    return mongo.open()


async def there_are(store: Store, *names: str) -> Term:
    jobs = [job(name, number) for number, name in enumerate(names, 1)]
    versions = [version(name, 1, 0) for name in names]
    return await write(store, await begin(store), jobs=jobs, versions=versions, revision=len(names))


def jobs_of(mongo: MongoBench, collection: str = "jobs") -> Collection:
    found: Collection = getattr(mongo.opened[0]._collections, collection)
    return found


async def newer_writes(mongo: MongoBench, name: str, **fields: Any) -> None:
    """Add what a newer release would have written."""
    result = await jobs_of(mongo).update_one({"_id": name}, {"$set": fields})
    assert result.matched_count == 1


async def stored(mongo: MongoBench, name: str) -> dict[str, Any]:
    found = await jobs_of(mongo).find_one({"_id": name})
    assert found is not None
    return dict(found)


async def test_what_a_job_has_besides_what_is_known_stays_when_it_is_changed(
    mongo: MongoBench, store: Store
) -> None:
    term = await there_are(store, "a")
    quiet = {"from": slot_at(5), "by": ["eve", {"why": None}]}
    await newer_writes(mongo, "a", quiet=quiet, paused={"since_at": slot_at(1), "colour": "red"})
    read = await store.jobs.get("a")
    assert read is not None
    assert read.paused is not None
    changed = replace(read, revision=2, issued_by="me", paused=replace(read.paused, reason="holidays"))
    term = await write(store, term, jobs=[changed], revision=2)
    now = await stored(mongo, "a")
    assert (now["quiet"], now["issued_by"], now["revision"]) == (quiet, "me", 2)
    assert now["paused"] == {"since_at": slot_at(1), "colour": "red", "reason": "holidays"}
    await write(store, term, jobs=[replace(changed, revision=3, paused=None)], revision=3)
    now = await stored(mongo, "a")
    assert now["quiet"] == quiet
    assert "paused" not in now
    assert await store.jobs.get("a") == replace(changed, revision=3, paused=None)


async def test_what_a_version_has_besides_stays_when_it_ends(mongo: MongoBench, store: Store) -> None:
    term = await there_are(store, "a")
    versions = jobs_of(mongo, "job_versions")
    await versions.update_one({"_id": "a@1"}, {"$set": {"release": "2.0"}})
    ended, next_one = version("a", 1, 0, 60), version("a", 2, 60)
    await write(store, term, jobs=[job("a", 2, version=2)], versions=[ended, next_one], revision=2)
    found = await versions.find_one({"_id": "a@1"})
    assert found is not None
    assert (found["release"], found["to_at"]) == ("2.0", slot_at(60))
    assert await store.jobs.versions("a") == [ended, next_one]


async def test_known_fields_that_say_nothing_any_more_go(mongo: MongoBench, store: Store) -> None:
    term = await there_are(store, "a")
    paused = Pause(since_at=slot_at(1), issued_by="eve", range_id="a@x", reason="why", owner="ann")
    full = job("a", 2, issued_by="eve", declared=True, paused=paused)
    term = await write(store, term, jobs=[full], revision=2)
    less = replace(full, revision=3, paused=replace(paused, reason=None, owner=None), declared=False)
    await write(store, term, jobs=[less], revision=3)
    assert await store.jobs.get("a") == less
    assert (await stored(mongo, "a")).keys() & {"declared", "blackouts", "skip_next", "deleted_at"} == set()


async def test_ignorable_fields_of_a_definition_are_no_reason_not_to_carry_it_out(
    mongo: MongoBench, store: Store
) -> None:
    term = await there_are(store, "a")
    await newer_writes(mongo, "a", **{"document.colour": {"dark": True}, "ignorable": ["colour"]})
    read = await store.jobs.get("a")
    assert read is not None
    assert read.document.unknown_fields == ["colour"]
    assert read.schedule == job("a", 1).schedule
    paused = replace(read, revision=2, paused=Pause(since_at=slot_at(1), issued_by=None, range_id="a@x"))
    closed = replace(version("a", 1, 0, 60), document=read.document)
    await write(store, term, jobs=[paused], versions=[closed], revision=2)
    now = await stored(mongo, "a")
    assert (now["document"]["colour"], now["ignorable"]) == ({"dark": True}, ["colour"])
    assert await store.jobs.get("a") == paused
    assert await store.jobs.versions("a") == [closed]
    (kept,) = [each async for each in jobs_of(mongo, "job_versions").find({"name": "a"})]
    assert (kept["document"]["colour"], kept["ignorable"]) == ({"dark": True}, ["colour"])


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"document.colour": 1}, id="a field of the definition that is not marked"),
        pytest.param({"document.colour": 1, "ignorable": ["sound"]}, id="another is marked"),
        pytest.param({"document.schedule.colour": 1, "ignorable": ["colour"]}, id="within a known field"),
        pytest.param({"moon": "full", "requires": ["moon", "paused"]}, id="a state that must be known"),
    ],
)
async def test_what_might_change_what_is_run_is_left_to_those_who_know_it(
    mongo: MongoBench, store: Store, fields: dict[str, Any]
) -> None:
    await there_are(store, "a", "b")
    await newer_writes(mongo, "a", **fields)
    met: list[UnreadableJob] = []
    table = JobTable(SystemClock().monotonic, get_logger())
    assert [each.name for each in await store.jobs.list(report=met.append)] == ["b"]
    assert [each.name for each in met] == ["a"]
    with pytest.raises(InvalidDocumentError):
        await store.jobs.get("a")
    await table.refresh(store.jobs, slot_at())
    assert (list(table.unreadable), list(table.jobs)) == (["a"], ["b"])


async def test_this_release_marks_what_is_ignorable_for_older_ones(mongo: MongoBench, store: Store) -> None:
    expecting = document("a", expected="1m")
    jobs = [replace(job("a", 1), document=expecting), job("b", 2)]
    await write(store, await begin(store), jobs=jobs, revision=2)
    assert (await stored(mongo, "a"))["ignorable"] == ["expected"]
    assert "ignorable" not in await stored(mongo, "b")
    assert await store.jobs.get("a") == jobs[0]


def test_a_document_with_what_is_kept_is_another_than_the_one_without() -> None:
    given = document("a").to_document()
    kept = JobDocument.parse_stored(given | {"colour": 1}, ["colour"])
    assert kept != document("a")
    assert kept.to_json() != document("a").to_json()
    assert JobDocument.parse_stored(kept.to_document(), ["colour"]) == kept
    assert JobDocument.parse_stored(given, ["colour", "schedule"]) == document("a")
