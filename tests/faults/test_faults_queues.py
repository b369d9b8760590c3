"""What others may do to the namespace's queues, on a cluster under load, and what an operator sees of it."""

import asyncio
from collections.abc import Callable
from typing import Any

import pika
import pytest
from stage import Stage

from cronexec.doctor import Level

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

QUORUM = {"x_queue_type": "quorum"}
SINGLE = {"x_single_active_consumer": True}
INSERTED = "baton.inserted"
BATONS = 3


async def operate(stage: Stage, action: Callable[[Any, str], object]) -> None:
    """Do something with a channel to the namespace's queues, whose names begin with its name."""

    def work() -> None:
        with pika.BlockingConnection(pika.URLParameters(stage.settings.amqp_urls[0])) as connection:
            action(connection.channel(), stage.settings.namespace)

    await asyncio.to_thread(work)


async def replace_queue(stage: Stage, **arguments: object) -> None:
    """Delete the baton's queue and declare it at once, with these arguments."""
    given = {name.replace("_", "-"): value for name, value in arguments.items()}

    def work(channel: Any, namespace: str) -> None:
        channel.queue_delete(f"{namespace}.baton")
        channel.queue_declare(f"{namespace}.baton", durable=True, arguments=given)

    await operate(stage, work)


async def delete_queue(stage: Stage) -> None:
    await operate(stage, lambda channel, namespace: channel.queue_delete(f"{namespace}.baton"))


async def test_a_deleted_baton_queue_is_declared_again_and_gets_a_baton(stage: Stage) -> None:
    async with stage.trial("baton queue deleted", "queues") as trial:
        trial.began()
        await delete_queue(stage)
        await trial.sees("term.ended")
        await trial.sees(INSERTED)
        await trial.next_term()
        inserted = stage.events(INSERTED, since=trial.began_at)
        assert len(inserted) == 1, "one insertion in the whole namespace"


async def test_a_purged_baton_queue_takes_nothing_from_the_holder(stage: Stage) -> None:
    async with stage.trial("baton queue purged", "queues") as trial:
        trial.began()
        await operate(stage, lambda channel, namespace: channel.queue_purge(f"{namespace}.baton"))
        await stage.slots_run(3)
        assert (await stage.holder()).epoch == trial.epoch, "the same term goes on"


async def test_batons_that_are_inserted_while_one_is_held_are_discarded(stage: Stage) -> None:
    async with stage.trial(f"{BATONS} batons inserted while one is held", "queues") as trial:
        member = await stage.holding()
        trial.began()
        for _ in range(BATONS):
            await stage.client.baton.reinsert()
        await trial.sees("baton.duplicate_discarded", by=member)
        await stage.slots_run(2)
        assert (await stage.holder()).epoch == trial.epoch, "the same term goes on"
        discarded = stage.events("baton.duplicate_discarded", since=trial.began_at)
        assert len(discarded) == BATONS


async def test_nobody_competes_on_a_queue_without_single_active_consumer_until_it_is_gone(
    stage: Stage,
) -> None:
    async with stage.trial("baton queue replaced by one without single active consumer", "queues") as trial:
        trial.began()
        await replace_queue(stage, **QUORUM)
        await trial.sees("term.ended")
        waiting = await trial.sees("candidate.waiting")
        assert "single-active-consumer" in waiting["why"]
        await trial.doctor_says("broker.queue", "x-single-active-consumer = not set", level=Level.FAIL)
        await delete_queue(stage)  # what the doctor says
        trial.healed()
        await trial.next_term(timeout=90)
        await trial.sees(INSERTED)


async def test_a_queue_with_other_arguments_is_used_as_it_is(stage: Stage) -> None:
    async with stage.trial("baton queue replaced by one with other arguments", "queues") as trial:
        trial.began()
        await replace_queue(stage, **QUORUM, **SINGLE, x_max_length=1000)
        await trial.sees("term.ended")
        await trial.next_term()
        await trial.doctor_says("broker.queue", "x-max-length = ", level=Level.WARN)
        await stage.slots_run(2)
    epoch = (await stage.holder()).epoch
    await delete_queue(stage)  # the others' tests have it as it is declared

    async def is_replaced() -> bool:
        return (await stage.connection.store.terms.read()).epoch > epoch

    await stage.until(is_replaced, "another term on the queue as it is declared")


async def test_what_is_no_command_is_kept_and_told_of(stage: Stage) -> None:
    async with stage.trial("no command in the command queue", "queues") as trial:
        member = await stage.holding()
        trial.began()
        await operate(
            stage, lambda channel, namespace: channel.basic_publish("", f"{namespace}.commands", b"{")
        )
        await trial.sees("command.rejected", by=member)
        await trial.doctor_says("broker.rejected", "1 messages were no commands")
        await operate(stage, lambda channel, namespace: channel.queue_purge(f"{namespace}.commands.rejected"))
