import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker
from pymongo import MongoClient

from cronexec.dev import mongodb, processes, rabbitmq
from cronexec.dev.errors import MissingServerError, ServerStartError
from cronexec.dev.mongodb import PrivateMongo
from cronexec.dev.processes import ChildProcess
from cronexec.dev.rabbitmq import PrivateRabbitmq
from cronexec.dev.servers import Servers

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="looks for processes in /proc"
)

QUORUM = {"x-queue-type": "quorum"}


def processes_in(directory: Path) -> set[int]:
    """Return the processes that have `directory` in their command line or environment, zombies excepted."""
    wanted = os.fsencode(directory)
    return {
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and mentions(entry, wanted)
    }


def mentions(process: Path, wanted: bytes) -> bool:
    try:
        return wanted in (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    except OSError:  # it has ended meanwhile
        return False


def still_running_after(processes: set[int], *, seconds: float) -> set[int]:
    """Wait until all processes have ended and return those that have not within `seconds`."""
    with contextlib.ExitStack() as stack:
        waiting = {}
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                descriptor = os.pidfd_open(process)
                stack.callback(os.close, descriptor)
                waiting[descriptor] = process
        while waiting and (ended := select.select(list(waiting), [], [], seconds)[0]):
            for descriptor in ended:
                del waiting[descriptor]
        return set(waiting.values())


def left_in(directory: Path) -> set[int]:
    """Return what is still there of `directory`'s processes when a SIGKILL has had time to arrive."""
    return still_running_after(processes_in(directory), seconds=2)


def publish(url: str, queue: str, body: bytes) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.queue_declare(queue, durable=True, arguments=QUORUM)
        channel.confirm_delivery()
        channel.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2))


def get(url: str, queue: str) -> bytes | None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        body: bytes | None = connection.channel().basic_get(queue)[2]
        return body


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("private")


@pytest.fixture(scope="module")
def private(directory: Path, server_programs: None) -> Iterator[Servers]:  # noqa: ARG001  skips without them
    """Return servers of this module's own, beside those of the session."""
    started = Servers(directory).start()
    yield started
    started.kill()


def test_two_brokers_run_side_by_side_and_know_nothing_of_each_other(private: Servers, amqp_url: str) -> None:
    assert private.rabbitmq
    publish(private.rabbitmq.url, "mine", b"here")

    assert private.rabbitmq.ctl("list_queues", "name").split() == ["name", "mine"]
    with pytest.raises(ChannelClosedByBroker, match="no queue 'mine'"):
        get(amqp_url, "mine")


def test_versions_are_known_after_the_start(private: Servers) -> None:
    assert private.rabbitmq
    assert private.mongo
    assert int(private.rabbitmq.version.split(".")[0]) >= 3
    assert int(private.mongo.version.split(".")[0]) >= 4


def test_a_restarted_or_killed_server_has_its_data_and_its_url_as_before(private: Servers) -> None:
    assert private.rabbitmq
    assert private.mongo
    publish(private.amqp_url, "kept", b"before")
    with MongoClient[dict[str, Any]](private.mongo_url) as client:
        client.app.jobs.insert_one({"name": "before"})

    private.rabbitmq.restart()
    private.mongo.kill()
    private.mongo.start()

    assert get(private.amqp_url, "kept") == b"before"
    with MongoClient[dict[str, Any]](private.mongo_url) as client:
        found = client.app.jobs.find_one({})
    assert found
    assert found["name"] == "before"


def test_stopping_both_servers_leaves_no_process_behind(private: Servers, directory: Path) -> None:
    private.start()
    assert len(processes_in(directory)) >= 3  # mongod, beam, epmd

    private.stop()

    assert left_in(directory) == set()


