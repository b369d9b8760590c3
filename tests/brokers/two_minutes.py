"""Two minutes of holding, spent beside the other tests: a broker, a thread and an event loop of its own.

Commands that are too new for the holder are in its hands all the while, and as little may be taken from it.
"""

import asyncio
import json
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from contenders import Schedule

from cronexec.adapters.rabbitmq_topology import QueueType

LENGTH = 120.0  # seconds: eight acknowledgement timeouts, and two looks of who looks once a minute
RENEW_INTERVAL = timedelta(seconds=5)
TOO_NEW = [f"new-{number}" for number in range(3)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """What was seen.

    `kept`: ids, in their order. `latest`: the seconds by which the latest slot was claimed after its time.
    """

    epoch: int
    renewals: int
    ended: list[str]
    kept: list[str]
    slots: int
    latest: float


class TwoMinutes:
    """Begins at once; `result` waits for the end."""

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url
        self._done: Future[dict[QueueType, Held]] = Future()
        threading.Thread(target=self._run, name="two-minutes", daemon=True).start()

    def result(self, queue_type: QueueType) -> Held:
        return self._done.result(LENGTH + 90)[queue_type]

    def _run(self) -> None:
        try:
            self._done.set_result(asyncio.run(self._hold_both(self._url())))
        except BaseException as error:  # noqa: BLE001  raised by `result`
            self._done.set_exception(error)

    async def _hold_both(self, url: str) -> dict[QueueType, Held]:
        quorum, classic = await asyncio.gather(hold(url, "quorum"), hold(url, "classic"))
        return {"quorum": quorum, "classic": classic}


async def hold(url: str, queue_type: QueueType) -> Held:
    schedule = Schedule(url, queue_type)
    await schedule.compete("anna", "bert", baton_renew_interval=RENEW_INTERVAL)
    for name in TOO_NEW:
        await schedule.send({"schema": 999, "id": name, "type": "job.dance"})
    await asyncio.sleep(LENGTH)
    await schedule.verify()
    seen = Held(
        epoch=schedule.epoch,
        renewals=len(schedule.said("baton.renewed")),
        ended=[each["reason"] for each in schedule.said("term.ended")],
        kept=[],
        slots=schedule.succeeded(),
        latest=schedule.latest(),
    )
    await schedule.stop()
    newer = f"{schedule.namespace}.commands.newer"
    seen = replace(seen, kept=await schedule.operate(lambda channel: ids_in(channel, newer)))
    await schedule.close()
    return seen


def ids_in(channel: Any, queue: str) -> list[str]:
    """Return the ids of the commands in a queue, in its order; each once, as they would be applied."""
    ids: dict[str, None] = {}
    for _, _, body in channel.consume(queue, inactivity_timeout=2):
        if body is None:
            return list(ids)
        ids.setdefault(json.loads(body)["id"])
    return list(ids)
