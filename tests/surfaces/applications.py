"""Applications that embed cronexec, as real processes on real servers: what embedding is tested with."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

from patience import PATIENCE

from cronexec import Cronexec, Settings
from cronexec.dev.processes import LOOPBACK, free_port

T = TypeVar("T")
APPS = Path(__file__).parent / "apps"
EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"


def wait_for(condition: Callable[[], T | None], what: str, timeout: float = PATIENCE) -> T:
    """Wait until `condition` returns something true, and return that."""
    until, seen = time.monotonic() + timeout, None
    while time.monotonic() < until:
        if seen := condition():
            return seen
        time.sleep(0.02)
    raise AssertionError(f"waited {timeout:g} s for {what}; last seen: {seen!r}")


@dataclass(frozen=True)
class Namespace:
    """One namespace on the test's servers, for applications in this process and in others."""

    amqp_url: str
    mongo_url: str
    name: str

    def settings(self, **overrides: Any) -> Settings:
        given = {"amqp_urls": self.amqp_url, "mongo_url": self.mongo_url, "namespace": self.name}
        return Settings.load(environ={}, **(given | overrides))

    def environ(self, **settings: str) -> dict[str, str]:
        given = {"AMQP_URL": self.amqp_url, "MONGO_URL": self.mongo_url, "NAMESPACE": self.name}
        return os.environ | {f"CRONEXEC_{name}": value for name, value in (given | settings).items()}

    @contextmanager
    def watcher(self) -> Iterator[Cronexec]:
        """Yield an instance that never competes: it reads, and sends commands."""
        cron = Cronexec(self.settings(candidate=False, instance="watcher"))
        cron.start()
        try:
            yield cron
        finally:
            cron.stop()


@contextmanager
def receiver() -> Iterator[tuple[str, Counter[str]]]:
    """Yield the URL of a webhook receiver, and how often it was called for each slot."""
    slots: Counter[str] = Counter()

    class Receive(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            slots[str(self.headers["X-Cronexec-Slot"])] += 1
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer((LOOPBACK, 0), Receive) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://{LOOPBACK}:{server.server_port}/", slots
        server.shutdown()
        thread.join()


def webhook_every_second(url: str) -> dict[str, Any]:
    return {
        "name": "hook",
        "schedule": {"every": "1s"},
        "target": {"type": "webhook", "url": url},
        "overlap": "allow",
    }


def assert_no_slot_waited(watcher: Cronexec, job: str, since: datetime, until: datetime) -> None:
    """Every slot in [since, until] has its run, which began within half of that time.

    Slots that something had held up from `since` to `until` would begin after it: the first by all of it.
    """
    runs = watcher.runs.list(job=job, since=since, until=until, limit=1000)
    length = (until - since).total_seconds()
    lateness = {run.id: run.lateness_s for run in runs}
    assert len(runs) in {int(length), int(length) + 1}, lateness
    assert all(late is not None and late < length / 2 for late in lateness.values()), lateness


@dataclass
class Application:
    """A server process with everything that it started, in a session of its own."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int
    evidence: Path = field(default_factory=Path)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def get(self, path: str, method: str = "GET", body: Any = None) -> Any:
        """Return the JSON answer, whatever its status; None while nobody answers."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, method=method, data=data, headers=headers)  # noqa: S310  our own
        try:
            with urllib.request.urlopen(request, timeout=15) as response:  # noqa: S310  as above
                return json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return json.load(error)
        except OSError:
            return None

    def post(self, path: str, body: Any = None) -> Any:
        return self.get(path, "POST", {} if body is None else body)

    def processes(self) -> dict[int, int]:
        """Return the living processes of its session, each with its parent."""
        found = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, parent, _, session, *_ = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(session) == self.process.pid and state != "Z":
                found[int(stat.parent.name)] = int(parent)
        return found

    def workers(self) -> set[int]:
        return {pid for pid, parent in self.processes().items() if parent == self.process.pid}

    def lines(self) -> Counter[tuple[str, str, int]]:
        """Return how often each (job, slot, attempt) was run."""
        text = self.evidence.read_text() if self.evidence.exists() else ""
        return Counter(
            (job, slot, int(attempt)) for job, slot, attempt, _ in map(str.split, text.splitlines())
        )

    def end(self, number: int = signal.SIGTERM, timeout: float = 40) -> int:
        """Send the signal to the first process alone, and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout)

    def kill(self) -> None:
        if self.process.poll() is None or self.processes():
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def serve(
    command: Sequence[str], *, cwd: Path, environ: dict[str, str], directory: Path, port: int | None = None
) -> Iterator[Application]:
    """Run `python command…` with `{port}` filled in; nothing of it is left afterwards."""
    port = port or free_port()
    log, evidence = directory / "application.log", directory / "evidence"
    path = os.pathsep.join([str(cwd), str(APPS)])
    environ = environ | {
        "PYTHONPATH": path,
        "PYTHONDONTWRITEBYTECODE": "1",
        "EVIDENCE": str(evidence),
        "HOME": str(directory),
    }
    filled = [part.format(port=port) for part in command]
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, *filled],
            cwd=cwd,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    application = Application(process, log, port, evidence)
    try:
        yield application
    except BaseException:
        sys.stderr.write(log.read_text()[-4000:])
        raise
    finally:
        application.kill()
