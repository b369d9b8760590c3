"""What every `JobStore`, `CommandStore` and `InstanceStore` promises."""

from dataclasses import replace
from typing import Any

import pytest
from bson import encode
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument
from stores import ANNA, BERT, Bench, MemoryBench, MongoBench, begin, document, job, slot_at, version, write
from structlog.testing import capture_logs

from cronexec.domain.job import Pause
from cronexec.errors import InvalidDocumentError
from cronexec.ports import AppliedCommand, EventCount, InstanceRecord, RecordedReply, Store, UnreadableJob


async def test_a_job_comes_back_as_it_was_written(store: Store) -> None:
    rich = replace(
        job("rich", 2, version=4, issued_by="eve", declared=True),
        document=document("rich", params={"a.b": [1, {"$c": None}]}, timeout="10m", labels={"team": "games"}),
        paused=Pause(since_at=slot_at(1), issued_by=None, range_id="rich@x"),
    )
    await write(store, await begin(store), jobs=[rich, job("plain", 1)], revision=2)
    assert await store.jobs.get("rich") == rich
    assert await store.jobs.get("plain") == job("plain", 1)
    assert await store.jobs.get("nothing") is None


async def test_changes_are_read_by_revision_with_tombstones(store: Store) -> None:
    term = await write(store, await begin(store), jobs=[job("a", 1), job("b", 2), job("c", 3)], revision=3)
    deleted = job("a", 4, deleted_at=slot_at(5))
    await write(store, term, jobs=[deleted, job("b", 5)], revision=5)
    assert [one.name for one in await store.jobs.changed_since(0)] == ["c", "a", "b"]
    assert await store.jobs.changed_since(3) == [deleted, job("b", 5)]
    assert await store.jobs.changed_since(5) == []


async def test_deleted_jobs_are_not_listed_until_they_are_put_again(store: Store) -> None:
    term = await write(store, await begin(store), jobs=[job("b", 1), job("a", 2)], revision=2)
    term = await write(store, term, jobs=[job("a", 3, deleted_at=slot_at(5))], revision=3)
    assert [one.name for one in await store.jobs.list()] == ["b"]
    assert await store.jobs.get("a") is None
    await write(store, term, jobs=[job("a", 4, version=2)], revision=4)
    assert [one.name for one in await store.jobs.list()] == ["a", "b"]
    assert await store.jobs.get("a") == job("a", 4, version=2)


async def test_the_history_has_every_version_with_its_time(store: Store) -> None:
    term = await write(store, await begin(store), versions=[version("a", 1, 0), version("b", 1, 0)])
    await write(store, term, versions=[version("a", 1, 0, 60), version("a", 2, 60)])
    assert await store.jobs.versions("a") == [version("a", 1, 0, 60), version("a", 2, 60)]
    assert [(one.name, one.version) for one in await store.jobs.versions()] == [("a", 1), ("a", 2), ("b", 1)]


async def test_versions_that_ended_before_an_instant_can_be_left_out(store: Store) -> None:
    versions = [version("a", 1, 0, 60), version("a", 2, 60, 120), version("a", 10, 120)]
    await write(store, await begin(store), versions=versions)
    assert [one.version for one in await store.jobs.versions("a", since=slot_at(60))] == [2, 10]
    assert [one.version for one in await store.jobs.versions(since=slot_at(59))] == [1, 2, 10]


async def test_a_job_of_an_earlier_name_begins_anew_over_what_retention_left_behind(store: Store) -> None:
    term = await write(store, await begin(store), versions=[version("a", 1, 0, 60)])
    term = await write(
        store, term, jobs=[job("a", 1, issued_by="old")], versions=[version("a", 1, 90)], revision=1
    )
    await write(store, term, jobs=[job("a", 2)], versions=[version("a", 1, 120)], revision=2)
    assert await store.jobs.versions("a") == [version("a", 1, 120)]
    assert await store.jobs.changed_since(0) == [job("a", 2)]


async def test_a_job_may_be_put_changed_and_deleted_by_one_write(store: Store) -> None:
    versions = [version("a", 1, 0), version("a", 1, 0, 60), version("a", 2, 60), version("a", 2, 60, 61)]
    deleted = job("a", 3, version=2, deleted_at=slot_at(61))
    await write(store, await begin(store), jobs=[deleted], versions=versions, revision=3)
    assert await store.jobs.versions("a") == [versions[1], versions[3]]
    assert await store.jobs.changed_since(0) == [deleted]