@pytest.mark.usefixtures("server_programs")
def test_a_killed_parent_takes_its_servers_with_it(tmp_path: Path) -> None:
    starts_servers = (
        "import sys, pathlib; from cronexec.dev.servers import Servers;"
        "servers = Servers(pathlib.Path(sys.argv[1])).start(); print('ready', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", starts_servers, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"ready\n"
        started = processes_in(tmp_path) - {parent.pid}
        parent.kill()
        left = still_running_after(started, seconds=10)

    assert len(started) >= 3
    assert left == set()


@pytest.mark.usefixtures("server_programs")
def test_a_standalone_mongodb_is_no_replica_set(tmp_path: Path) -> None:
    with PrivateMongo(tmp_path, replica_set=None) as mongo, MongoClient[dict[str, Any]](mongo.url) as client:
        assert "setName" not in client.admin.command("hello")
        assert client.admin.command("hello")["isWritablePrimary"]


@pytest.mark.usefixtures("server_programs")
def test_a_server_that_does_not_come_up_is_an_error_that_quotes_its_log(tmp_path: Path) -> None:
    with pytest.raises(ServerStartError, match=r"(?s)MongoDB: ended with exit code .*noSuchParameter"):
        PrivateMongo(tmp_path, parameters={"noSuchParameter": "1"}).start()

    assert left_in(tmp_path) == set()


def test_a_missing_server_names_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(rabbitmq, "SERVER_FOLDERS", ())
    monkeypatch.setattr(mongodb, "SERVER_FOLDERS", ())

    with pytest.raises(
        MissingServerError, match=r"install .* or set CRONEXEC_AMQP_URL to a running broker\.$"
    ):
        PrivateRabbitmq(tmp_path)
    with pytest.raises(
        MissingServerError, match=r"install .* or set CRONEXEC_MONGO_URL to a running replica set\.$"
    ):
        PrivateMongo(tmp_path)


def test_servers_given_by_url_are_used_and_not_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CRONEXEC_AMQP_URL", "amqp://broker.example/")
    monkeypatch.setenv("CRONEXEC_MONGO_URL", "mongodb://database.example/")

    with Servers.from_env(tmp_path) as given:
        assert (given.amqp_url, given.mongo_url) == ("amqp://broker.example/", "mongodb://database.example/")
        assert given.rabbitmq is None
        assert given.mongo is None
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_ignores_sigterm_is_killed_with_its_group(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "trap '' TERM; sleep 600 & echo up; while :; do wait; done"
    child = ChildProcess("stubborn", ["sh", "-c", script], log=log, env={**os.environ, "MARK": str(tmp_path)})
    child.start()
    child.wait_until(lambda: b"up" in log.read_bytes(), timeout=timedelta(seconds=10))
    started = processes_in(tmp_path)

    child.stop(timeout=timedelta(milliseconds=100))

    assert child.exit_code == -9
    assert len(started) == 2
    assert left_in(tmp_path) == set()


def test_a_child_that_ends_instead_of_becoming_ready_is_an_error_at_once(tmp_path: Path) -> None:
    child = ChildProcess("short", ["sh", "-c", "echo no licence; exit 3"], log=tmp_path / "log")
    child.start()

    with pytest.raises(ServerStartError, match=r"(?s)short: ended with exit code 3.*no licence"):
        child.wait_until(lambda: False, timeout=timedelta(seconds=60))


def test_what_a_child_leaves_behind_when_it_ends_by_itself_is_killed(tmp_path: Path) -> None:
    script = "sleep 600 & exit 0"
    child = ChildProcess(
        "leaver", ["sh", "-c", script], log=tmp_path / "log", env={**os.environ, "MARK": str(tmp_path)}
    )
    child.start()

    with pytest.raises(ServerStartError, match="leaver: ended with exit code 0"):
        child.wait_until(lambda: False, timeout=timedelta(seconds=60))

    assert left_in(tmp_path) == set()


@pytest.mark.skipif(sys.platform != "linux", reason="ports are reserved on Linux only")
def test_two_programs_that_look_for_ports_at_the_same_time_find_different_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = processes.free_port()
    few = range(first, first + 50)
    monkeypatch.setattr(processes, "PORTS", few)
    ours = {processes.free_port() for _ in range(20)}
    program = f"""if True:
        from cronexec.dev import processes
        processes.PORTS = range({few.start}, {few.stop})
        print(*(processes.free_port() for _ in range(20)))
    """
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    theirs = {int(port) for port in found.stdout.split()}
    assert (len(ours), len(theirs), ours & theirs) == (20, 20, set())
