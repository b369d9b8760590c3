"""Asks both servers and the namespace, side by side, and has the answers judged."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from cronexec.adapters.management import ManagementApi
from cronexec.adapters.mongo_inspection import inspect_database
from cronexec.adapters.rabbitmq import RabbitMQ, vhost_of
from cronexec.adapters.rabbitmq_inspection import inspect_broker
from cronexec.adapters.rabbitmq_topology import Topology
from cronexec.connection import Connection, tls_context
from cronexec.doctor.broker import judge_broker, judge_control, judge_policies, policies_unknown
from cronexec.doctor.database import judge_clock, judge_database
from cronexec.doctor.events import judge_events
from cronexec.doctor.finding import Finding, Level, fail, ok, warn
from cronexec.doctor.jobs import call_roll, judge_instances, judge_jobs, judge_lost, judge_unreadable
from cronexec.doctor.releases import judge_releases
from cronexec.doctor.term import judge_term
from cronexec.domain.term import TermRecord
from cronexec.errors import CronexecError, UnreachableError
from cronexec.ports import UnreadableJob
from cronexec.settings import Settings

Part = Callable[[Settings, Connection], Awaitable[list[Finding]]]


async def examine(settings: Settings, connection: Connection) -> list[Finding]:
    """Look at everything; returns findings in the order of settings, broker, database, namespace, control."""
    parts: tuple[Part, ...] = (_settings, _broker, _database, _namespace, _control)
    found = await asyncio.gather(*(part(settings, connection) for part in parts))
    findings: dict[str, Finding] = {}
    for finding in (each for part in found for each in part):
        findings.setdefault(finding.message, finding)  # what is in the way of two parts is said once
    return list(findings.values())


async def _settings(settings: Settings, _: Connection) -> list[Finding]:
    warnings = [warn("settings", text, "Correct or remove it.") for text in settings.warnings]
    return warnings or [ok("settings", f"namespace {settings.namespace}")]


async def _broker(settings: Settings, connection: Connection) -> list[Finding]:
    if not isinstance(connection.broker, RabbitMQ):
        return []
    topology = Topology(settings.namespace, settings.baton_queue_type)
    try:
        facts = await inspect_broker(connection.broker, topology)
    except CronexecError as error:
        return [_unasked("broker", error)]
    existing = [name for name, queue in facts.queues.items() if queue is not None]
    return [*judge_broker(facts, topology), *await _policies(settings, topology, existing)]


async def _policies(settings: Settings, topology: Topology, queues: Iterable[str]) -> list[Finding]:
    if settings.management_url is None:
        return [policies_unknown(topology)]
    async with _management(settings, settings.management_url) as management:
        try:
            return list(judge_policies({queue: await management.policy_of(queue) for queue in queues}))
        except UnreachableError as error:
            return [_unasked("broker.policies", error)]


async def _control(settings: Settings, connection: Connection) -> list[Finding]:
    """Compare who listens with who lives: needs both servers, and the management plugin to be told."""
    if settings.management_url is None or not isinstance(connection.broker, RabbitMQ):
        return []
    topology = Topology(settings.namespace, settings.baton_queue_type)
    try:
        now, instances = await connection.store.terms.ping(), await connection.store.instances.list()
        async with _management(settings, settings.management_url) as management:
            listeners = await management.listeners_of(topology.control)
    except CronexecError as error:
        return [_unasked("broker.control", error)]
    roll = call_roll(instances, now=now, lost_after=settings.instance_lost_after)
    return list(judge_control(listeners, roll.alive, topology))


@contextlib.asynccontextmanager
async def _management(settings: Settings, url: str) -> AsyncIterator[ManagementApi]:
    vhost = vhost_of(settings.amqp_urls[0])
    management = ManagementApi(url, vhost=vhost, tls=tls_context(settings))
    try:
        yield management
    finally:
        await management.close()


async def _database(settings: Settings, _: Connection) -> list[Finding]:
    try:
        return list(judge_database(await inspect_database(settings.mongo_url, namespace=settings.namespace)))
    except CronexecError as error:
        return [_unasked("database", error)]


async def _namespace(settings: Settings, connection: Connection) -> list[Finding]:
    try:
        return [finding async for finding in _ask_namespace(settings, connection)]
    except CronexecError as error:
        return [_unasked("database", error)]


async def _ask_namespace(settings: Settings, connection: Connection) -> AsyncIterator[Finding]:
    store = connection.store
    now = await store.terms.ping()
    yield judge_clock(connection.clock.offset)
    unreadable: list[UnreadableJob] = []
    jobs, instances, term = await asyncio.gather(
        store.jobs.list(report=unreadable.append), store.instances.list(), _term(connection)
    )
    roll = call_roll(instances, now=now, lost_after=settings.instance_lost_after)
    holder_id = term.holder_id if isinstance(term, TermRecord) else None
    for finding in (
        *judge_instances(roll.alive),
        *judge_lost(roll),
        *judge_events(roll.alive, now=now),
        *judge_unreadable(unreadable),
        *judge_jobs(jobs, roll.alive, holder_id=holder_id),
        *judge_releases(jobs, roll.alive),
    ):
        yield finding
    if isinstance(term, TermRecord):
        for finding in judge_term(term, settings.baton_lost_after):
            yield finding
    else:
        yield term


async def _term(connection: Connection) -> TermRecord | Finding:
    try:
        return await connection.store.terms.read()
    except UnreachableError as error:  # the database has just answered: what is not there is the namespace
        return fail("holder", error.problem, error.remedy)


def _unasked(check: str, error: CronexecError) -> Finding:
    if isinstance(error, UnreachableError):
        return Finding(check=check, level=Level.UNREACHABLE, message=error.problem, remedy=error.remedy)
    return fail(check, str(error), "")
