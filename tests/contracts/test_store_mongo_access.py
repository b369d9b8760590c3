"""What people meet first: a server that is absent, refuses them, or stands alone. Rights, indexes, expiry."""

import gc
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from stores import ANNA, RETENTION, MongoBench, begin, entry, job, skip, slot_at, succeeded, version, write

from cronexec.adapters.mongo import MongoStore
from cronexec.dev.mongodb import PrivateMongo
from cronexec.dev.processes import free_port
from cronexec.domain.run import RunState
from cronexec.errors import SettingsError, UnreachableError
from cronexec.ports import Finish, RunFilter, Start

PASSWORD = "s3cret-pa55"  # noqa: S105  of a server that lives for a test
ROOT, USER, READER = "root", "games", "reader"
TOKEN = "t1"  # noqa: S105  of a start


class GuardedMongo(PrivateMongo):
    """A member that asks for a login, and speaks TLS where the client does."""

    def _command(self) -> list[str]:
        key, certificate = self.directory / "key", self.directory / "server.pem"
        guard = ["--auth", "--keyFile", str(key), "--tlsMode", "allowTLS"]
        guard += ["--tlsCertificateKeyFile", str(certificate), "--tlsCAFile", str(self.directory / "ca.pem")]
        return [*super()._command(), *guard, "--tlsAllowConnectionsWithoutCertificates"]

    def _initiate(self, client: MongoClient[dict[str, Any]]) -> None:
        member = {"_id": 0, "host": f"localhost:{self.port}"}
        client.admin.command("replSetInitiate", {"_id": "rs0", "members": [member]})

    def url_of(self, user: str, password: str = PASSWORD, options: str = "") -> str:
        where = f"localhost:{self.port}/games"
        return f"mongodb://{user}:{password}@{where}?replicaSet=rs0&authSource=admin{options}"


