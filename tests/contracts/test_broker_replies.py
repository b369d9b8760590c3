"""What every broker promises of replies, of what is rejected and of what is refused."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from broker_bench import QUIET, Bench, command, put_baton
from patience import PATIENCE

from cronexec.errors import NotYetAppliedError, RefusedError, UnreachableError
from cronexec.ports import Broker, CommandArrived, Link, LinkLost


async def answer(link: Link, broker: Broker, reply: Callable[[CommandArrived], Any]) -> None:
    """Play the holder until the link is lost."""
    await link.take_commands()
    while not isinstance(event := await link.events(), LinkLost):
        assert isinstance(event, CommandArrived)
        assert event.reply_to is not None
        await broker.publisher().reply(
            event.reply_to, event.correlation_id, json.dumps(reply(event)).encode()
        )
        link.ack_commands([event.tag])


async def test_requests_get_their_own_replies(bench: Bench) -> None:
    holder, sender = bench.instance(), bench.instance()
    link = await holder.open_link()
    playing = asyncio.create_task(answer(link, holder, lambda each: {"ok": True, "id": each.message_id}))
    requests = [sender.request(b"{}", command_id=f"r{number}", wait=PATIENCE) for number in range(50)]
    replies = await asyncio.gather(*requests)
    assert [reply["id"] for reply in replies] == [f"r{number}" for number in range(50)]
    await link.close()
    await playing


async def test_a_request_without_a_holder_is_not_yet_applied_and_stays(bench: Bench) -> None:
    sender = bench.instance()
    with pytest.raises(NotYetAppliedError) as caught:
        await sender.request(b"{}", command_id="later", wait=1)
    assert caught.value.command_id == "later"
    holder = bench.instance()
    link = await holder.open_link()
    await link.take_commands()
    late = await command(link)
    assert late.message_id == "later"
    assert late.reply_to is not None
    await holder.publisher().reply(late.reply_to, late.correlation_id, b"{}")


async def test_a_reply_to_a_requester_that_is_gone_is_no_error(bench: Bench) -> None:
    broker = bench.instance()
    await broker.publisher().reply("no-such-requester", "1", b"{}")
    await put_baton(broker)
    assert (await broker.baton_depth()).ready == 1


async def test_looking_at_rejected_commands_takes_nothing(bench: Bench) -> None:
    broker = bench.instance()
    assert await broker.rejected() == []
    for name in ("m1", "m2", "m3"):
        bad = CommandArrived(tag=1, body=b"?", message_id=name, user="guest")
        await broker.publisher().reject(bad, code="unreadable", message="it is no JSON", field="job.name")
    looks = [await broker.rejected(limit) for limit in (50, 2, *[50] * 22)]  # a server may count to 20
    assert [len(look) for look in looks] == [3, 2, *[3] * 22]
    assert [each.message_id for each in looks[-1]] == ["m1", "m2", "m3"]
    assert looks[0] == looks[3]
    first = looks[0][0]
    assert (first.body, first.reason, first.field) == (b"?", "it is no JSON (unreadable)", "job.name")
    assert first.rejected_at is not None
    assert first.rejected_at.tzinfo is not None


async def test_rejected_commands_that_are_taken_return_unless_they_are_removed(bench: Bench) -> None:
    broker = bench.instance()
    async with broker.take_rejected(10) as taken:
        assert list(taken) == []
    for name in ("m1", "m2", "m3"):
        bad = CommandArrived(tag=1, body=b"?", message_id=name, user="guest")
        await broker.publisher().reject(bad, code="unreadable", message="it is no JSON", field=None)
    async with broker.take_rejected(10) as taken:
        assert [each.command.message_id for each in taken] == ["m1", "m2", "m3"]
        taken[1].remove()
    async with asyncio.timeout(PATIENCE):
        while len(await broker.rejected()) < 2:  # noqa: ASYNC110  the broker tells nobody
            await asyncio.sleep(QUIET)
    assert [each.message_id for each in await broker.rejected()] == ["m1", "m3"]
    async with broker.take_rejected(1) as taken:
        assert [each.command.message_id for each in taken] == ["m1"]


async def test_a_message_that_no_queue_takes_is_refused(bench: Bench) -> None:
    publisher = bench.instance().publisher()
    for exchange in ("", "no-such-exchange"):
        with pytest.raises(RefusedError) as caught:
            await publisher.publish(exchange, "nowhere", b"x", {"a": 1}, content_type="text/plain")
        assert caught.value.code == "unroutable"
    assert await publisher.publish_baton("still works", b"{}", PATIENCE)


async def test_a_closed_publisher_says_so(bench: Bench) -> None:
    publisher = bench.instance().publisher()
    await publisher.publish_baton("one", b"{}", PATIENCE)
    await publisher.close()
    with pytest.raises(UnreachableError):
        await publisher.publish_baton("two", b"{}", PATIENCE)
