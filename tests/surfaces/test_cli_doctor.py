"""What the doctor finds wrong, and what it says to do: from facts, and on a broker with a wrong queue."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pika
import pytest
from cli_program import CommandLine, serving, settings_for
from pymongo import MongoClient

from cronexec.adapters.mongo_inspection import DatabaseFacts
from cronexec.adapters.rabbitmq_inspection import BrokerFacts, QueueFacts
from cronexec.adapters.rabbitmq_topology import Topology
from cronexec.doctor.broker import judge_broker
from cronexec.doctor.database import judge_clock, judge_database
from cronexec.doctor.finding import Finding, Level
from cronexec.doctor.jobs import call_roll, judge_instances, judge_jobs, judge_lost
from cronexec.doctor.term import judge_term
from cronexec.domain.job import Job, JobDocument
from cronexec.domain.run import Executor
from cronexec.domain.term import TermRecord
from cronexec.ports import InstanceRecord

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TOPOLOGY = Topology("games")
WELL = DatabaseFacts(
    version="8.0.4",
    replica_set="rs0",
    sharded=False,
    members=3,
    user="cronexec",
    missing_rights=(),
    prepared=True,
    missing_indexes={},
)


def job(name: str, target: dict[str, str], *, declared: bool = False) -> Job:
    document = JobDocument.parse({"name": name, "schedule": {"every": "1h"}, "target": target})
    return Job(document=document, version=1, revision=1, from_at=NOW, updated_at=NOW, declared=declared)


def instance(name: str, **fields: object) -> InstanceRecord:
    executor = Executor(id=name, name=name, datacenter="east")
    record = InstanceRecord(
        executor=executor, started_at=NOW, beat_at=NOW, versions={"croniter": "7.0.1", "tzdata": "2025.2"}
    )
    return replace(record, **fields)  # type: ignore[arg-type]


def broker(version: tuple[int, ...], **queues: QueueFacts | None) -> BrokerFacts:
    return BrokerFacts(version=version, queues={f"games.{name}": facts for name, facts in queues.items()})


def queue(ready: int = 0, consumers: int = 1, **differences: str) -> QueueFacts:
    named = {name.replace("_", "-"): value for name, value in differences.items()}
    return QueueFacts(ready=ready, consumers=consumers, differences=named)


def not_ok(findings: Iterable[Finding]) -> dict[str, Level]:
    found = [each for each in findings if each.level is not Level.OK]
    assert all(each.remedy for each in found)
    return {each.check: each.level for each in found}


def test_a_database_that_is_as_it_should_be_has_nothing_to_do() -> None:
    assert not_ok(judge_database(WELL)) == {}


@pytest.mark.parametrize(
    ("facts", "check", "level"),
    [
        (replace(WELL, version="4.2.24"), "database.version", Level.FAIL),
        (replace(WELL, replica_set=None, members=0), "database.replica_set", Level.FAIL),
        (replace(WELL, members=2), "database.replica_set", Level.WARN),
        (replace(WELL, missing_rights=("insert",)), "database.rights", Level.FAIL),
        (replace(WELL, missing_indexes={"games.runs": ["slot"]}), "database.indexes", Level.FAIL),
        (replace(WELL, prepared=False), "database.indexes", Level.WARN),
    ],
)
def test_what_is_wrong_with_a_database_is_found(facts: DatabaseFacts, check: str, level: Level) -> None:
    assert not_ok(judge_database(facts)) == {check: level}


def test_a_standalone_database_gets_the_two_commands_that_make_it_a_set() -> None:
    remedies = [each.remedy for each in judge_database(replace(WELL, replica_set=None))]

    assert any("mongod --replSet rs0" in each and "rs.initiate()" in each for each in remedies)


@pytest.mark.parametrize(("version", "level"), [((3, 7, 28), Level.FAIL), ((3, 9, 1), Level.WARN)])
def test_an_old_broker_is_found(version: tuple[int, ...], level: Level) -> None:
    assert not_ok(judge_broker(broker(version, baton=queue()), TOPOLOGY)) == {"broker.version": level}


@pytest.mark.parametrize(
    ("version", "facts", "level"),
    [
        ((4, 0, 5), queue(x_single_active_consumer="not set"), Level.FAIL),
        ((3, 10, 8), queue(x_delivery_limit="-1"), Level.FAIL),
        ((4, 0, 5), queue(x_delivery_limit="not set"), Level.WARN),
        ((4, 0, 5), queue(x_queue_type="classic"), Level.WARN),
        ((4, 0, 5), None, Level.WARN),
    ],
)
def test_a_queue_with_other_arguments_is_found(
    version: tuple[int, ...], facts: QueueFacts | None, level: Level
) -> None:
    assert not_ok(judge_broker(broker(version, baton=facts), TOPOLOGY)) == {"broker.queue": level}


def test_rejected_messages_are_pointed_out() -> None:
    facts = broker((4, 0, 5), **{"commands.rejected": queue(ready=3, consumers=0)})

    assert not_ok(judge_broker(facts, TOPOLOGY)) == {"broker.rejected": Level.WARN}


def test_commands_that_wait_for_a_newer_release_are_pointed_out() -> None:
    facts = broker((4, 0, 5), **{"commands.newer": queue(ready=3, consumers=1)})

    assert not_ok(judge_broker(facts, TOPOLOGY)) == {"broker.newer": Level.WARN}


def test_instances_that_would_compute_other_slots_are_found() -> None:
    other = instance("b", versions={"croniter": "7.0.1", "tzdata": "2026.1"})

    assert not_ok(judge_instances([instance("a"), other])) == {"instances.versions": Level.WARN}
    assert not_ok(judge_instances([instance("a"), instance("b")])) == {}
    assert not_ok(judge_instances([])) == {"instances": Level.FAIL}
    assert not_ok(judge_instances([instance("a", clock_offset_ms=-2500.0)])) == {
        "instances.clock": Level.WARN
    }


def test_jobs_that_no_live_instance_can_execute_are_found() -> None:
    jobs = [
        job("handled", {"type": "handler", "name": "known"}),
        job("orphaned", {"type": "handler", "name": "gone"}),
        job("forgotten", {"type": "handler", "name": "forgotten"}, declared=True),
        job("shell", {"type": "shell", "command": "true"}),
    ]

    assert not_ok(judge_jobs(jobs, [instance("a", handlers=("known",))])) == {
        "jobs.handlers": Level.FAIL,
        "jobs.declared": Level.WARN,
        "jobs.shell": Level.FAIL,
    }
    able = [instance("a", handlers=("known", "gone", "forgotten")), instance("b", allow_shell=True)]
    assert not_ok(judge_jobs(jobs, able)) == {}


def test_what_only_standbys_can_execute_is_found() -> None:
    jobs = [
        job("everywhere", {"type": "handler", "name": "common"}),
        job("elsewhere", {"type": "handler", "name": "rare"}),
        job("shell", {"type": "shell", "command": "true"}),
        job("web", {"type": "webhook", "url": "http://127.0.0.1/"}),
    ]
    holder = instance("a", handlers=("common",))
    standby = instance("b", handlers=("common", "rare"), allow_shell=True)

    (found,) = judge_jobs(jobs, [holder, standby], holder_id="a")
    assert (found.check, found.level) == ("jobs.holder", Level.FAIL)
    assert "the holder a cannot: elsewhere, shell" in found.message
    assert not_ok(judge_jobs(jobs, [holder, standby], holder_id="b")) == {}
    assert not_ok(judge_jobs(jobs, [standby], holder_id="gone")) == {}


def test_an_instance_whose_heartbeat_stands_still_is_lost_and_counts_for_nothing() -> None:
    lost = instance("a", beat_at=NOW - timedelta(seconds=61), handlers=("only-there",))
    roll = call_roll([lost, instance("b")], now=NOW, lost_after=timedelta(seconds=60))

    assert [each.executor.name for each in roll.alive] == ["b"]
    (found,) = judge_lost(roll)
    assert (found.check, found.level) == ("instances.lost", Level.WARN)
    assert "a is lost: its last heartbeat was at 2026-03-01 11:58:59 UTC" in found.message
    orphaned = job("orphaned", {"type": "handler", "name": "only-there"})
    assert not_ok(judge_jobs([orphaned], roll.alive)) == {"jobs.handlers": Level.FAIL}


def test_an_instance_that_was_started_again_is_not_missed() -> None:
    before = replace(
        instance("a", beat_at=NOW - timedelta(hours=1)), executor=Executor(id="1", name="a", datacenter="x")
    )
    roll = call_roll([before, instance("a")], now=NOW, lost_after=timedelta(seconds=60))

    (found,) = judge_lost(roll)
    assert (found.level, "started again" in found.message) == (Level.OK, True)


def test_a_schedule_that_nobody_carries_out_is_found() -> None:
    term = TermRecord(
        epoch=3,
        seq=9,
        watermark=NOW,
        revision=1,
        holder_id="a",
        holder_name="a",
        datacenter="east",
        since_at=NOW,
        read_at=NOW + timedelta(seconds=1),
    )
    lost_after = timedelta(seconds=15)

    assert not_ok(judge_term(term, lost_after)) == {}
    assert not_ok(judge_term(replace(term, read_at=NOW + timedelta(seconds=8)), lost_after)) == {
        "lag": Level.WARN
    }
    assert not_ok(judge_term(replace(term, read_at=NOW + timedelta(seconds=20)), lost_after)) == {
        "holder": Level.FAIL
    }
    assert not_ok(judge_term(replace(term, holder_id=None), lost_after)) == {"holder": Level.FAIL}


def test_a_clock_that_is_off_by_more_than_a_second_is_found() -> None:
    assert not_ok([judge_clock(timedelta(milliseconds=-999))]) == {}
    assert not_ok([judge_clock(timedelta(milliseconds=-1001))]) == {"clock": Level.WARN}


def test_a_queue_that_others_have_declared_is_compared_as_it_is(
    amqp_url: str, mongo_url: str, namespace: str
) -> None:
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        connection.channel().queue_declare(f"{namespace}.baton", durable=True)

    answer = CommandLine(settings_for(amqp_url, mongo_url, namespace))("doctor", "--json")

    assert answer.code == 1
    said = {each["message"]: each["level"] for each in answer.json["findings"]}
    wrong = [
        message for message in said if f"{namespace}.baton has x-single-active-consumer = not set" in message
    ]
    assert [said[message] for message in wrong] == ["fail"]
    assert any(f"{namespace}.commands does not exist yet" in message for message in said)


def test_an_instance_that_was_killed_is_listed_as_lost_and_since_when(
    amqp_url: str, mongo_url: str, namespace: str
) -> None:
    environment = settings_for(amqp_url, mongo_url, namespace)
    with serving(environment):
        pass  # killed at the end
    collection = f"{namespace}.instances"
    with MongoClient[dict[str, Any]](mongo_url) as client:
        instances = client.get_default_database("cronexec")[collection]
        instances.update_one({}, [{"$set": {"beat_at": {"$subtract": ["$$NOW", 61_000]}}}])

    findings = CommandLine(environment)("doctor", "--json").json["findings"]

    said = {each["check"]: each["message"] for each in findings}
    assert said["instances"] == "no instance is alive"
    assert "holder is lost: its last heartbeat was at 20" in said["instances.lost"]
