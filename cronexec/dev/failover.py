"""Failovers: the handovers that are seen, and those that `--kill-holder-every` causes and times.

A kill is timed from the signal to the first read that finds a later epoch *and* a later watermark: the new
holder has then committed a fenced write of its own, not only raised the epoch. It is looked for every 10 ms.
"""

import asyncio
import time
from datetime import timedelta

from cronexec.dev.cluster import Cluster
from cronexec.dev.snapshot import Failover
from cronexec.domain.term import TermRecord
from cronexec.ports import TermStore

LOOK_INTERVAL = timedelta(milliseconds=10)


class FailoverLog:
    """The failovers since `dev` began, in order."""

    def __init__(self) -> None:
        self.failovers: list[Failover] = []
        self._epoch: int | None = None

    def saw(self, term: TermRecord) -> None:
        """Note a handover that is seen for the first time."""
        if term.holder_name is None:
            return
        if self._epoch is not None and term.epoch > self._epoch:
            self.failovers.append(Failover(at=term.read_at, holder=term.holder_name, epoch=term.epoch))
        self._epoch = max(self._epoch or 0, term.epoch)

    def timed(self, term: TermRecord, killed: str, took: timedelta) -> Failover:
        """Note a handover that followed our kill."""
        self.failovers = [failover for failover in self.failovers if failover.epoch != term.epoch]
        failover = Failover(
            at=term.read_at, holder=term.holder_name, epoch=term.epoch, killed=killed, took=took
        )
        self.failovers.append(failover)
        self._epoch = max(self._epoch or 0, term.epoch)
        return failover


async def kill_holder(cluster: Cluster, terms: TermStore, log: FailoverLog) -> Failover | None:
    """Kill the holder's process and wait for the next holder's first commit.

    None: the holder is not one of ours, or is down.
    """
    before = await terms.read()
    holder = before.holder_name
    killed_at = time.monotonic()
    if holder is None or not await asyncio.to_thread(cluster.kill, holder):
        return None
    while True:
        term = await terms.read()
        if term.epoch == before.epoch:
            before = term  # with what the old holder committed last
        elif term.watermark > before.watermark and term.holder_name:
            return log.timed(term, holder, timedelta(seconds=time.monotonic() - killed_at))
        await asyncio.sleep(LOOK_INTERVAL.total_seconds())
