"""Judges the broker: its version, and the queues of the namespace."""

from collections.abc import Iterator

from cronexec.adapters.rabbitmq_inspection import BrokerFacts, QueueFacts
from cronexec.adapters.rabbitmq_topology import SINGLE, UNLIMITED_SINCE, Topology
from cronexec.doctor.finding import Finding, fail, ok, warn

OLDEST = (3, 8)  # quorum queues with a single active consumer
MEASURED = (3, 10)
DELIVERY_LIMIT = "x-delivery-limit"


def judge_broker(facts: BrokerFacts, topology: Topology) -> Iterator[Finding]:
    """Yield what is to be said of the broker."""
    yield _judge_version(facts)
    for name, queue in facts.queues.items():
        if queue is None:
            yield warn(
                "broker.queue", f"the queue {name} does not exist yet", "Start an instance: it declares it."
            )
        else:
            yield from _judge_queue(name, queue, facts, topology)
    rejected = facts.queues.get(topology.rejected)
    if rejected is not None and rejected.ready:
        yield warn(
            "broker.rejected",
            f"{rejected.ready} messages were no commands, and are in {topology.rejected}",
            "See 'cronexec command rejected'.",
        )
    newer = facts.queues.get(topology.newer)
    if newer is not None and newer.ready:
        yield warn(
            "broker.newer",
            f"{newer.ready} commands or more are of a newer schema than a holder knew, and wait in "
            f"{topology.newer}",
            "Update the instances: a holder of the newer release applies them first.",
        )
    yield ok(
        "broker.policies",
        "policies are not told over AMQP: none that sets delivery-limit, message-ttl, expires or max-length "
        f"may match {topology.namespace}.* (rabbitmqctl list_policies)",
    )


def _judge_version(facts: BrokerFacts) -> Finding:
    text = ".".join(map(str, facts.version))
    if facts.version < OLDEST:
        return fail(
            "broker.version",
            f"RabbitMQ {text} has no quorum queues with one consumer",
            "Update it to 3.13 or later.",
        )
    if facts.version < MEASURED:
        return warn(
            "broker.version", f"RabbitMQ {text} is older than what is tested", "Update it to 3.13 or later."
        )
    return ok("broker.version", f"RabbitMQ {text}")


def _judge_queue(name: str, queue: QueueFacts, facts: BrokerFacts, topology: Topology) -> Iterator[Finding]:
    again = f"Stop the instances, delete it (rabbitmqctl delete_queue {name}) and start them again."
    if not queue.differences:
        yield ok("broker.queue", f"{name}: {queue.ready} ready, {queue.consumers} consumers")
    for argument, current in queue.differences.items():
        said = f"the queue {name} has {argument} = {current}"
        if argument == SINGLE and name != topology.rejected:
            yield fail(
                "broker.queue", f"{said}, so more than one instance would be given its messages", again
            )
        elif argument == DELIVERY_LIMIT and name != topology.rejected:
            yield _judge_limit(said, current, facts.version, again)
        else:
            yield warn("broker.queue", f"{said}, which is not what it is declared with now", again)


def _judge_limit(said: str, current: str, version: tuple[int, ...], again: str) -> Finding:
    if version < UNLIMITED_SINCE:
        return fail("broker.queue", f"{said}, which drops messages after so many requeues", again)
    dropped = "20" if current == "not set" else current
    return warn("broker.queue", f"{said}: RabbitMQ 4 drops a message after {dropped} requeues", again)
