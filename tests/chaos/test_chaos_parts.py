"""The parts of a chaos run that can be wrong without a server noticing."""

import asyncio
import json
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import evidence
import pytest
from chaos_figures import figures
from chaos_jobs import JobMaker
from chaos_log import DriverLog
from chaos_members import Member, Members
from chaos_run import RECEIVER
from chaos_terms import _with
from checker_due import due

from cronexec.domain.job import JobDocument

END = 1_800_000_600.0


@pytest.fixture
def maker() -> JobMaker:
    rng = random.Random(1)  # noqa: S311  to be repeatable
    return JobMaker(rng=rng, file="/tmp/evidence", receiver="http://127.0.0.1:1/", end=END)  # noqa: S108


def test_all_jobs_are_valid_and_none_is_due_after_the_end(maker: JobMaker) -> None:
    documents = [
        *maker.every_second(50),
        *maker.every_minute(50),
        *(maker.changing(f"changing-{number}") for number in range(50)),
    ]
    for document in documents:
        JobDocument.parse(document)
        slots = due(document, END - 120, END + 120)
        assert slots
        assert slots[-1] <= END
    JobDocument.parse(maker.once("once", END))


def test_the_same_seed_makes_the_same_jobs() -> None:
    made = [
        list(
            JobMaker(rng=random.Random(5), file="f", receiver="http://x/", end=END).every_minute(30)  # noqa: S311
        )
        for _ in range(2)
    ]
    assert made[0] == made[1]


def test_a_change_stream_names_the_parts_that_changed_by_their_paths() -> None:
    term = {"epoch": 1, "holder": {"name": "a1", "datacenter": "east"}}
    after = _with(term, {"epoch": 2, "holder.name": "c1"})
    assert after == {"epoch": 2, "holder": {"name": "c1", "datacenter": "east"}}
    assert _with(after, {"holder": None})["holder"] is None
    assert term["epoch"] == 1


def test_failover_is_the_time_to_the_next_epochs_first_claim_before_another_fault(tmp_path: Path) -> None:
    def term(at: float, epoch: int, watermark: float) -> dict[str, Any]:
        return {"event": "term", "at": at, "epoch": epoch, "seq": 0, "watermark": watermark, "holder": "a1"}

    def fault(number: int, at: float, kind: str, *, held: bool, epoch: int) -> dict[str, Any]:
        event = {"event": "disturbed", "at": at, "number": number, "kind": kind, "target": "a1"}
        return event | {"held": held, "epoch": epoch}

    events = [
        term(1.0, 1, 1.0),
        term(2.0, 1, 2.0),
        fault(0, 2.5, "kill -9", held=True, epoch=1),
        term(2.6, 2, 2.0),  # the epoch is raised
        term(3.0, 2, 2.0),
        fault(1, 4.0, "kill -9", held=False, epoch=2),
        term(4.1, 3, 4.1),
        fault(2, 5.0, "SIGSTOP", held=True, epoch=3),
        fault(3, 6.0, "SIGTERM", held=True, epoch=3),
        term(7.0, 4, 4.1),
        term(7.25, 4, 7.2),
    ]
    log = tmp_path / "driver.jsonl"
    log.write_text("".join(json.dumps(event) + "\n" for event in events))
    found = figures(log)
    assert found["faults"] == {"SIGSTOP": 1, "SIGTERM": 1, "kill -9": 2}
    assert found["failover"] == {
        "SIGTERM": {"times": 1, "p50": 1.25, "p99": 1.25, "max": 1.25},
        "kill -9": {"times": 1, "p50": 0.5, "p99": 0.5, "max": 0.5},
    }
    assert found["epochs"] == 4


HEAD = (
    "POST / HTTP/1.1\r\nX-Cronexec-Job: job\r\nX-Cronexec-Slot: 2026-10-25T00:00:0{0}Z\r\n"
    "X-Cronexec-Attempt: 1\r\nX-Cronexec-Epoch: 3\r\nIdempotency-Key: job@{0}\r\n"
    "Content-Length: 2\r\n"
)


@contextmanager
def receiving(file: Path) -> Iterator[int]:
    """Yield the port of a receiver that leaves evidence in `file`."""
    process = subprocess.Popen(
        [sys.executable, str(RECEIVER), str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    yield int(process.stdout.readline())
    process.stdin.close()
    assert process.wait(5) == 0
    process.stdout.close()


def test_the_receiver_leaves_a_line_for_each_request_of_a_connection(tmp_path: Path) -> None:
    file = tmp_path / "evidence"
    with receiving(file) as port, socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        for number, cut in ((1, 10), (2, 200)):
            request = f"{HEAD.format(number)}\r\n".encode() + b"{}"
            connection.sendall(request[:cut])
            connection.sendall(request[cut:])
            assert connection.recv(1000).startswith(b"HTTP/1.1 204")
    first, second = evidence.read(file.read_text().splitlines())
    assert (first.run, first.epoch, first.instance) == ("job@1", 3, "-")
    assert second.slot == first.slot + 1


def test_the_receiver_finishes_later_what_comes_with_a_callback_and_tells_until_it_is_answered(
    tmp_path: Path,
) -> None:
    file = tmp_path / "evidence"
    with receiving(file) as port, socket.create_server(("127.0.0.1", 0)) as instance:
        instance.settimeout(10)
        where = f"http://127.0.0.1:{instance.getsockname()[1]}/runs/job%401"
        callback = f"X-Cronexec-Callback: {where}\r\nX-Cronexec-Callback-Token: secret\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(f"{HEAD.format(1)}{callback}".encode() + b"{}")
            assert connection.recv(1000).startswith(b"HTTP/1.1 202")
        instance.accept()[0].close()  # it says nothing, and is asked again
        told, _ = instance.accept()
        with told:
            request = told.recv(1000)
            told.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    assert request.startswith(b"POST /runs/job%401 HTTP/1.1")
    assert b"Authorization: Bearer secret" in request
    assert b'"state": "succeeded"' in request
    (work,) = evidence.read(file.read_text().splitlines())
    assert work.ended_at is not None
    assert work.began_at < work.ended_at


async def test_who_ends_by_himself_is_told_from_who_is_ended(tmp_path: Path) -> None:
    log = DriverLog(tmp_path / "driver.jsonl")
    nothing: Any = None  # without a seat it has no ways to servers
    members = Members(0, servers=nothing, proxy=nothing, log=log, directory=tmp_path, environ={})
    for name, ending in (("a1", False), ("b1", True)):
        process = await asyncio.create_subprocess_exec("sh", "-c", "exit 3", stdout=asyncio.subprocess.PIPE)
        await members._read(Member(name, nothing, process, ending=ending))
    log.close()
    assert members.crashes == [("a1", 3)]
    (event,) = map(json.loads, (tmp_path / "driver.jsonl").read_text().splitlines())
    assert (event["event"], event["instance"], event["code"]) == ("crashed", "a1", 3)
