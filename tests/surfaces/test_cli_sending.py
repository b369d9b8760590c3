"""What becomes of what is sent: each command is told of, and a mistyped namespace is not made by sending."""

import json
import secrets

import pika
import pytest
from cli_jobs import eventually, shell_job
from cli_program import Answer, CommandLine, serving
from pika.exceptions import ChannelClosedByBroker
from pymongo import MongoClient

JOB = '{"name": "%s", "schedule": {"every": "1h"}, "target": {"type": "handler", "name": "nobody-has"}}'


@pytest.fixture
def name() -> str:
    return f"j-{secrets.token_hex(3)}"


def send(cronexec: CommandLine, *commands: object, wait: str = "10") -> Answer:
    return cronexec("command", "send", "--wait", wait, "--json", "-", stdin=json.dumps(commands))


def put_command(name: str) -> dict[str, object]:
    return {"type": "job.put", "job": json.loads(JOB % name)}


def test_a_refused_command_does_not_keep_those_behind_it_from_being_sent(
    cronexec: CommandLine, name: str
) -> None:
    commands = (put_command(name), {"type": "job.pause", "name": "none"}, {"type": "job.pause", "name": name})

    answer = send(cronexec, *commands)

    assert answer.code == 1
    replies = answer.json["replies"]
    assert [reply.get("error", {}).get("code") for reply in replies] == [None, "not_found", None]
    assert replies[2]["result"]["paused"] is True
    assert answer.err.count("\n") == 1
    told = cronexec("command", "send", "-", stdin=json.dumps(commands))
    assert [line.split()[0] for line in told.lines] == ["job.put", "job.pause"]
    assert told.err.startswith("Error: job.pause ")
    assert "there is no job none" in told.err


def test_after_a_command_that_nobody_answers_the_rest_is_said_not_to_be_sent(
    environment: dict[str, str], namespace: str, name: str
) -> None:
    cronexec = CommandLine(environment | {"CRONEXEC_NAMESPACE": namespace})
    commands = [put_command(f"{name}-{number}") for number in range(3)]

    answer = cronexec(
        "command", "send", "--create-namespace", "--wait", "0.1", "--json", "-", stdin=json.dumps(commands)
    )

    assert answer.code == 3
    codes = [reply["error"]["code"] for reply in answer.json["replies"]]
    assert codes == ["not_yet_applied", "not_sent", "not_sent"]
    assert answer.err.splitlines()[-1] == "Error: 2 further commands were not sent"


def test_jobs_put_with_a_short_wait_are_sent(environment: dict[str, str], name: str, namespace: str) -> None:
    lines = "\n".join(JOB % f"{name}-{number}" for number in range(100))
    unserved = CommandLine(environment | {"CRONEXEC_NAMESPACE": namespace})

    answer = unserved("job", "put", "--create-namespace", "--wait", "0.01", "--json", "-", stdin=lines)

    assert answer.code == 3
    assert (answer.json["not_yet_applied"], answer.json["not_sent"]) == (100, 0)
    with serving(environment, CRONEXEC_NAMESPACE=namespace) as served:
        served.wait_for("command.applied")
        assert unserved("job", "put", "--json", "-", stdin=lines).json["unchanged"] == 100


def exists(environment: dict[str, str], queue: str) -> bool:
    with pika.BlockingConnection(pika.URLParameters(environment["CRONEXEC_AMQP_URL"])) as connection:
        try:
            connection.channel().queue_declare(queue, passive=True)
        except ChannelClosedByBroker:
            return False
        return True


@pytest.mark.parametrize(
    "arguments",
    [
        ("job", "put", "-"),
        ("job", "delete", "a"),
        ("job", "pause", "a"),
        ("job", "resume", "a"),
        ("job", "trigger", "a"),
        ("run", "cancel", "a"),
        ("baton", "reinsert"),
        ("baton", "release"),
        ("command", "send", "-"),
    ],
    ids=" ".join,
)
def test_sending_to_a_namespace_that_nobody_served_is_refused_and_creates_nothing(
    cronexec: CommandLine, environment: dict[str, str], arguments: tuple[str, ...]
) -> None:
    right = environment["CRONEXEC_NAMESPACE"]
    wrong = f"{right}s"
    document = json.dumps(put_command("a")) if arguments[0] == "command" else JOB % "a"

    answer = cronexec("--namespace", wrong, *arguments, stdin=document)

    assert (answer.code, answer.out) == (1, "")
    assert answer.err.count("\n") == 1
    assert f"no instance has ever served the namespace '{wrong}'" in answer.err
    assert right in answer.err.split("(served: ", 1)[1].split(")", maxsplit=1)[0].split(", ")
    assert "did you mean" in answer.err
    assert "--create-namespace" in answer.err
    assert not any(exists(environment, f"{wrong}.{queue}") for queue in ("baton", "commands"))
    with MongoClient[dict[str, object]](environment["CRONEXEC_MONGO_URL"]) as client:
        collections = client.get_default_database("cronexec").list_collection_names()
    assert not [each for each in collections if each.startswith(f"{wrong}.")]


