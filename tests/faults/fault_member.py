"""An instance as a process of its own, which leaves evidence and takes harm, as it is told on standard input.

Orders are JSON lines:

```
{"do": "arm", "point": "in_transaction", "then": "freeze", "times": 1}     see `fault_points`
{"do": "go"}                                       what waits at a point goes on
{"do": "clock", "offset": 7200}                    this process's wall clock is two hours fast from now on
{"do": "block_engine", "seconds": 10}              nothing else happens on cronexec's own loop meanwhile
```

FAULT_EVIDENCE names the file for the evidence (`chaos.evidence`), FAULT_DETOURS the ports of the proxies.
SIGTERM, and the end of standard input, stop the instance in good order.
"""

import asyncio
import json
import os
import signal
import sys
import threading
import time

from chaos import evidence
from chaos.detour import take_detours
from fault_points import Points

from cronexec import Cronexec, Run
from cronexec.adapters import clock
from cronexec.collector import calm_collector
from cronexec.log import configure, get_logger

SLOW = 1.0  # seconds


class Member:
    def __init__(self) -> None:
        self._cron = Cronexec.from_env()
        self._name = os.environ["CRONEXEC_INSTANCE"]
        self._file = os.open(os.environ["FAULT_EVIDENCE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._points = Points()
        self._right = clock._wall
        self._ended = threading.Event()
        self._points.install()
        self._register()

    def run(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: self._ended.set())
        self._cron.start()
        threading.Thread(target=self._obey, daemon=True).start()
        self._ended.wait()
        self._cron.stop()

    def _register(self) -> None:
        @self._cron.handler("quick")
        async def quick(run: Run) -> None:
            self._leave(run)

        @self._cron.handler("threaded")
        def threaded(run: Run) -> None:
            self._leave(run)

        @self._cron.handler("slow")
        async def slow(run: Run) -> None:
            identity = self._identity(run)
            os.write(self._file, evidence.mark("began", identity, time.time()))
            await asyncio.sleep(SLOW)
            os.write(self._file, evidence.mark("ended", identity, time.time()))

        @self._cron.handler("blocking")
        async def blocking(run: Run) -> None:
            self._leave(run)
            time.sleep(float(run.params["seconds"]))  # noqa: ASYNC251  the fault that is tested

    def _leave(self, run: Run) -> None:
        now = time.time()
        os.write(self._file, evidence.ran(self._identity(run), now, now))

    def _identity(self, run: Run) -> str:
        slot = f"{run.slot:%Y-%m-%dT%H:%M:%SZ}"
        return f"{run.job} {slot} {run.attempt} {run.epoch} {run.id} {self._name}"

    def _obey(self) -> None:
        for line in sys.stdin:
            order = json.loads(line)
            match order.pop("do"):
                case "arm":
                    self._points.arm(**order)
                case "go":
                    self._points.go()
                case "clock":
                    self._set_clock(order["offset"])
                case "block_engine":
                    self._block_engine(order["seconds"])
        self._ended.set()

    def _set_clock(self, offset: float) -> None:
        """Have the wall clock be wrong; `adapters.clock` is the only place that reads it."""
        clock._wall = lambda: self._right() + clock.timedelta(seconds=offset)
        get_logger().warning("fault.reached", point="clock", offset=offset)

    def _block_engine(self, seconds: float) -> None:
        def block() -> None:
            get_logger().warning("fault.reached", point="engine", seconds=seconds)
            time.sleep(seconds)

        loop = self._cron._engine._loop
        assert loop is not None
        loop.call_soon_threadsafe(block)


if __name__ == "__main__":
    take_detours({int(port): to for port, to in json.loads(os.environ["FAULT_DETOURS"]).items()})
    configure(level="info", fmt="json")
    calm_collector()
    Member().run()
