"""The inbox: commands are applied in order, once for each id, or refused with an answer."""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from bench import Bench, at, document, pass_time, until
from faults import away, fails

from cronexec.adapters.memory_broker import MemoryLink
from cronexec.adapters.memory_hub import COMMANDS, NEWER, REJECTED
from cronexec.domain import command
from cronexec.domain.command import read_command
from cronexec.domain.run import RunState
from cronexec.errors import UnreachableError
from cronexec.ports import MOST_KEPT_IN_HAND
from cronexec.runtime import inbox

pytestmark = pytest.mark.virtual_time

LATER = {"at": at(3600).isoformat()}


class Requester:
    """Has commands answered to it."""

    def __init__(self, bench: Bench) -> None:
        self.replies: list[Mapping[str, Any]] = []
        self.address = "reply-to.test"
        bench.hub.requesters[self.address] = lambda body: self.replies.append(json.loads(body))


def rejected(bench: Bench) -> list[bytes]:
    return [message.body for message in bench.hub.queues[REJECTED].ready]


def kept(bench: Bench) -> list[str]:
    queue = bench.hub.queues[NEWER]
    in_hand = [message for consumer in queue.consumers for message in consumer.unacked.values()]
    messages = sorted([*in_hand, *queue.ready], key=lambda message: message.place)
    return [json.loads(message.body)["id"] for message in messages]


def unacked(bench: Bench) -> int:
    queue = bench.hub.queues[COMMANDS]
    return len(queue.ready) + sum(len(consumer.unacked) for consumer in queue.consumers)


async def test_a_command_is_answered_and_acked_after_it_is_committed(bench: Bench) -> None:
    anna = await bench.holder()
    asking = Requester(bench)
    held = anna.faults.hold("terms.commit", lambda _, batch: bool(batch.commands), done_first=True)
    bench.send("job.put", id="put", reply_to=asking.address, job=document("backup").to_document())
    await held.arrived()
    await pass_time(2)
    assert asking.replies == []
    assert unacked(bench) == 1
    held.release()
    await until(lambda: asking.replies, lambda: anna.events[-3:])
    assert (asking.replies[0]["id"], asking.replies[0]["ok"]) == ("put", True)
    assert unacked(bench) == 0


async def test_a_known_id_gets_the_recorded_reply_again(bench: Bench) -> None:
    await bench.holder()
    first = await bench.request("job.put", id="put", job=document("backup", LATER).to_document())
    await bench.request("job.delete", name="backup")
    again = await bench.request("job.put", id="put", job=document("backup", LATER).to_document())
    assert again == first
    assert bench.database.jobs["backup"].deleted_at is not None


async def test_an_id_that_is_used_for_something_else_is_refused_and_named(bench: Bench) -> None:
    anna = await bench.holder()
    await bench.put(document("backup", LATER), document("other", LATER))
    first = await bench.request("job.pause", id="one", name="backup")
    refused = await bench.request("job.pause", id="one", name="other")
    assert (refused["ok"], refused["error"]["code"], refused["error"]["field"]) == (False, "id_reused", "id")
    assert "the id one was used before" in refused["error"]["message"]
    assert bench.database.jobs["other"].paused is None
    assert len(rejected(bench)) == 1
    assert bench.database.commands["one"].reply == first
    assert await bench.request("job.pause", id="one", name="backup") == first
    assert unacked(bench) == 0
    assert anna.term == 1


async def test_the_same_content_written_otherwise_gets_the_same_reply(bench: Bench) -> None:
    await bench.holder()
    await bench.put(document("backup", LATER))
    first = await bench.request("job.trigger", id="t", name="backup", params={"a": 1, "b": [True, None]})
    asking = Requester(bench)
    bench.send_raw(
        b'{"type": "job.trigger", "name":"back\\u0075p", "params": {"b": [true, null], "a": 1.0},'
        b' "key": null, "id": "t", "schema": 1, "issued_by": "her"}',
        reply_to=asking.address,
    )
    await until(lambda: asking.replies, lambda: rejected(bench))
    assert asking.replies == [first]


