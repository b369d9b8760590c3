"""An instance as a process of its own, which leaves evidence, sends commands and takes harm, as it is told.

Orders are JSON lines on standard input; answers to commands are lines on standard output:

```
{"do": "send", "id": "…", "command": {"type": "job.pause", …}}     answered {"id": "…", "reply": {…}},
                                                       or {"id": "…", "failed": "…", "confirmed": true}
{"do": "clock", "offset": 7200}                        this process's wall clock is two hours fast from now on
{"do": "block_engine", "seconds": 10}                  nothing else happens on cronexec's own loop meanwhile
{"do": "block_handlers", "seconds": 10}                nor on the loop of its asynchronous handlers
```

CHAOS_EVIDENCE names the file for the evidence, CHAOS_DETOURS the proxies' ports (`detour`). SIGTERM, and the
end of standard input (the driver is gone), stop the instance in good order.
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
from cronexec.domain.command import command_from_fields, encode_command
from cronexec.errors import CronexecError, NotYetAppliedError
from cronexec.log import configure

WAIT = 8.0  # seconds for a reply; the driver asks again


class Member:
    """The instance, and what the driver can do to it."""

    def __init__(self) -> None:
        self._cron = Cronexec.from_env()
        self._name = os.environ["CRONEXEC_INSTANCE"]
        self._file = os.open(os.environ["CHAOS_EVIDENCE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._handler_loop: asyncio.AbstractEventLoop | None = None
        self._right = clock._wall
        self._ended = threading.Event()
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
            self._handler_loop = asyncio.get_running_loop()
            self._leave(run)

        @self._cron.handler("threaded")
        def threaded(run: Run) -> None:
            self._leave(run)

        @self._cron.handler("flaky")
        async def flaky(run: Run) -> None:
            self._leave(run)
            if run.attempt < run.params["succeeds_at"]:
                raise ConnectionError("not yet")

        @self._cron.handler("slow")
        async def slow(run: Run) -> None:
            identity = self._identity(run)
            os.write(self._file, evidence.mark("began", identity, time.time()))
            await asyncio.sleep(float(run.params.get("seconds", 1.5)))
            os.write(self._file, evidence.mark("ended", identity, time.time()))

    def _leave(self, run: Run) -> None:
        now = time.time()
        os.write(self._file, evidence.ran(self._identity(run), now, now))

    def _identity(self, run: Run) -> str:
        slot = f"{run.slot:%Y-%m-%dT%H:%M:%SZ}"
        return f"{run.job} {slot} {run.attempt} {run.epoch} {run.id} {self._name}"

    def _obey(self) -> None:
        for line in sys.stdin:
            order = json.loads(line)
            match order["do"]:
                case "send":
                    self._cron._engine.submit(self._send(order["id"], order["command"]))
                case "clock":
                    self._set_clock(order["offset"])
                case "block_engine":
                    self._block(self._cron._engine._loop, order["seconds"])
                case "block_handlers":
                    self._block(self._handler_loop, order["seconds"])
        self._ended.set()

    async def _send(self, command_id: str, fields: dict[str, Any]) -> None:
        command = command_from_fields({**fields, "id": command_id, "issued_by": self._name})
        broker = self._cron._client.commands._broker
        try:
            reply = await broker.request(encode_command(command), command_id=command_id, wait=WAIT)
        except NotYetAppliedError as error:
            answer: dict[str, Any] = {"failed": str(error), "confirmed": error.confirmed}
        except CronexecError as error:
            answer = {"failed": str(error), "confirmed": False}
        else:
            answer = {"reply": reply}
        print(json.dumps({"id": command_id} | answer), flush=True)  # noqa: T201  the answer

    def _set_clock(self, offset: float) -> None:
        """Have the wall clock be wrong; `adapters.clock` is the only place that reads it."""
        clock._wall = lambda: self._right() + clock.timedelta(seconds=offset)

    def _block(self, loop: asyncio.AbstractEventLoop | None, seconds: float) -> None:
        if loop is not None:
            loop.call_soon_threadsafe(time.sleep, seconds)


if __name__ == "__main__":
    take_detours({int(port): to for port, to in json.loads(os.environ["CHAOS_DETOURS"]).items()})
    configure(level="info", fmt="json")
    calm_collector()
    Member().run()