async def test_some_versions_of_many_jobs_are_read_together(store: Store) -> None:
    versions = [version("b", 1, 0, 60), version("b", 2, 60), version("a", 1, 0), version("c", 1, 0)]
    await write(store, await begin(store), versions=versions)
    found = await store.jobs.versions_of({("b", 1), ("a", 1), ("a", 9), ("nothing", 1)})
    assert found == [version("a", 1, 0), version("b", 1, 0, 60)]
    assert await store.jobs.versions_of([]) == []


async def test_the_history_of_a_deleted_job_stays_to_be_read(store: Store) -> None:
    term = await write(
        store, await begin(store), jobs=[job("a", 1)], versions=[version("a", 1, 0)], revision=1
    )
    deleted = job("a", 2, deleted_at=slot_at(60))
    await write(store, term, jobs=[deleted], versions=[version("a", 1, 0, 60)], revision=2)
    assert await store.jobs.versions("a") == [version("a", 1, 0, 60)]


async def test_a_known_commands_reply_is_found(store: Store) -> None:
    put = AppliedCommand(
        id="c1",
        type="job.put",
        received_at=slot_at(1),
        reply={"ok": True, "result": {"version": 1}},
        document={"job": {"$odd.key": 1}},
        issued_by="eve",
        user="guest",
        epoch=1,
    )
    refused = replace(put, id="c2", received_at=slot_at(2), reply={"ok": False}, issued_by=None, user=None)
    await write(store, await begin(store), commands=[put, refused])
    assert await store.commands.replies(["c1", "c2", "c3"]) == {
        "c1": RecordedReply(reply=put.reply, document=put.document),
        "c2": RecordedReply(reply=refused.reply, document=refused.document),
    }
    assert await store.commands.list() == [refused, put]
    assert await store.commands.list(limit=1) == [refused]


async def test_instances_are_listed_with_the_databases_time_until_they_leave(stores: Bench) -> None:
    store = stores.open()
    await store.terms.prepare()
    anna = InstanceRecord(
        executor=ANNA,
        started_at=slot_at(),
        beat_at=slot_at(-3600),
        handlers=("b", "a"),
        versions={"croniter": "7.0.0", "tzdata": "2026.1"},
        clock_offset_ms=-1.5,
        since_at=slot_at(-1),
        lacks=("handler a", "shell"),
        declares=("0123456789ab",),
        events=(EventCount(event="term.ended", count=2, last_at=slot_at(1)),),
    )
    before = await store.terms.ping()
    await store.instances.beat(replace(anna, executor=BERT))
    await store.instances.beat(anna)
    await store.instances.beat(replace(anna, beat=2, state="holder", running=3, allow_shell=True))
    first, second = await stores.open().instances.list()
    assert first.beat_at >= before
    assert replace(first, beat_at=anna.beat_at) == replace(
        anna, beat=2, state="holder", running=3, allow_shell=True
    )
    assert second.executor == BERT
    await store.instances.leave(BERT.id)
    await store.instances.leave("nobody")
    assert [record.executor for record in await store.instances.list()] == [ANNA]


async def test_an_unreadable_job_is_left_out_and_told_and_the_others_are_read(stores: Bench) -> None:
    store = stores.open()
    jobs = [job("a", 1), job("b", 2), job("c", 3)]
    await write(
        store, await begin(store), jobs=jobs, versions=[version(name, 1, 0) for name in "abc"], revision=3
    )
    await make_unreadable(stores, "b")
    changed: list[UnreadableJob] = []
    listed: list[UnreadableJob] = []
    assert await store.jobs.changed_since(0, report=changed.append) == [jobs[0], jobs[2]]
    assert await store.jobs.list(report=listed.append) == [jobs[0], jobs[2]]
    assert [(each.name, each.revision) for each in changed] == [("b", 2)]
    assert "sundial" in changed[0].why
    assert listed == changed
    assert await store.jobs.list() == [jobs[0], jobs[2]]
    assert [one.name for one in await store.jobs.versions()] == ["a", "c"]
    assert await store.jobs.get("a") == jobs[0]
    with pytest.raises(InvalidDocumentError, match="sundial"):
        await store.jobs.get("b")