async def test_two_commands_of_one_id_and_unlike_content_that_come_at_once(bench: Bench) -> None:
    anna = await bench.holder()
    await bench.put(document("backup", LATER), document("other", LATER))
    asking = Requester(bench)
    held = anna.faults.hold("terms.commit")
    await held.arrived()
    for name in ("backup", "other", "backup"):
        bench.send("job.pause", id="one", reply_to=asking.address, name=name)
    held.release()
    await until(lambda: len(asking.replies) == 3, lambda: asking.replies)
    assert sorted(reply["ok"] for reply in asking.replies) == [False, True, True]
    assert (bench.database.jobs["backup"].paused is None, bench.database.jobs["other"].paused) == (
        False,
        None,
    )


async def test_an_id_that_comes_twice_at_once_is_applied_once_and_answered_twice(bench: Bench) -> None:
    anna = await bench.holder()
    await bench.put(document("backup", LATER))
    asking = Requester(bench)
    held = anna.faults.hold("terms.commit")
    await held.arrived()
    for _ in range(3):
        bench.send("job.trigger", id="twice", reply_to=asking.address, name="backup")
    bench.send("job.trigger", id="other", reply_to=asking.address, name="backup")
    held.release()
    await until(lambda: len(asking.replies) == 4, lambda: asking.replies)
    replies = [reply for reply in asking.replies if reply["id"] == "twice"]
    assert replies[0] == replies[1] == replies[2]
    assert replies[0]["result"]["created"]
    assert sorted(line.run for line in bench.evidence) == ["backup#other", "backup#twice"]
    assert unacked(bench) == 0
    assert anna.term == 1


async def test_a_command_that_is_delivered_again_after_a_failover_is_not_applied_again(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    await bench.put(document("backup", LATER))
    asking = Requester(bench)
    held = anna.faults.hold("terms.commit", lambda _, batch: bool(batch.commands), done_first=True)
    bench.send("job.trigger", id="t", reply_to=asking.address, name="backup")
    await held.arrived()
    anna.end_term()
    await bert.holding()
    await until(lambda: asking.replies, lambda: bert.events[-3:])
    held.release()
    await pass_time(3)
    assert [reply["id"] for reply in asking.replies] == ["t"]
    assert [line.run for line in bench.evidence] == ["backup#t"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param(b"\xff{", None, id="no text"),
        pytest.param(b"[1, 2]", None, id="no object"),
        pytest.param({"schema": 1, "id": "x", "type": "job.explode"}, None, id="no such type"),
        pytest.param({"schema": 1, "id": "x", "type": "job.pause"}, "name", id="no name"),
    ],
)
async def test_what_is_no_command_is_rejected_acked_and_answered(
    bench: Bench, body: Any, field: str | None
) -> None:
    anna = await bench.holder()
    asking = Requester(bench)
    bench.send_raw(body, reply_to=asking.address)
    await until(lambda: asking.replies, lambda: anna.events[-3:])
    assert not asking.replies[0]["ok"]
    assert asking.replies[0]["error"]["code"] == "invalid"
    if field is not None:
        assert asking.replies[0]["error"]["field"] == field
    assert len(rejected(bench)) == 1
    assert unacked(bench) == 0
    assert anna.term == 1


async def test_a_message_is_acked_only_when_its_rejection_is_safe(bench: Bench) -> None:
    anna = await bench.holder("anna")
    anna.faults.always("publisher.reject", fails(UnreachableError("broker", "blocked", "")))
    bench.send_raw(b"nonsense")
    await until(lambda: anna.said("command.reject_delayed"), lambda: anna.events[-3:])
    assert unacked(bench) == 1
    assert rejected(bench) == []
    bert = bench.start("bert")
    anna.end_term()
    await bert.holding()
    await until(lambda: rejected(bench), lambda: bert.events[-3:])
    assert unacked(bench) == 0


async def test_commands_of_a_newer_schema_wait_in_order_for_a_newer_holder_and_hold_up_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna = await bench.holder("anna")
    names = [f"new-{number}" for number in range(700)]
    for name in names:
        bench.send_raw({"schema": 2, "id": name, "type": "job.trigger", "name": "backup"})
    await bench.put(document("backup", LATER))  # behind them, and yet answered
    await until(lambda: unacked(bench) == 0, lambda: unacked(bench))
    assert kept(bench) == names
    assert rejected(bench) == []
    bert = bench.start("bert")
    anna.end_term()
    await bert.holding()
    await bench.put(document("other", LATER))  # a holder as old as the last one keeps them where they are
    assert kept(bench) == names
    await bert.stop()
    monkeypatch.setattr(command, "SCHEMA", 2)
    bench.send_raw({"schema": 2, "id": "late", "type": "job.trigger", "name": "backup"})
    await bench.holder("carl")
    await until(lambda: "late" in bench.database.commands, lambda: len(bench.database.commands))
    assert [each for each in bench.database.commands if each in {*names, "late"}] == [*names, "late"]
    await until(lambda: not kept(bench), lambda: kept(bench)[:3])
    assert rejected(bench) == []


