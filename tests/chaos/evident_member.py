"""An instance as a process of its own, which leaves evidence of its runs and takes harm, as it is told.

Orders are JSON lines on standard input; those of every such member are

```
{"do": "clock", "offset": 7200}                        this process's wall clock is two hours fast from now on
{"do": "block_engine", "seconds": 10}                  nothing else happens on cronexec's own loop meanwhile
{"do": "block_handlers", "seconds": 10}                nor on the loop of its asynchronous handlers
```

and a subclass obeys others. SIGTERM, and the end of standard input (who gives the orders is gone), stop the
instance in good order.
"""

import asyncio
import json
import os
import signal
import sys
import threading
import time
from typing import Any

import evidence
from detour import take_detours

from cronexec import Cronexec, Run
from cronexec.adapters import clock
from cronexec.collector import calm_collector
from cronexec.log import configure, get_logger

SLOW = 1.0  # seconds, unless a job's params say otherwise


class EvidentMember:
    """`evidence_file`: what is appended to."""

    def __init__(self, evidence_file: str) -> None:
        self._cron = Cronexec.from_env()
        self._name = os.environ["CRONEXEC_INSTANCE"]
        self._file = open_evidence(evidence_file)
        self._handler_loop: asyncio.AbstractEventLoop | None = None
        self._right = clock._wall
        self._ended = threading.Event()
        self._register()

    def run(self) -> None:
        """Be an instance until it is told to end."""
        signal.signal(signal.SIGTERM, lambda *_: self._ended.set())
        self._cron.start()
        threading.Thread(target=self._listen, daemon=True).start()
        self._ended.wait()
        self._cron.stop()

    def obey(self, do: str, **what: Any) -> None:
        match do:
            case "clock":
                self._set_clock(what["offset"])
            case "block_engine":
                self._block(self._cron._engine._loop, "engine", what["seconds"])
            case "block_handlers":
                self._block(self._handler_loop, "handlers", what["seconds"])

    def _listen(self) -> None:
        for line in sys.stdin:
            self.obey(**json.loads(line))
        self._ended.set()

    def _register(self) -> None:
        @self._cron.handler("quick")
        async def quick(run: Run) -> None:
            self._handler_loop = asyncio.get_running_loop()
            self.leave(run)

        @self._cron.handler("threaded")
        def threaded(run: Run) -> None:
            self.leave(run)

        @self._cron.handler("flaky")
        async def flaky(run: Run) -> None:
            self.leave(run)
            if run.attempt < run.params["succeeds_at"]:
                raise ConnectionError("not yet")

        @self._cron.handler("slow")
        async def slow(run: Run) -> None:
            identity = identity_of(run)
            os.write(self._file, evidence.mark("began", identity, time.time()))
            await asyncio.sleep(float(run.params.get("seconds", SLOW)))
            os.write(self._file, evidence.mark("ended", identity, time.time()))

    def leave(self, run: Run) -> None:
        """Leave evidence of a run that takes no time."""
        now = time.time()
        os.write(self._file, evidence.ran(identity_of(run), now, now))

    def _set_clock(self, offset: float) -> None:
        """Have the wall clock be wrong; `adapters.clock` is the only place that reads it."""
        clock._wall = lambda: self._right() + clock.timedelta(seconds=offset)
        get_logger().warning("fault.reached", point="clock", offset=offset)

    def _block(self, loop: asyncio.AbstractEventLoop | None, point: str, seconds: float) -> None:
        def block() -> None:
            get_logger().warning("fault.reached", point=point, seconds=seconds)
            time.sleep(seconds)

        if loop is not None:
            loop.call_soon_threadsafe(block)


def open_evidence(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def identity_of(run: Run) -> str:
    """Return what stands in the evidence of a run of this instance."""
    slot = f"{run.slot:%Y-%m-%dT%H:%M:%SZ}"
    return f"{run.job} {slot} {run.attempt} {run.epoch} {run.id} {os.environ['CRONEXEC_INSTANCE']}"


def prepare(detours: str) -> None:
    """Make this process one of ours. `detours`: JSON, the proxies' ports by the servers' (`detour`)."""
    take_detours({int(port): to for port, to in json.loads(detours).items()})
    configure(level="info", fmt="json")
    calm_collector()
