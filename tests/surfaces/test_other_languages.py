"""Commands from a client that is not Python: amqplib, on Node.js."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cronexec import Cronexec, Settings

CLIENT = Path(__file__).parent / "amqplib" / "send.js"
MODULES = Path(__file__).parents[2] / ".servers" / "node_modules"


@pytest.fixture
def holder(amqp_url: str, mongo_url: str, namespace: str) -> Iterator[Cronexec]:
    cron = Cronexec(Settings.load(environ={}, amqp_urls=amqp_url, mongo_url=mongo_url, namespace=namespace))

    @cron.handler("greet")
    def greet() -> str:
        return "hello"

    cron.start()
    yield cron
    cron.stop()


@pytest.fixture
def node() -> str:
    program = shutil.which("node")
    if program is None or not (MODULES / "amqplib").is_dir():
        missing = "Node.js or its package amqplib is missing: run 'make setup'"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return program


def test_a_client_on_node_sends_commands_and_reads_their_replies(
    holder: Cronexec, node: str, amqp_url: str, namespace: str
) -> None:
    job = {"name": "greet", "schedule": {"cron": "0 3 * * *"}, "target": {"type": "handler", "name": "greet"}}
    commands: list[dict[str, Any]] = [
        {"schema": 1, "id": "put-1", "type": "job.put", "job": job, "issued_by": "node"},
        {"schema": 1, "id": "pause-1", "type": "job.pause", "name": "greet"},
        {"schema": 1, "id": "resume-1", "type": "job.resume", "name": "greet"},
        {"schema": 1, "id": "trigger-1", "type": "job.trigger", "name": "greet", "key": "once"},
        {"schema": 1, "id": "trigger-1", "type": "job.trigger", "name": "greet", "key": "once"},
        {"schema": 1, "id": "put-2", "type": "job.put", "job": job | {"tiemout": "10m"}},
        {"schema": 1, "id": "delete-1", "type": "job.delete", "name": "greeet"},
    ]
    wait_for_commands_queue(holder)
    replies = send(node, amqp_url, namespace, commands)
    put, pause, resume, trigger, again, invalid, unknown = replies
    assert put == {"id": "put-1", "ok": True, "result": put["result"]}
    assert put["result"]["version"] == 1
    assert pause["result"]["paused"] is True
    assert resume["result"]["paused"] is False
    assert trigger["result"]["run"] == "greet#once"
    assert again == trigger, "one id is applied once, and gets the recorded reply"
    assert (invalid["ok"], invalid["error"]["code"]) == (False, "invalid")
    assert "timeout" in invalid["error"]["message"]
    assert (unknown["ok"], unknown["error"]["code"]) == (False, "not_found")
    run = holder.runs.get("greet#once")
    assert run is not None
    assert run.issued_by is None


def wait_for_commands_queue(holder: Cronexec) -> None:
    """Have one command answered: then there is a holder, and the queue that it takes commands from."""
    holder.jobs.list()
    job = {"name": "first", "schedule": {"every": "1h"}, "target": {"type": "handler", "name": "greet"}}
    holder.jobs.put(job)


def send(node: str, amqp_url: str, namespace: str, commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
    sent = subprocess.run(
        [node, str(CLIENT), amqp_url, namespace],
        input="".join(json.dumps(command) + "\n" for command in commands),
        env=os.environ | {"NODE_PATH": str(MODULES)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert sent.returncode == 0, sent.stderr
    return [json.loads(line) for line in sent.stdout.splitlines()]
