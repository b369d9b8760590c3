"""The doctor on policies: what it says of them, and that it asks a broker with the management plugin."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_program import CommandLine, settings_for
from patience import PATIENCE

from cronexec.adapters.rabbitmq_topology import Topology
from cronexec.dev.processes import LOOPBACK, accepts_connections, free_port
from cronexec.dev.rabbitmq import PrivateRabbitmq
from cronexec.doctor.broker import judge_policies, policies_unknown
from cronexec.doctor.finding import Level


@pytest.fixture
def managed(server_programs: None, tmp_path: Path) -> Iterator[tuple[PrivateRabbitmq, str]]:
    """Return a broker with the management plugin, and the plugin's URL."""
    assert server_programs is None
    port = free_port()
    config = {"management.tcp.ip": LOOPBACK, "management.tcp.port": str(port)}
    with PrivateRabbitmq(tmp_path, config=config, plugins=["rabbitmq_management"]) as broker:
        until = time.monotonic() + PATIENCE
        while not accepts_connections(port):
            assert time.monotonic() < until, "the management plugin does not listen"
        yield broker, f"http://guest:guest@{LOOPBACK}:{port}"
        broker.kill()


@pytest.mark.parametrize("name", ["delivery-limit", "message-ttl", "expires", "max-length"])
def test_a_policy_that_takes_messages_is_pointed_out(name: str) -> None:
    (found,) = judge_policies({"games.baton": {name: 20}, "games.commands": {}})

    assert (found.check, found.level) == ("broker.policies", Level.WARN)
    assert f"a policy sets {name} = 20 on the queue games.baton" in found.message
    assert "list_policies" in found.remedy


def test_policies_that_take_nothing_are_well() -> None:
    harmless = {"ha-mode": "all", "delivery-limit": -1, "dead-letter-exchange": "elsewhere"}

    assert [found.level for found in judge_policies({"games.baton": harmless})] == [Level.OK]


def test_what_the_plugin_does_not_tell_yet_is_not_taken_for_well() -> None:
    (found,) = judge_policies({"games.baton": None, "games.commands": {}})

    assert (found.level, "of games.baton yet" in found.message) == (Level.WARN, True)


def test_where_nobody_can_be_asked_the_doctor_says_that_it_did_not_look() -> None:
    found = policies_unknown(Topology("games"))

    assert "not looked at" in found.message
    assert "CRONEXEC_MANAGEMENT_URL" in found.message


def test_the_doctor_asks_the_management_plugin_for_policies(
    managed: tuple[PrivateRabbitmq, str], mongo_url: str, namespace: str
) -> None:
    broker, management_url = managed
    environment = settings_for(broker.url, mongo_url, namespace)
    job = {"name": "a", "schedule": {"every": "1h"}, "target": {"type": "handler", "name": "a"}}
    put = CommandLine(environment)(  # declares the queues
        "job", "put", "--create-namespace", "--wait", "1", "-", stdin=json.dumps(job)
    )
    assert put.code == 3, put.err

    def policies(**settings: str) -> list[tuple[str, str]]:
        told = CommandLine(environment)("doctor", "--json", **settings).json["findings"]
        return [(each["level"], each["message"]) for each in told if each["check"] == "broker.policies"]

    def until_said(text: str) -> set[str]:
        until = time.monotonic() + PATIENCE
        found = policies(**managing)
        while not any(text in message for _, message in found):
            assert time.monotonic() < until, f"nothing of {text!r} in {found}"
            found = policies(**managing)
        return {level for level, _ in found}

    managing = {"CRONEXEC_MANAGEMENT_URL": management_url}
    assert until_said("no policy takes anything") == {"ok"}
    definition = json.dumps({"delivery-limit": 20})
    broker.ctl("set_policy", "--apply-to", "queues", "limit", f"^{namespace}\\.", definition)

    assert until_said(f"delivery-limit = 20 on the queue {namespace}.commands,") == {"warn"}
    managing = {"CRONEXEC_MANAGEMENT_URL": management_url.replace("guest@", "wrong@")}
    assert until_said("does not let the user") == {"unreachable"}
    assert [(level, "not looked at" in message) for level, message in policies()] == [("ok", True)]
