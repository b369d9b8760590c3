"""Judges the broker: its version, the queues of the namespace, their policies, and its control exchange."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cronexec.adapters.rabbitmq_inspection import BrokerFacts, QueueFacts
from cronexec.adapters.rabbitmq_topology import SINGLE, UNLIMITED_SINCE, Topology
from cronexec.doctor.finding import Finding, fail, ok, warn
from cronexec.ports import InstanceRecord

OLDEST = (3, 8)  # quorum queues with a single active consumer
MEASURED = (3, 10)
DELIVERY_LIMIT = "x-delivery-limit"
HARMFUL = {  # what a policy may set, and what comes of it
    "delivery-limit": "drops messages after so many requeues, whatever the queue's own argument says",
    "message-ttl": "drops messages that wait, and the baton while nobody holds it",
    "expires": "deletes the queue while no instance consumes from it",
    "max-length": "drops messages when there are more",
    "max-length-bytes": "drops messages when they are larger together",
}


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
    yield _judge_exchange(topology.control, facts.control)
    rejected = facts.queues.get(topology.rejected)
    if rejected is not None and rejected.ready:
        yield warn(
            "broker.rejected",
            f"{rejected.ready} messages were no commands, and are in {topology.rejected}",
            "See 'cronexec command rejected'; 'cronexec command replay' sends them anew, or discards them.",
        )
    newer = facts.queues.get(topology.newer)
    if newer is not None and newer.ready:
        yield warn(
            "broker.newer",
            f"{newer.ready} commands or more are of a newer schema than a holder knew, and wait in "
            f"{topology.newer}",
            "Update the instances: a holder of the newer release applies them first.",
        )


def judge_policies(policies: Mapping[str, Mapping[str, Any] | None]) -> Iterator[Finding]:
    """Yield what is to be said of policies. `policies`: by queue, what is set on it; None if not told yet."""
    harmful = [
        (queue, name, value)
        for queue, policy in policies.items()
        for name, value in (policy or {}).items()
        if name in HARMFUL and not (isinstance(value, int) and value < 0)  # as a limit, -1 means none
    ]
    for queue, name, value in harmful:
        yield warn(
            "broker.policies",
            f"a policy sets {name} = {value} on the queue {queue}, which {HARMFUL[name]}",
            "Have it match no queue of the namespace (rabbitmqctl list_policies and list_operator_policies).",
        )
    if untold := [queue for queue, policy in policies.items() if policy is None]:
        yield warn(
            "broker.policies",
            f"the management plugin does not tell the policies of {', '.join(untold)} yet",
            "Ask again some ten seconds after the queues were declared.",
        )
    elif not harmful:
        yield ok("broker.policies", "no policy takes anything from the queues")


def judge_control(
    listeners: int | None, instances: Sequence[InstanceRecord], topology: Topology
) -> Iterator[Finding]:
    """Yield what is to be said of who listens to the control exchange; `instances` are those alive.

    An instance that begins or reconnects at this moment may not listen yet.
    """
    listening = listeners or 0
    if listening < len(instances):
        yield warn(
            "broker.control",
            f"{listening} listen to {topology.control}, and {len(instances)} instances are alive: "
            "those that do not listen cannot be drained",
            "Ask again in a minute. Their logs say why: control.interrupted; else restart them.",
        )
    elif instances:
        yield ok("broker.control", f"{listening} listen to {topology.control}")


def policies_unknown(topology: Topology) -> Finding:
    """Say what cannot be looked at where the management plugin is not configured."""
    return ok(
        "broker.policies",
        f"not looked at: policies are not told over AMQP. None that sets {', '.join(HARMFUL)} may match "
        f"{topology.namespace}.* (rabbitmqctl list_policies; with CRONEXEC_MANAGEMENT_URL they are checked)",
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


def _judge_exchange(name: str, found: bool | str) -> Finding:
    check = "broker.exchange"
    if found is True:
        return ok(check, f"the exchange {name} is there")
    if found is False:
        return warn(
            check,
            f"the exchange {name} does not exist: no instance can be drained",
            "Start an instance: it declares it. One that runs does so when its connection has been closed.",
        )
    return fail(
        check,
        f"the exchange {name} is not what instances declare, so none can be drained: {found}",
        "Delete it (in the management's pages, or rabbitmqadmin): the instances declare it anew.",
    )


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
