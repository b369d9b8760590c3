"""The doctor on the control exchange: whether it is there as it should be, and those who live listen."""

import time
from datetime import UTC, datetime

import pika
import pytest
from cli_program import CommandLine, serving, settings_for
from patience import PATIENCE
from test_doctor_policies import managed  # noqa: F401  the fixture

from cronexec.adapters.rabbitmq_topology import Topology
from cronexec.dev.rabbitmq import PrivateRabbitmq
from cronexec.doctor.broker import judge_control
from cronexec.doctor.finding import Level
from cronexec.domain.run import Executor
from cronexec.ports import InstanceRecord

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALIVE = [
    InstanceRecord(executor=Executor(id=name, name=name, datacenter="east"), started_at=NOW, beat_at=NOW)
    for name in ("a", "b")
]


@pytest.mark.parametrize(
    ("listeners", "level"),
    [(None, Level.WARN), (0, Level.WARN), (1, Level.WARN), (2, Level.OK), (3, Level.OK)],
)
def test_fewer_listeners_than_instances_are_pointed_out(listeners: int | None, level: Level) -> None:
    (found,) = judge_control(listeners, ALIVE, Topology("games"))

    assert (found.check, found.level) == ("broker.control", level)
    assert f"{listeners or 0} listen to games.control" in found.message


def test_where_nobody_lives_nobody_is_missed() -> None:
    assert list(judge_control(None, [], Topology("games"))) == []


def test_an_exchange_that_is_missing_or_of_another_kind_is_found(
    amqp_url: str, mongo_url: str, namespace: str
) -> None:
    command = CommandLine(settings_for(amqp_url, mongo_url, namespace))

    def found() -> tuple[str, str]:
        findings = command("doctor", "--json").json["findings"]
        (one,) = [each for each in findings if each["check"] == "broker.exchange"]
        return one["level"], one["message"]

    def declare(kind: str) -> None:
        with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
            channel = connection.channel()
            channel.exchange_delete(f"{namespace}.control")
            channel.exchange_declare(f"{namespace}.control", kind, durable=True)

    level, said = found()
    assert (level, f"{namespace}.control does not exist" in said) == ("warn", True)
    declare("direct")
    level, said = found()
    assert (level, "inequivalent arg 'type'" in said) == ("fail", True)
    declare("fanout")
    assert found() == ("ok", f"the exchange {namespace}.control is there")


def test_an_instance_that_the_exchange_was_deleted_under_is_missed(
    managed: tuple[PrivateRabbitmq, str],  # noqa: F811  the fixture
    mongo_url: str,
    namespace: str,
) -> None:
    broker, management_url = managed
    environment = settings_for(broker.url, mongo_url, namespace)
    environment["CRONEXEC_MANAGEMENT_URL"] = management_url

    def until_said(level: str, text: str) -> None:
        until = time.monotonic() + PATIENCE
        found: list[tuple[str, str]] = []
        while not any(each == level and text in message for each, message in found):
            assert time.monotonic() < until, f"nothing of {text!r} in {found}"
            findings = CommandLine(environment)("doctor", "--json").json["findings"]
            found = [(one["level"], one["message"]) for one in findings if one["check"] == "broker.control"]

    with serving(environment):
        until_said("ok", f"1 listen to {namespace}.control")
        with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
            connection.channel().exchange_delete(f"{namespace}.control")
        until_said("warn", "0 listen to")
