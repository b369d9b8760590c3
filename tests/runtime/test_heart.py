"""The heart: what an instance tells of itself, and until when it may believe that the others believe it."""

from typing import Any

import pytest
from bench import Bench, document, pass_time, slot_id, until
from faults import away, fails, loses_answer
from virtual_time import freeze

from cronexec.domain.run import RunState
from cronexec.runtime.heart import Heart

pytestmark = pytest.mark.virtual_time


async def test_a_beat_rises_and_carries_the_state(bench: Bench) -> None:
    anna = await bench.holder("anna")
    (first,) = bench.database.instances.values()
    await pass_time(11)
    (later,) = bench.database.instances.values()
    assert later.beat > first.beat
    assert (later.state, later.executor.name) == ("holder", "anna")
    assert later.beat_at > first.beat_at
    assert anna.instance.heart.is_alive()


async def test_a_failed_beat_is_tried_again_soon(bench: Bench) -> None:
    anna = await bench.holder("anna")
    anna.faults.next("instances.beat", fails(away()), fails(away()))
    await until(lambda: len(anna.said("instance.beat_failed")) == 2, lambda: anna.events)
    before = max(record.beat for record in bench.database.instances.values())
    await pass_time(1.1)
    assert max(record.beat for record in bench.database.instances.values()) > before


async def test_an_instance_is_alive_for_as_long_as_the_others_may_believe_it(bench: Bench) -> None:
    anna = bench.make("anna")
    heart = Heart(anna.context, state=lambda: "standby", running=lambda: 0)
    assert not heart.is_alive()  # before the first beat
    await bench.prepare()
    await heart.beat()
    await pass_time(59.9)
    assert heart.is_alive()
    await pass_time(0.2)
    assert not heart.is_alive()


async def test_a_beat_counts_from_its_start_and_only_when_it_was_answered(bench: Bench) -> None:
    anna = bench.make("anna")
    await bench.prepare()
    heart = Heart(anna.context, state=lambda: "standby", running=lambda: 0)

    async def slow(call: Any) -> object:
        freeze(59)
        return await call()

    anna.faults.next("instances.beat", slow)
    await heart.beat()
    assert heart.is_alive()
    await pass_time(2)
    assert not heart.is_alive()
    anna.faults.next("instances.beat", loses_answer(away()))
    with pytest.raises(type(away())):
        await heart.beat()
    assert not heart.is_alive()


async def test_an_instance_that_cannot_beat_starts_nothing_until_it_can(bench: Bench) -> None:
    anna = await bench.holder("anna")
    await bench.put(document("backup", {"every": "1s"}))
    await pass_time(3)
    anna.faults.always("instances.beat", fails(away()))
    await pass_time(62)
    begun = len(bench.evidence)
    await pass_time(20)
    assert len(bench.evidence) == begun
    assert anna.said("run.given_back")
    anna.faults.always("instances.beat", None)
    await until(lambda: len(bench.evidence) > begun, bench.begun)
    await bench.verified()


async def test_a_draining_instance_beats_and_leaves_in_the_end(bench: Bench) -> None:
    anna = await bench.holder("anna")
    await bench.put(document("long"))
    anna.targets.held.add("long")
    await anna.targets.began(slot_id("long", 10))
    anna.instance.candidate.stop()
    anna.instance._draining = True
    await pass_time(90)
    (record,) = bench.database.instances.values()
    assert (record.state, record.running) == ("draining", 1)
    assert (bench.clock.now() - record.beat_at).total_seconds() < 6
    anna.targets.end(slot_id("long", 10))
    await anna.stop()
    assert bench.database.instances == {}
    assert bench.state(slot_id("long", 10)) is RunState.SUCCEEDED


async def test_a_beat_that_is_never_answered_is_told_and_tried_again(bench: Bench) -> None:
    anna = await bench.holder()
    held = anna.faults.hold("instances.beat")
    await held.arrived()
    await until(lambda: anna.said("instance.beat_hangs"), lambda: anna.events[-3:], within=90)
    await pass_time(10)
    assert anna.instance.heart.is_alive()
