"""Two minutes of holding, spent beside the other tests: a broker, a thread and an event loop of its own."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta

from contenders import Schedule

from cronexec.adapters.rabbitmq_topology import QueueType

LENGTH = 120.0  # seconds: eight acknowledgement timeouts, and two looks of who looks once a minute
RENEW_INTERVAL = timedelta(seconds=5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """What was seen. `latest`: the seconds by which the latest slot was claimed after its time."""

    epoch: int
    renewals: int
    ended: list[str]
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
    await asyncio.sleep(LENGTH)
    await schedule.verify()
    seen = Held(
        epoch=schedule.epoch,
        renewals=len(schedule.said("baton.renewed")),
        ended=[each["reason"] for each in schedule.said("term.ended")],
        slots=schedule.succeeded(),
        latest=schedule.latest(),
    )
    await schedule.close()
    return seen
