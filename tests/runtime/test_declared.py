"""What two releases of an application declare differently, while both run: the later one's is put once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from bench import Bench, document, pass_time, recording_log, until

from cronexec.adapters.memory_broker import MemoryBroker
from cronexec.client import Client
from cronexec.declared import Declarations
from cronexec.domain.run import Executor
from cronexec.ports import InstanceRecord

pytestmark = pytest.mark.virtual_time


class Release:
    """An application that declares one job in its own way, and the instances of it."""

    def __init__(self, bench: Bench, every: str, **fields: Any) -> None:
        self.bench = bench
        self.every = every
        self.fields = fields
        self.events: list[dict[str, Any]] = []

    def declarations(self) -> Declarations:
        declared = Declarations()
        declared.job("tidy", every=self.every, **self.fields)(lambda _: None)
        return declared

    @asynccontextmanager
    async def instance(self, name: str) -> AsyncIterator[None]:
        """Let one be started, put what it declares, and beat as long as it lives."""
        declared = self.declarations()
        client = Client(store=self.bench.store, broker=MemoryBroker(self.bench.hub), issued_by=name)
        tasks = [
            asyncio.create_task(self._beat(name, declared)),
            asyncio.create_task(declared.keep_put(client, recording_log(self.events))),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            self.bench.database.instances.pop(name, None)

    async def _beat(self, name: str, declared: Declarations) -> None:
        clock = self.bench.clock
        record = InstanceRecord(
            executor=Executor(id=name, name=name, datacenter="east"),
            started_at=clock.now(),
            beat_at=clock.now(),
            declares=declared.digests(),
        )
        while True:
            self.bench.database.instances[name] = replace(record, beat_at=clock.now())
            await asyncio.sleep(5)


def tidy(bench: Bench) -> tuple[int, str] | None:
    job = bench.database.jobs.get("tidy")
    return None if job is None else (job.version, str(job.document.to_document()["schedule"]["every"]))


async def becomes(bench: Bench, version: int, every: str, within: float = 30.0) -> None:
    await until(lambda: tidy(bench) == (version, every), lambda: tidy(bench), within)


async def test_the_later_release_is_put_once_however_often_the_earlier_one_is_started(bench: Bench) -> None:
    await bench.holder("anna")
    old, new = Release(bench, "1h"), Release(bench, "2h")
    async with old.instance("old-1"):
        await becomes(bench, 1, "1h")
        async with new.instance("new-1"):
            await becomes(bench, 2, "2h")
            for _ in range(3):
                async with old.instance("old-2"), new.instance("new-2"):
                    await pass_time(25)
        assert tidy(bench) == (2, "2h")
    assert [event["why"] for event in old.events if event["event"] == "job.declaration_waits"] == [
        "new-1 declares a later version, 2"
    ] * 3


async def test_a_rollback_is_put_when_the_last_of_the_later_release_has_gone(bench: Bench) -> None:
    await bench.holder("anna")
    old, new = Release(bench, "1h"), Release(bench, "2h")
    async with old.instance("old-1"):
        await becomes(bench, 1, "1h")
    async with new.instance("new-1"), new.instance("new-2"):
        await becomes(bench, 2, "2h")
        back = old.instance("old-2")
        await back.__aenter__()
        await pass_time(60)
        assert tidy(bench) == (2, "2h")
    await becomes(bench, 3, "1h", within=15)
    await back.__aexit__(None, None, None)


async def test_an_instance_of_the_later_release_that_was_killed_holds_up_a_rollback_until_it_is_lost(
    bench: Bench,
) -> None:
    await bench.holder("anna")
    old, new = Release(bench, "1h"), Release(bench, "2h")
    async with old.instance("old-1"):
        await becomes(bench, 1, "1h")
        async with new.instance("new-1"):
            await becomes(bench, 2, "2h")
            left = bench.database.instances["new-1"]
        bench.database.instances["new-1"] = left
        async with old.instance("old-2"):
            await pass_time(40)
            assert tidy(bench) == (2, "2h")
            await becomes(bench, 3, "1h", within=40)


async def test_what_a_person_put_is_no_release_and_what_is_declared_wins_at_a_start(bench: Bench) -> None:
    await bench.holder("anna")
    old, new = Release(bench, "1h"), Release(bench, "2h")
    async with old.instance("old-1"):
        await becomes(bench, 1, "1h")
        async with new.instance("new-1"):
            await becomes(bench, 2, "2h")
            by_hand = document("tidy", {"every": "3h"})
            await bench.put(by_hand)
            async with old.instance("old-2"):
                await becomes(bench, 4, "1h")


async def test_both_put_at_the_same_time_and_one_is_the_later(bench: Bench) -> None:
    await bench.holder("anna")
    first, second = Release(bench, "1h"), Release(bench, "2h")
    async with first.instance("a-1"), second.instance("b-1"), first.instance("a-2"), second.instance("b-2"):
        await pass_time(60)
        settled = tidy(bench)
        assert settled is not None
        assert settled[0] == 2
        for release in (first, second, first):
            async with release.instance("again"):
                await pass_time(25)
        assert tidy(bench) == settled


async def test_what_a_holder_of_another_release_refuses_is_sent_to_the_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    release = Release(bench, "1h")
    refused = bench.hub.queues["commands"]
    put = refused.put

    def as_an_older_holder_reads_it(message: Any) -> None:
        """Have what arrives while anna holds be of a release that she does not know."""
        if anna.term is not None:
            message = replace(message, body=message.body.replace(b'"every"', b'"unheard_of":1,"every"'))
        put(message)

    monkeypatch.setattr(refused, "put", as_an_older_holder_reads_it)
    async with release.instance("new-1"):
        await until(
            lambda: [each for each in release.events if each["event"] == "job.declaration_refused"],
            lambda: release.events,
        )
        await pass_time(60)
        assert len([each for each in release.events if each["event"] == "job.declaration_refused"]) == 1
        await anna.stop()
        await bert.holding()
        await becomes(bench, 1, "1h", within=15)