@pytest.mark.parametrize(
    "asked",
    [
        ("job", "list"),
        ("job", "show", "a"),
        ("job", "show", "--history", "a"),
        ("run", "list"),
        ("run", "list", "--job", "a"),
        ("run", "show", "a@2026-07-01T01:00:00Z"),
        ("ledger", "verify"),
        ("job", "put", "--dry-run", "-"),
    ],
    ids=" ".join,
)
def test_in_a_namespace_that_is_none_there_is_not_merely_nothing(
    cronexec: CommandLine, environment: dict[str, str], asked: tuple[str, ...]
) -> None:
    wrong = f"{environment['CRONEXEC_NAMESPACE']}s"

    answer = cronexec("--namespace", wrong, *asked, "--json", stdin=JOB % "a")

    assert (answer.code, answer.json["error"]["code"]) == (1, "unknown_namespace")


def test_the_first_put_of_a_fresh_installation_needs_no_word_for_the_default_namespace(
    environment: dict[str, str], mongo_url: str
) -> None:
    database = f"fresh{secrets.token_hex(4)}"
    fresh = CommandLine(
        environment
        | {"CRONEXEC_NAMESPACE": "cronexec", "CRONEXEC_MONGO_URL": _with_database(mongo_url, database)}
    )

    assert fresh("job", "list").out.startswith("No jobs yet")
    put = fresh("job", "put", "--wait", "0.1", "-", stdin=JOB % "first")
    other = fresh("--namespace", "games", "job", "put", "-", stdin=JOB % "first")

    assert put.code == 3
    assert (other.code, "(served: none)" in other.err) == (1, True)
    with pika.BlockingConnection(pika.URLParameters(environment["CRONEXEC_AMQP_URL"])) as connection:
        channel = connection.channel()
        for queue in ("baton", "commands", "commands.rejected"):
            channel.queue_delete(f"cronexec.{queue}")


def _with_database(url: str, database: str) -> str:
    base, _, query = url.partition("?")
    scheme, rest = base.split("://", 1)
    return f"{scheme}://{rest.split('/', 1)[0]}/{database}" + (f"?{query}" if query else "")


def test_a_command_is_sent_from_a_file(cronexec: CommandLine, name: str) -> None:
    commands = [{"type": "job.put", "job": json.loads(shell_job(name))}, {"type": "job.pause", "name": name}]

    answer = cronexec("command", "send", "-", "--json", stdin=json.dumps(commands))

    assert answer.code == 0
    assert [reply["type"] for reply in answer.json["replies"]] == ["job.put", "job.pause"]
    assert cronexec("job", "show", name, "--json").json["paused"] is True


def test_a_command_that_is_none_is_refused_before_anything_is_sent(cronexec: CommandLine, name: str) -> None:
    commands = [{"type": "job.put", "job": json.loads(shell_job(name))}, {"type": "job.pauze", "name": name}]

    answer = cronexec("command", "send", "-", stdin=json.dumps(commands))

    assert answer.code == 1
    assert "command 2" in answer.err
    assert cronexec("job", "show", name).code == 1


def test_a_message_that_is_no_command_is_listed_with_its_reason(
    cronexec: CommandLine, environment: dict[str, str]
) -> None:
    with pika.BlockingConnection(pika.URLParameters(environment["CRONEXEC_AMQP_URL"])) as connection:
        queue = f"{environment['CRONEXEC_NAMESPACE']}.commands"
        connection.channel().basic_publish("", queue, b'{"schema": 1, "type": "job.explode"}')

    found = eventually(lambda: cronexec("command", "rejected", "--json"), lambda found: found["rejected"])

    assert found["rejected"][0]["body"] == '{"schema": 1, "type": "job.explode"}'
    assert found["rejected"][0]["reason"]
    assert found["rejected"][0]["rejected_at"].endswith("Z")
    assert "job.explode" in cronexec("command", "rejected").lines[1]
