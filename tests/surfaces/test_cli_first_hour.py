"""What goes wrong in the first hour: one sentence with the remedy, and exit code 4."""

import secrets
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cli_program import Answer, CommandLine, settings_for
from pymongo import MongoClient

from cronexec.dev.mongodb import PrivateMongo

PASSWORD = secrets.token_hex(8)


@pytest.fixture
def cronexec(amqp_url: str, mongo_url: str, namespace: str) -> CommandLine:
    return CommandLine(settings_for(amqp_url, mongo_url, namespace))


def put(cronexec: CommandLine, **settings: str) -> Answer:
    job = '{"name": "a", "schedule": {"every": "1h"}, "target": {"type": "handler", "name": "a"}}'
    return cronexec("job", "put", "-", "--wait", "5", stdin=job, **settings)


def assert_told(answer: Answer, *said: str) -> None:
    assert answer.code == 4
    assert answer.out == ""
    assert answer.err.count("\n") == 1, answer.err
    for each in said:
        assert each in answer.err


def test_a_broker_that_is_not_there(cronexec: CommandLine) -> None:
    told = put(cronexec, CRONEXEC_AMQP_URL="amqp://guest:guest@127.0.0.1:1/")

    assert_told(told, "nothing listens at 127.0.0.1:1", "Start the broker")


def test_a_broker_s_host_that_is_not_known(cronexec: CommandLine) -> None:
    told = put(cronexec, CRONEXEC_AMQP_URL="amqp://guest:guest@no-such-host.invalid/")

    assert_told(told, "the host name of the broker no-such-host.invalid:5672 is not known")


def test_a_login_that_the_broker_refuses(cronexec: CommandLine, amqp_url: str) -> None:
    told = put(
        cronexec, CRONEXEC_AMQP_URL=f"amqp://guest:wrong-word@{urlsplit(amqp_url).netloc.split('@')[-1]}/"
    )

    assert_told(told, "refused the login of user 'guest'", "Check user and password")
    assert "wrong-word" not in told.err


def test_a_virtual_host_that_does_not_exist(cronexec: CommandLine, amqp_url: str) -> None:
    told = put(cronexec, CRONEXEC_AMQP_URL=f"{amqp_url.rstrip('/')}/nowhere")

    assert_told(told, "the virtual host 'nowhere'", "rabbitmqctl add_vhost")


def test_a_certificate_of_the_broker_that_is_not_trusted(cronexec: CommandLine, tmp_path: Path) -> None:
    with tls_server(tmp_path) as port:
        told = put(cronexec, CRONEXEC_AMQP_URL=f"amqps://guest:guest@localhost:{port}/")

    assert_told(told, "is not trusted", "authority")


def test_a_broker_that_speaks_no_tls(cronexec: CommandLine, amqp_url: str) -> None:
    told = put(cronexec, CRONEXEC_AMQP_URL=amqp_url.replace("amqp://", "amqps://"))

    assert_told(told, "does not speak TLS", "amqp://")


def test_a_database_that_is_not_there(cronexec: CommandLine) -> None:
    told = cronexec("job", "list", CRONEXEC_MONGO_URL="mongodb://127.0.0.1:1/")

    assert_told(told, "MongoDB does not answer at 127.0.0.1:1", "Check host and port")


def test_a_standalone_database(cronexec: CommandLine, tmp_path: Path, server_programs: None) -> None:
    assert server_programs is None
    with PrivateMongo(tmp_path, replica_set=None) as mongo:
        told = cronexec("job", "list", CRONEXEC_MONGO_URL=mongo.url)
        examined = cronexec("doctor", CRONEXEC_MONGO_URL=mongo.url)

    assert_told(told, "standalone", "--replSet", "rs.initiate()")
    assert "fail  database.replica_set: MongoDB is a standalone server" in examined.out
    assert "rs.initiate()" in examined.out


def test_a_database_that_refuses_the_login_or_a_right(
    cronexec: CommandLine, tmp_path: Path, server_programs: None
) -> None:
    assert server_programs is None
    with with_users(tmp_path) as (address, database):
        wrong = f"mongodb://reader:wrong-word@{address}/{database}?authSource=admin"
        reader = f"mongodb://reader:{PASSWORD}@{address}/{database}?authSource=admin"
        refused = cronexec("job", "list", CRONEXEC_MONGO_URL=wrong)
        forbidden = cronexec("job", "list", CRONEXEC_MONGO_URL=reader.replace(database, "elsewhere"))
        examined = cronexec("doctor", CRONEXEC_MONGO_URL=reader)

    assert_told(refused, "MongoDB refused the login", "authSource")
    assert "wrong-word" not in refused.err
    assert_told(forbidden, "lacks a right", "readWrite")
    assert "fail  database.rights: the user reader may not" in examined.out


def test_what_the_doctor_cannot_ask_is_exit_code_4_and_the_rest_is_told(cronexec: CommandLine) -> None:
    answer = cronexec("doctor", "--json", CRONEXEC_AMQP_URL="amqp://127.0.0.1:1/")

    assert answer.code == 4
    levels = {each["check"]: each["level"] for each in answer.json["findings"]}
    assert levels["broker"] == "unreachable"
    assert levels["database.replica_set"] == "ok"


def test_with_json_a_failure_is_a_document(cronexec: CommandLine) -> None:
    answer = cronexec("baton", "status", "--json", CRONEXEC_AMQP_URL="amqp://127.0.0.1:1/")

    assert answer.code == 4
    assert answer.json["error"]["code"] == "unreachable"


@contextmanager
def tls_server(folder: Path) -> Iterator[int]:
    """Listen with a certificate that nobody has signed."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_refuse_all, args=(listener, context))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _refuse_all(listener: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        try:
            context.wrap_socket(connection, server_side=True).close()
        except OSError:
            connection.close()


class GuardedMongo(PrivateMongo):
    """A member that asks for a login."""

    def _command(self) -> list[str]:
        return [*super()._command(), "--keyFile", str(self.directory / "key")]


@contextmanager
def with_users(folder: Path) -> Iterator[tuple[str, str]]:
    """Run a MongoDB on which `reader` may only read one database. Yields its address and that database."""
    database = f"d{secrets.token_hex(3)}"
    users = {"root": {"role": "root", "db": "admin"}, "reader": {"role": "read", "db": database}}
    with PrivateMongo(folder) as mongo, MongoClient[dict[str, Any]](mongo.url) as client:
        for user, role in users.items():
            client.admin.command("createUser", user, pwd=PASSWORD, roles=[role])
    (folder / "key").write_text(secrets.token_hex(64))
    (folder / "key").chmod(0o600)
    with GuardedMongo(folder, port=mongo.port) as guarded:
        yield f"127.0.0.1:{guarded.port}", database
