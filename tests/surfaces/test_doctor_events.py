"""The doctor on what live instances have logged lately: what it says of it, and from anywhere."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cli_program import CommandLine, serving, settings_for

import cronexec
from cronexec.doctor.events import NOTABLE, RECENT, judge_events
from cronexec.doctor.finding import Finding, Level
from cronexec.domain.run import Executor
from cronexec.ports import EventCount, InstanceRecord

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SOURCES = Path(cronexec.__file__).parent
AGO = timedelta(seconds=12)


def instance(name: str, events: Mapping[str, int], *, ago: timedelta = AGO) -> InstanceRecord:
    counted = [EventCount(event=event, count=count, last_at=NOW - ago) for event, count in events.items()]
    executor = Executor(id=name, name=name, datacenter="east")
    return InstanceRecord(executor=executor, started_at=NOW, beat_at=NOW, events=counted)


def judged(*instances: InstanceRecord) -> list[Finding]:
    return list(judge_events(instances, now=NOW))


def test_a_notable_event_is_told_once_with_who_logged_it_and_what_to_do() -> None:
    (found,) = judged(instance("a", {"term.ended": 2}), instance("b", {"term.ended": 1}))

    assert (found.check, found.level) == ("instances.events", Level.WARN)
    assert found.message == ("term.ended: a term ended other than by a handover (a: 2, b: 1; last 12 s ago)")
    assert "log" in found.remedy


def test_what_is_not_notable_is_listed_and_fails_nothing() -> None:
    (found,) = judged(instance("a", {"settings.warning": 1, "stop.failed": 3}))

    assert found.level is Level.OK
    assert "settings.warning (a: 1; last 12 s ago); stop.failed (a: 3; last 12 s ago)" in found.message


def test_what_was_long_ago_is_not_told() -> None:
    (found,) = judged(instance("a", {"term.ended": 2}, ago=RECENT + AGO))

    assert (found.level, found.message) == (Level.OK, "no warnings and no errors in the last 15 minutes")
    assert judged() == []


@pytest.mark.parametrize("event", sorted(NOTABLE))
def test_what_is_notable_is_logged_somewhere_and_has_a_remedy(event: str) -> None:
    logged = re.compile(rf'\.(warning|error|exception)\(\s*"{re.escape(event)}"|log\(\s*"{re.escape(event)}"')

    assert any(logged.search(path.read_text()) for path in SOURCES.rglob("*.py"))
    assert all(NOTABLE[event])


def test_the_doctor_tells_what_an_instance_elsewhere_has_logged(
    amqp_url: str, mongo_url: str, namespace: str
) -> None:
    environment = settings_for(amqp_url, mongo_url, namespace) | {"CRONEXEC_UNHEARD_OF": "1"}
    with serving(environment):
        findings = CommandLine(settings_for(amqp_url, mongo_url, namespace))("doctor", "--json").json

    said = [each["message"] for each in findings["findings"] if each["check"] == "instances.events"]
    assert any(message.startswith("also logged lately: settings.warning (holder: 1;") for message in said), (
        said
    )