async def test_who_sent_a_kept_command_gets_its_answer_from_the_newer_holder(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna = await bench.holder("anna")
    await bench.put(document("backup", LATER))
    asking = Requester(bench)
    bench.send_raw({"schema": 2, "id": "n", "type": "job.pause", "name": "backup"}, reply_to=asking.address)
    await until(lambda: kept(bench), lambda: anna.events[-3:])
    assert asking.replies == []
    monkeypatch.setattr(command, "SCHEMA", 2)
    anna.end_term()
    await until(lambda: asking.replies, lambda: anna.events[-3:])
    assert (asking.replies[0]["id"], asking.replies[0]["ok"]) == ("n", True)


async def test_a_newer_command_is_acked_only_when_it_is_safe_elsewhere(bench: Bench) -> None:
    anna = await bench.holder("anna")
    away = fails(UnreachableError("broker", "blocked", ""))
    anna.faults.next("publisher.keep", away, away)
    for name in "abc":
        bench.send_raw({"schema": 2, "id": name, "type": "job.teleport"})
    await until(lambda: anna.said("command.keep_delayed"), lambda: anna.events[-3:])
    assert unacked(bench) == 3
    await until(lambda: unacked(bench) == 0, lambda: anna.events[-3:])
    assert kept(bench) == ["a", "b", "c"]
    assert len(anna.said("command.newer_schema")) >= 3


async def test_commands_do_not_wait_for_kept_ones_that_do_not_come(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_kept = MemoryLink.take_kept

    async def miscounting(link: MemoryLink) -> int:
        return 5 + await take_kept(link)

    monkeypatch.setattr(MemoryLink, "take_kept", miscounting)
    await bench.holder()
    await bench.put(document("backup", LATER))
    assert "backup" in bench.database.jobs


async def test_a_message_that_crashes_its_reader_is_rejected_and_costs_no_term(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna = await bench.holder()

    def crashing(body: bytes) -> object:
        if b"cursed" in body:
            raise ZeroDivisionError("a bug")
        return read_command(body)

    monkeypatch.setattr(inbox, "read_command", crashing)
    bench.send_raw(b"cursed")
    await bench.put(document("backup", LATER))
    assert rejected(bench) == [b"cursed"]
    assert unacked(bench) == 0
    assert anna.term == 1


async def test_commands_wait_where_what_they_name_cannot_be_looked_up(bench: Bench) -> None:
    anna = await bench.holder()
    await bench.put(document("backup", LATER))
    anna.faults.next("commands.replies", fails(away()), fails(away()))
    ids = [bench.send("job.trigger", name="backup", key=str(number)) for number in range(3)]
    await until(lambda: ids[-1] in bench.database.commands, lambda: anna.events[-3:])
    assert [each for each in bench.database.commands if each in ids] == ids
    assert len(anna.said("command.lookup_failed")) == 2
    assert anna.term == 1


async def test_a_reply_that_cannot_be_sent_costs_neither_the_command_nor_the_term(bench: Bench) -> None:
    anna = await bench.holder()
    asking = Requester(bench)
    await bench.put(document("backup", LATER))
    anna.faults.next("publisher.reply", fails(UnreachableError("broker", "blocked", "")))
    bench.send("job.trigger", id="t", reply_to=asking.address, name="backup")
    await bench.reaches("backup#t", RunState.SUCCEEDED)
    await until(lambda: anna.said("command.reply_not_sent"), lambda: anna.events[-3:])
    assert asking.replies == []
    bench.send("job.trigger", id="t", reply_to=asking.address, name="backup")
    await until(lambda: asking.replies, lambda: anna.events[-3:])
    assert asking.replies[0]["result"]["created"]
    assert anna.term == 1


async def test_more_commands_than_one_write_takes_are_applied_in_order(bench: Bench) -> None:
    anna = await bench.holder()
    await bench.put(document("backup", LATER))
    held = anna.faults.hold("terms.commit")
    await held.arrived()
    ids = [bench.send("job.trigger", name="backup") for _ in range(600)]
    held.release()
    await until(lambda: ids[-1] in bench.database.commands, lambda: len(bench.database.commands))
    assert [each for each in bench.database.commands if each in ids] == ids
    await until(lambda: len(bench.evidence) == 600, lambda: len(bench.evidence))
    assert unacked(bench) == 0


async def test_commands_are_recorded_with_who_sent_them(bench: Bench) -> None:
    await bench.holder()
    await bench.request("job.pause", id="p", name="nothing", issued_by="eve")
    record = bench.database.commands["p"]
    assert (record.issued_by, record.user, record.epoch) == ("eve", "guest", 1)
    assert not record.reply["ok"]
    assert record.document["name"] == "nothing"


async def test_a_command_that_waits_for_a_newer_holder_is_listed_and_can_be_discarded(bench: Bench) -> None:
    anna = await bench.holder()
    await bench.put(document("backup", LATER))
    for number in ("n1", "n2"):
        bench.send_raw(json.dumps({"schema": 9, "id": number, "type": "job.dance"}).encode())
    await until(lambda: len(anna.said("command.newer_schema")) == 4, lambda: kept(bench))
    first, second = {"id": "n1", "schema": 9}, {"id": "n2", "schema": 9}
    listed = await bench.request("command.kept")
    assert listed["result"] == {"kept": [first, second]}
    unknown = await bench.request("command.kept", discard="n3")
    assert (unknown["error"]["code"], unknown["error"]["field"]) == ("not_found", "discard")
    assert (await bench.request("command.kept", discard="n1"))["result"] == {
        "kept": [{"id": "n2", "schema": 9}]
    }
    await until(lambda: kept(bench) == ["n2"], lambda: kept(bench))
    assert [json.loads(body)["id"] for body in rejected(bench)] == ["n1"]
    assert (await bench.request("command.kept"))["result"] == {"kept": [second]}


async def test_commands_that_wait_for_a_newer_holder_are_renewed_together_and_in_their_order(
    bench: Bench,
) -> None:
    """The broker takes back what stays unacked for too long, and the baton with it."""
    anna = await bench.holder(baton_renew_interval=timedelta(seconds=30))
    names = ["n1", "n2", "n3"]
    for name in names:
        bench.send_raw({"schema": 9, "id": name, "type": "job.dance"})
    queue = bench.hub.queues[NEWER]
    await until(lambda: len(anna.said("command.newer_schema")) == 6, lambda: kept(bench))
    first = [message.place for message in queue.consumers[0].unacked.values()]
    failing = fails(UnreachableError("broker", "blocked", ""))
    await pass_time(31)
    renewed = [message.place for message in queue.consumers[0].unacked.values()]
    assert kept(bench) == names
    assert min(renewed) > max(first), "all of them have been handed out anew"
    assert len(anna.said("command.newer_schema")) == 6, "and are told of once"
    anna.faults.next("publisher.keep", failing)
    await pass_time(31)
    await until(lambda: kept(bench) == names, lambda: kept(bench))
    answer = await bench.request("command.kept", discard="n2")
    assert answer["result"] == {"kept": [{"id": "n1", "schema": 9}, {"id": "n3", "schema": 9}]}
    anna.end_term()
    assert kept(bench) == ["n1", "n3"]


async def test_more_commands_than_the_link_hands_out_are_left_in_their_places(bench: Bench) -> None:
    anna = await bench.holder(baton_renew_interval=timedelta(seconds=30))
    names = [f"n{number}" for number in range(MOST_KEPT_IN_HAND + 1)]
    for name in names:
        bench.send_raw({"schema": 9, "id": name, "type": "job.dance"})
    handed_out = len(names) + MOST_KEPT_IN_HAND  # each said when it is put aside, and when it is in hand
    await until(lambda: len(anna.said("command.newer_schema")) == handed_out, lambda: kept(bench)[:3])
    await pass_time(100)
    assert kept(bench) == names
