"""A holder that freezes with commands in hand: they are applied in order, once, by whoever holds."""

import json
import uuid
from typing import Any

import pika
import pytest
from fault_points import COMMAND_ARRIVES, COMMANDS_COMMITTED, FREEZE
from stage import Stage

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

COMMANDS = 10


def put(number: int, job: str) -> bytes:
    """Return the command with which the job says that this is its `number`-th version."""
    document = {
        "name": job,
        "description": f"{number}",
        "schedule": {"every": "1h"},
        "target": {"type": "handler", "name": "quick"},
    }
    fields = {"schema": 1, "id": str(uuid.uuid4()), "type": "job.put", "job": document, "issued_by": "faults"}
    return json.dumps(fields).encode()


def send(stage: Stage, bodies: list[bytes]) -> None:
    """Put commands into the queue, in order."""
    queue = f"{stage.settings.namespace}.commands"
    with pika.BlockingConnection(pika.URLParameters(stage.settings.amqp_urls[0])) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for body in bodies:
            channel.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2), mandatory=True)


async def versions(stage: Stage, job: str) -> list[tuple[int, str]]:
    found = await stage.client.jobs.versions(job)
    return [(each.version, each.document.description or "") for each in found]


IN_ORDER = [(number, f"{number}") for number in range(1, COMMANDS + 1)]


async def test_commands_in_the_hands_of_a_frozen_holder_are_applied_once_and_in_order(stage: Stage) -> None:
    async with stage.trial("SIGSTOP with 4 of 10 commands in hand", "commands") as trial:
        member = await stage.holding()
        bodies = [put(number, "in-hand") for number in range(1, COMMANDS + 1)]
        stage.order(member, "arm", point=COMMAND_ARRIVES, then=FREEZE, times=4)
        trial.began(member)
        send(stage, bodies[:4])
        reached = await stage.event("fault.reached", since=trial.began_at, by=member)
        trial.began(member, at=reached.at)
        send(stage, bodies[4:])
        await trial.next_term()
        await trial.runs_again()
        await applied(stage, "in-hand")
        woken_at = trial.healed(stage.thaw(member))
        await trial.sees("term.ended", by=member)
        await stage.event("candidate.standing_by", since=woken_at, by=member)
        assert trial.acted_as_former_holder(member, woken_at) == []
    assert await versions(stage, "in-hand") == IN_ORDER
    assert stage.events("command.rejected", "command.crashed", since=trial.began_at) == []


async def test_commands_that_were_applied_and_not_acked_are_answered_from_the_record(stage: Stage) -> None:
    async with stage.trial("SIGSTOP between applying commands and acking them", "commands") as trial:
        member = await stage.holding()
        stage.order(member, "arm", point=COMMANDS_COMMITTED, then=FREEZE)
        trial.began(member)
        send(stage, [put(number, "not-acked") for number in range(1, COMMANDS + 1)])
        reached = await stage.event("fault.reached", since=trial.began_at, by=member)
        trial.began(member, at=reached.at)
        await trial.next_term()
        await trial.runs_again()
        await applied(stage, "not-acked")
        trial.healed(stage.thaw(member))
        await trial.sees("term.ended", by=member)
    assert await versions(stage, "not-acked") == IN_ORDER
    assert stage.events("command.rejected", "command.crashed", since=trial.began_at) == []


async def applied(stage: Stage, job: str) -> None:
    """Wait until all commands are applied, and no more of them are in the queue."""

    async def are_applied() -> Any:
        return [number for number, _ in await versions(stage, job)][-1:] == [COMMANDS]

    await stage.until(are_applied, f"{COMMANDS} versions of {job}")
