"""Draining: what one instance is told to do through the control exchange, and what its record shows of it."""

import pytest
from bench import Bench, Member, document, pass_time, slot_id, until

from cronexec.adapters.memory_hub import BATON
from cronexec.domain.control import ControlMessage, ControlType, encode_control, read_control
from cronexec.domain.run import RunState

pytestmark = pytest.mark.virtual_time


async def tell(bench: Bench, member: Member, what: ControlType) -> None:
    """Say it as soon as the instance listens."""
    await until(lambda: len(bench.hub.listeners) >= len(bench.members), lambda: bench.hub.listeners)
    message = ControlMessage(type=what, instance=member.context.executor.id, issued_by="ops")
    await bench.members[0].broker.publisher().publish_control(encode_control(message))


async def in_state(bench: Bench, member: Member, state: str, within: float = 1.0) -> None:
    def record() -> object:
        return bench.database.instances.get(member.context.executor.id)

    await until(lambda: getattr(record(), "state", None) == state, record, within)


async def test_a_drained_holder_hands_over_finishes_what_runs_and_says_so_at_once(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    await bench.put(document("long"))
    anna.targets.held.add("long")
    await anna.targets.began(slot_id("long", 10))
    await tell(bench, anna, ControlType.DRAIN)
    await bert.holding(within=1)
    await in_state(bench, anna, "draining")
    assert anna.said("term.ended")[0]["reason"] == "draining"
    await pass_time(30)
    await in_state(bench, anna, "draining")  # it has all the time that it needs
    anna.targets.end(slot_id("long", 10))
    await in_state(bench, anna, "drained")
    assert bench.state(slot_id("long", 10)) is RunState.SUCCEEDED
    await until(lambda: len(bench.evidence) > 1, lambda: bench.evidence)
    assert [(line.instance, line.run) for line in bench.evidence[:2]] == [
        ("anna", slot_id("long", 10)),
        ("bert", slot_id("long", 20)),
    ]
    await bench.verified()


async def test_a_drained_instance_does_not_come_back_by_itself_and_is_alive(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    await tell(bench, anna, ControlType.DRAIN)
    await bert.holding(within=1)
    await bert.stop()
    await pass_time(120)
    assert anna.term is None
    assert len(bench.hub.queues[BATON].consumers) == 0
    (record,) = bench.database.instances.values()
    assert (record.executor.name, record.state) == ("anna", "drained")
    assert (bench.clock.now() - record.beat_at).total_seconds() < 6


async def test_an_undrained_instance_takes_part_again(bench: Bench) -> None:
    anna = await bench.holder("anna")
    await tell(bench, anna, ControlType.DRAIN)
    await in_state(bench, anna, "drained")
    await tell(bench, anna, ControlType.UNDRAIN)
    await until(lambda: anna.term == 2, lambda: anna.events[-3:], within=1)
    await in_state(bench, anna, "holder", within=6)
    await bench.put(document("backup"))
    await until(lambda: bench.begun("backup"), lambda: bench.evidence)
    await bench.verified()


async def test_draining_ended_half_way_leaves_what_runs_alone(bench: Bench) -> None:
    anna = await bench.holder("anna")
    await bench.put(document("long"))
    anna.targets.held.add("long")
    await anna.targets.began(slot_id("long", 10))
    await tell(bench, anna, ControlType.DRAIN)
    await in_state(bench, anna, "draining")
    await tell(bench, anna, ControlType.UNDRAIN)
    await anna.holding(within=2)
    anna.targets.end(slot_id("long", 10))
    await bench.reaches(slot_id("long", 10), RunState.SUCCEEDED)
    assert anna.term is not None
    await bench.verified()


async def test_what_is_said_twice_or_to_another_or_in_no_known_words_changes_nothing(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    publisher = anna.broker.publisher()
    await tell(bench, bert, ControlType.DRAIN)
    await tell(bench, bert, ControlType.DRAIN)
    for body in (
        b"",
        b"[]",
        b'{"type": "instance.drain"}',
        b'{"type": "instance.x", "instance": "i-anna-0"}',
    ):
        await publisher.publish_control(body)
    await in_state(bench, bert, "drained")
    assert len(bert.said("instance.draining")) == 1
    assert len(anna.said("control.not_understood")) == 4
    assert anna.term == 1


async def test_a_drained_instance_stops_at_once(bench: Bench) -> None:
    anna = await bench.holder("anna")
    await tell(bench, anna, ControlType.DRAIN)
    await in_state(bench, anna, "drained")
    before = bench.clock.monotonic()
    assert await anna.stop()
    assert bench.clock.monotonic() - before < 1
    assert bench.database.instances == {}


async def test_a_stop_in_the_middle_of_a_drain_is_bounded_by_its_grace(bench: Bench) -> None:
    anna = await bench.holder("anna")
    await bench.put(document("long"))
    anna.targets.held.add("long")
    await anna.targets.began(slot_id("long", 10))
    await tell(bench, anna, ControlType.DRAIN)
    await in_state(bench, anna, "draining")
    assert not await anna.stop(grace=5)
    assert bench.state(slot_id("long", 10)) is RunState.ABANDONED


async def test_an_instance_listens_again_when_the_broker_is_back(bench: Bench) -> None:
    anna = await bench.holder("anna")
    await until(lambda: bench.hub.listeners, lambda: anna.events)
    bench.hub.go_down()
    assert bench.hub.listeners == []
    await pass_time(60)
    bench.hub.go_down(down=False)
    await until(lambda: bench.hub.listeners, lambda: anna.events[-3:], within=6)
    assert len(anna.said("control.interrupted")) <= 2  # once for each reason
    await anna.holding()
    await tell(bench, anna, ControlType.DRAIN)
    await in_state(bench, anna, "drained")


async def test_an_instance_that_is_started_begins_to_listen_after_it_competes(bench: Bench) -> None:
    anna = bench.make("anna")
    anna.faults.hold("broker.open_control")
    anna.instance.start()
    await anna.holding(within=1)
    assert anna.faults.calls["broker.open_control"] == 0
    await until(lambda: anna.faults.calls["broker.open_control"] == 1, lambda: anna.faults.calls)


def test_a_message_is_read_as_it_was_written() -> None:
    for issued_by in (None, "ops"):
        message = ControlMessage(type=ControlType.UNDRAIN, instance="i-1", issued_by=issued_by)
        assert read_control(encode_control(message)) == message