def make_certificate(directory: Path) -> None:
    """Write a self-signed certificate for localhost, and a key file for the set."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", str(directory / "tls.key"), "-out", str(directory / "ca.pem")]
    subprocess.run(command, check=True, capture_output=True)
    both = (directory / "tls.key").read_text() + (directory / "ca.pem").read_text()
    (directory / "server.pem").write_text(both)
    (directory / "key").write_text(secrets.token_hex(32))
    (directory / "key").chmod(0o600)


@pytest.fixture(scope="module")
def guarded(server_programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedMongo]:  # noqa: ARG001  it must be there
    directory = tmp_path_factory.mktemp("guarded")
    make_certificate(directory)
    with GuardedMongo(directory) as server:
        with MongoClient[dict[str, Any]]("localhost", server.port, directConnection=True) as client:
            client.admin.command("createUser", ROOT, pwd=PASSWORD, roles=["root"])
        with MongoClient[dict[str, Any]](server.url_of(ROOT)) as client:
            client.admin.command(
                "createUser", USER, pwd=PASSWORD, roles=[{"role": "readWrite", "db": "games"}]
            )
            client.admin.command("createUser", READER, pwd=PASSWORD, roles=[{"role": "read", "db": "games"}])
        yield server


@pytest.fixture(scope="module")
def standalone(server_programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateMongo]:  # noqa: ARG001
    with PrivateMongo(tmp_path_factory.mktemp("standalone"), replica_set=None) as server:
        yield server


@pytest.fixture
def unclosed_sockets() -> Iterator[None]:
    """Let go of the sockets that pymongo 4.20 leaves open when a TLS handshake fails."""
    yield
    gc.collect()


left_open = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


async def problem_of(url: str) -> UnreachableError:
    """Return how a first contact with this URL fails."""
    mongo = MongoStore(url, namespace="first", retention=RETENTION)
    try:
        with pytest.raises(UnreachableError) as refused:
            await mongo.store.terms.prepare()
    finally:
        await mongo.close()
    assert refused.value.service == "database"
    assert PASSWORD not in str(refused.value)
    return refused.value


async def test_a_standalone_is_told_how_to_become_a_replica_set(standalone: PrivateMongo) -> None:
    problem = await problem_of(standalone.url)
    assert "standalone" in problem.problem
    assert "rs.initiate()" in problem.remedy


async def test_a_standalone_that_was_taken_for_a_set_is_told_the_same(standalone: PrivateMongo) -> None:
    problem = await problem_of(f"{standalone.url}?replicaSet=rs0")
    assert "standalone" in problem.problem
    assert "rs.initiate()" in problem.remedy


async def test_a_port_where_nothing_listens_is_named() -> None:
    port = free_port()
    problem = await problem_of(f"mongodb://u:{PASSWORD}@127.0.0.1:{port}/")
    assert f"127.0.0.1:{port}" in problem.problem
    assert "host and port" in problem.remedy


async def test_an_unknown_host_is_named() -> None:
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("no-such-host.invalid", 27017)
    problem = await problem_of("mongodb://no-such-host.invalid/?replicaSet=rs0")
    assert "no-such-host.invalid" in problem.problem
    assert "host" in problem.remedy


async def test_a_refused_login_says_what_to_check(guarded: GuardedMongo) -> None:
    problem = await problem_of(guarded.url_of(USER, "wrong"))
    assert "refused the login" in problem.problem
    assert "authSource" in problem.remedy


async def test_a_missing_right_names_the_role(guarded: GuardedMongo) -> None:
    problem = await problem_of(guarded.url_of(READER))
    assert "right" in problem.problem
    assert "readWrite" in problem.remedy


async def test_no_login_at_all_names_the_role(guarded: GuardedMongo) -> None:
    problem = await problem_of(f"mongodb://localhost:{guarded.port}/games?replicaSet=rs0")
    assert "readWrite" in problem.remedy


@left_open
@pytest.mark.usefixtures("unclosed_sockets")
async def test_an_untrusted_certificate_says_where_to_name_its_authority(guarded: GuardedMongo) -> None:
    problem = await problem_of(guarded.url_of(USER, options="&tls=true"))
    assert "not trusted" in problem.problem
    assert "tlsCAFile" in problem.remedy


@left_open
@pytest.mark.usefixtures("unclosed_sockets")
async def test_a_server_without_tls_is_told_apart(standalone: PrivateMongo) -> None:
    problem = await problem_of(f"{standalone.url}?tls=true")
    assert "TLS" in problem.problem


async def test_read_write_on_one_database_is_all_a_user_needs(guarded: GuardedMongo) -> None:
    ca = guarded.directory / "ca.pem"
    bench = MongoBench(guarded.url_of(USER, options=f"&tls=true&tlsCAFile={ca}"), "full")
    store = bench.open()
    try:
        term = await begin(store)
        await store.terms.ping()
        dead = bench.instance()
        await _lock_the_term_document(dead)
        successor = await store.terms.raise_epoch(ANNA)
        assert successor.epoch == term.epoch + 2
        assert (await write(store, successor, entries=[entry("a")])).seq == successor.seq + 1
    finally:
        await bench.close()


async def _lock_the_term_document(instance: MongoStore) -> None:
    """Begin a term and stop inside a transaction that changed the term document."""
    await instance.store.terms.raise_epoch(ANNA)
    current = instance._writer._current
    assert current is not None
    await current.session.start_transaction()
    term = instance._writer._collections.term
    await term.update_one({"_id": "term"}, {"$inc": {"seq": 1}}, session=current.session)


@pytest.mark.parametrize(
    "url", ["http://u:{}@host/", "mongodb://u:{}@x@host/", "mongodb://u:{}@host:99999/", "mongodb://"]
)
async def test_a_url_that_is_none_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        MongoStore(url.format(PASSWORD), namespace="n", retention=RETENTION)
    assert PASSWORD not in str(refused.value)
    assert "mongo_url" in str(refused.value)


async def test_a_namespace_that_nobody_prepared_says_so(mongo: MongoBench) -> None:
    store = mongo.open()
    with pytest.raises(UnreachableError, match="not in the database yet"):
        await store.terms.read()
    with pytest.raises(UnreachableError, match="not in the database yet"):
        await store.terms.raise_epoch(ANNA)


async def test_pings_measure_the_databases_clock(mongo: MongoBench) -> None:
    instance = mongo.instance()
    await instance.store.terms.prepare()
    await instance.store.terms.ping()
    assert abs(instance.clock.offset) < timedelta(seconds=1)  # the same machine's
    difference = (await instance.store.terms.read()).read_at - instance.clock.now()
    assert abs(difference) < timedelta(milliseconds=100)


async def test_only_what_is_settled_expires(mongo: MongoBench) -> None:
    store = mongo.open()
    open_range, done = skip("p", open_ended=True), entry("done")
    entries = [entry("queued"), done, skip("s"), open_range]
    jobs = [job("kept", 1), job("gone", 2, deleted_at=slot_at(9))]
    versions = [version("kept", 1, 0), version("gone", 1, 0, 9)]
    await write(store, await begin(store), entries=entries, jobs=jobs, versions=versions, revision=2)
    await store.runs.start([done], Start(token=TOKEN, executor=ANNA, at=slot_at(1)))
    ended = Finish(
        run_id=done.id,
        attempt=1,
        token=TOKEN,
        outcome=succeeded(),
        started_at=slot_at(1),
        finished_at=slot_at(2),
    )
    await store.runs.finish([ended])
    assert _expiries(mongo, "runs", "job") == {"done": slot_at(2) + RETENTION, "s": slot_at() + RETENTION}
    assert _expiries(mongo, "jobs", "_id") == {"gone": slot_at(9) + RETENTION}
    assert _expiries(mongo, "job_versions", "name") == {"gone": slot_at(9) + RETENTION}


def _expiries(mongo: MongoBench, collection: str, key: str) -> dict[str, datetime]:
    with MongoClient[dict[str, Any]](mongo.url, tz_aware=True, tzinfo=UTC) as client:
        found = client["cronexec"][f"{mongo.namespace}.{collection}"].find({"expire_at": {"$exists": True}})
        return {fields[key]: _to_the_second(fields["expire_at"]) for fields in found}


def _to_the_second(instant: datetime) -> datetime:
    return instant.replace(microsecond=0)


async def test_questions_that_are_asked_often_are_answered_by_an_index(mongo: MongoBench) -> None:
    store = mongo.open()
    settled = [skip(f"job{number}", number) for number in range(400)]
    await write(store, await begin(store), entries=[*settled, entry("a"), skip("p", open_ended=True)])
    with MongoClient[dict[str, Any]](mongo.url) as client:
        runs = client["cronexec"][f"{mongo.namespace}.runs"]
        examined = {name: _examined(runs, where, order) for name, where, order in _questions()}
    assert examined == {"unsettled": 1, "cancel_requests": 0, "beyond": 1, "job": 1}


def _questions() -> list[tuple[str, dict[str, Any], list[tuple[str, int]]]]:
    cancel = {"unsettled": True, "cancel_requested_by": {"$exists": True}, "executor.id": ANNA.id}
    beyond = {"$or": [{"slot": {"$gt": slot_at(500)}}, {"until": {"$gt": slot_at(500)}}]}
    return [
        ("unsettled", {"unsettled": True}, [("slot", 1)]),
        ("cancel_requests", cancel, []),
        ("beyond", beyond, [("slot", 1)]),
        ("job", {"job": "job7"}, [("slot", -1)]),
    ]


def _examined(runs: Any, where: dict[str, Any], order: list[tuple[str, int]]) -> int:
    """Return how many documents the server looks at."""
    plan = runs.find(where, sort=order or None).explain()
    return int(plan["executionStats"]["totalDocsExamined"])


async def test_the_newest_runs_are_found_without_reading_the_rest(mongo: MongoBench) -> None:
    """As the store itself asks for them: in another order than an index has, the whole ledger is sorted."""
    store = mongo.open()
    settled = [skip(f"job{number % 7}", number) for number in range(400)]
    running = [entry("a", 500 + number) for number in range(60)]
    await write(store, await begin(store), entries=[*settled, *running])
    lists = [
        RunFilter(limit=50),
        RunFilter(limit=50, since=slot_at(10)),
        RunFilter(limit=50, job="job3"),
        RunFilter(limit=50, states=(RunState.QUEUED, RunState.RUNNING)),
    ]
    with MongoClient[dict[str, Any]](mongo.url) as client:
        database = client["cronexec"]
        database.command({"profile": 2})
        try:
            for which in lists:
                assert len(await store.runs.list(which)) == 50
        finally:
            database.command({"profile": 0})
        asked = list(
            database["system.profile"].find({"ns": f"cronexec.{mongo.namespace}.runs", "op": "query"})
        )
        database.drop_collection("system.profile")
    assert [each["docsExamined"] for each in asked] == [50] * len(lists)


async def test_an_error_of_the_driver_is_the_cause(guarded: GuardedMongo) -> None:
    problem = await problem_of(guarded.url_of(READER))
    assert isinstance(problem.__cause__, OperationFailure)