async def make_unreadable(stores: Bench, name: str) -> None:
    """Write into the job, and into its first version, what no release of ours knows."""
    if isinstance(stores, MemoryBench):
        stores.database.unreadable[name] = "sundial: there is no such field"
        return
    collections = stores.instance()._writer._collections
    unknown = {"$set": {"document.schedule.sundial": True}}
    await collections.jobs.update_one({"_id": name}, unknown)
    await collections.job_versions.update_one({"_id": f"{name}@1"}, unknown)


@pytest.mark.parametrize(
    "change",
    [
        {"$unset": {"document": ""}},
        {"$set": {"from_at": "yesterday"}},
        {"$set": {"paused": {"unheard": 1}}},
        {"$set": {"document.name": "other"}},
        {"$set": {"document.schedule.timezone": "Mars/Olympus"}},
    ],
    ids=lambda change: next(iter(next(iter(change.values())))),
)
async def test_whatever_is_wrong_with_one_document_it_is_that_jobs_problem_only(
    mongo: MongoBench, change: dict[str, Any]
) -> None:
    store = mongo.open()
    await write(store, await begin(store), jobs=[job("a", 1), job("b", 2)], revision=2)
    await mongo.instance()._writer._collections.jobs.update_one({"_id": "b"}, change)
    told: list[UnreadableJob] = []
    assert await store.jobs.changed_since(0, report=told.append) == [job("a", 1)]
    assert [each.name for each in told] == ["b"]
    assert told[0].why


OVER_LONG = b"\xc0\xaf"  # no UTF-8
YEAR_10000 = DatetimeMS(253_402_300_800_000)


@pytest.mark.parametrize(
    "change",
    [
        {"document.description": b"\xff\xfe"},
        {"issued_by": OVER_LONG},
        {"updated_at": YEAR_10000},
        {"paused": {"since_at": YEAR_10000, "range_id": "x"}},
    ],
    ids=["text in the document", "text beside it", "a date", "a date within"],
)
async def test_bytes_that_the_driver_refuses_are_one_jobs_problem_only(
    mongo: MongoBench, change: dict[str, Any]
) -> None:
    store = mongo.open()
    await write(store, await begin(store), jobs=[job("a", 1), job("b", 2), job("c", 3)], revision=3)
    await corrupt(mongo, "jobs", "b", change)
    told: list[UnreadableJob] = []
    assert await store.jobs.changed_since(0, report=told.append) == [job("a", 1), job("c", 3)]
    assert [(each.name, each.revision) for each in told] == [("b", 2)]
    assert await store.jobs.list() == [job("a", 1), job("c", 3)]
    assert await store.jobs.get("c") == job("c", 3)
    with pytest.raises(InvalidDocumentError, match="cannot be read"):
        await store.jobs.get("b")


async def test_a_version_whose_bytes_the_driver_refuses_is_left_out_and_named(mongo: MongoBench) -> None:
    store = mongo.open()
    await write(store, await begin(store), versions=[version("a", 1, 0), version("b", 1, 0)])
    await corrupt(mongo, "job_versions", "b@1", {"document.owner": OVER_LONG})
    with capture_logs() as events:
        assert await store.jobs.versions() == [version("a", 1, 0)]
    assert [(each["event"], each["job"], each["version"]) for each in events] == [("job.unreadable", "b", 1)]


async def corrupt(mongo: MongoBench, collection: str, document_id: str, change: dict[str, Any]) -> None:
    """Write as a tool does that does not look: bytes are sent as text, UTF-8 or not."""
    documents = getattr(mongo.instance()._writer._collections, collection)
    stand_ins = {field: "~" * len(value) for field, value in change.items() if isinstance(value, bytes)}
    raw = encode({"q": {"_id": document_id}, "u": {"$set": change | stand_ins}})
    for field, stand_in in stand_ins.items():
        raw = raw.replace(stand_in.encode(), change[field])
    await documents.database.command({"update": documents.name, "updates": [RawBSONDocument(raw)]})


async def test_what_nobody_asks_to_be_told_is_logged_once(mongo: MongoBench) -> None:
    store = mongo.open()
    await write(store, await begin(store), jobs=[job("a", 1)], revision=1)
    await mongo.instance()._writer._collections.jobs.update_one({"_id": "a"}, {"$unset": {"document": ""}})
    with capture_logs() as events:
        assert await store.jobs.list() == []
        assert await store.jobs.list() == []
    assert [(each["event"], each["log_level"], each["job"]) for each in events] == [
        ("job.unreadable", "error", "a")
    ]
