"""The watcher: sees every write as it is committed, and every effect as it begins, and believes nobody.

It has its own account of what has happened: which epoch was raised last, which messages there were, which
attempts began. What it finds is checked at once, against that account, never against what an instance says.

| rule | checked in | how |
|---|---|---|
| I1 | `entries` | with every move of the watermark: each slot in between has one entry, of its version |
| I2 | `moves`, `effects` | with every move of a run: allowed; at every begin: the first of its attempt |
| I3 | here, `moves` | with every fenced write, every start: no later epoch was raised, or has written |
| I4 | `simulated_broker`, `world` | at every ack of a baton, and in the end: there is one |
| I5 | `effects` | at every begin of a target: its run is running here, and the lease is not over |
| I6 | `orders` | with every recorded command: in order, once; acked and answered only then |
| I7 | `entries`, `moves` | with every skip and end: a reason; what was to be skipped, and no more, says so |
| I8 | `simulated_broker`, `world` | at every release and stop |
| overlap | `moves`, `overlaps` | at every start: no more run than may; at every claim: no line too long |
| jitter, retry | `entries`, `effects` | at every claim: the instant of jitter; at every begin: not earlier |
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from account import SECOND, Account, Write
from effects import Effects
from entries import Entries
from history import History
from moves import Moves
from orders import Orders

from cronexec.adapters.memory_hub import MemoryMessage
from cronexec.adapters.memory_store import MemoryDatabase
from cronexec.domain.run import Executor, Run, RunState
from cronexec.domain.term import Term
from cronexec.ports import Batch

MARKS = {RunState.QUEUED: "", RunState.RUNNING: "+"}  # else "!"


class WatchedRuns(dict[str, Run]):
    """The ledger, whose every write is seen."""

    def __init__(self, watcher: "Watcher") -> None:
        super().__init__()
        self._watcher = watcher

    def __setitem__(self, run_id: str, run: Run) -> None:
        old = self.get(run_id)
        super().__setitem__(run_id, run)
        self._watcher.run_written(old, run)

    def __delitem__(self, run_id: str) -> None:
        self._watcher.entries.removed(self[run_id])
        super().__delitem__(run_id)

    def __ior__(self, entries: Any) -> Self:  # type: ignore[override, misc]
        for run_id, run in entries.items():
            self[run_id] = run
        return self


class Watcher:
    def __init__(self, history: History, database: MemoryDatabase) -> None:
        self._history = history
        self._database = database
        self._epoch = 0
        self.account = account = Account(history=history, database=database)
        self.entries = Entries(account)
        self.moves = Moves(account)
        self.effects = Effects(account)
        self.orders: Orders  # set by the world, whose queues need the watcher first

    def epoch_raised(self, term: Term, holder: Executor) -> None:
        if term.epoch <= self._epoch:
            self._history.violate("I3", f"epoch {term.epoch} was given again")
        self._epoch = term.epoch
        self.account.holders[term.epoch] = holder

    @contextmanager
    def fenced_write(self, term: Term, batch: Batch) -> Iterator[None]:
        """Watch one fenced write being done; what raises has written nothing."""
        before, jobs = self._database.term, dict(self._database.jobs)
        assert before is not None
        off = (
            job.name
            for job in jobs.values()
            if job.paused_at(before.watermark) is not None or job.deleted_at is not None
        )
        self.account.write = write = Write(
            term=term, batch=batch, before=before, off=frozenset(off), jobs=jobs
        )
        try:
            yield
            self._written(write)
        finally:
            self.account.write = None

    def _written(self, write: Write) -> None:
        self._tell(write)
        self._check_term(write)
        self.account.written_epoch = max(self.account.written_epoch, write.term.epoch)
        for entry in write.inserted:
            if entry.state is RunState.RUNNING:
                self.moves.started(entry)  # claimed and started in one write
        self.entries.written(write)
        self.orders.applied(write.batch)

    def _check_term(self, write: Write) -> None:
        term, before, after = write.term, write.before, self._database.term
        assert after is not None
        found = f"the write of epoch {term.epoch} (seq {term.seq}) was applied at {before.epoch}/{before.seq}"
        if (before.epoch, before.seq) != (term.epoch, term.seq):
            self._history.violate("I3", found)
        if after.watermark < before.watermark or after.revision < before.revision:
            self._history.violate("I1", f"the watermark or the revision went back: {found}")
        if after.watermark > self._database.clock.now() + SECOND:
            self._history.violate("I1", f"the watermark is in the future: {after.watermark}")

    def _tell(self, write: Write) -> None:
        batch = write.batch
        if not (batch.entries or batch.commands or batch.settles or batch.adopt):
            return
        self._history.add(
            "db",
            "committed",
            epoch=write.term.epoch,
            seq=write.term.seq,
            watermark=batch.until,
            entries=[entry.id[-9:] + MARKS.get(entry.state, "!") for entry in batch.entries] or None,
            commands=[command.id for command in batch.commands] or None,
            settles=[settle.run_id[-9:] for settle in batch.settles] or None,
            adopt=batch.adopt or None,
        )

    def run_written(self, old: Run | None, new: Run) -> None:
        if old is None:
            self.entries.inserted(new)
        elif old.state is not new.state:
            self.moves.moved(old, new)
        elif (old.slot, old.version, old.attempt) != (new.slot, new.version, new.attempt):
            self._history.violate("I2", f"{new.id} became another run")

    def command_acked(self, message: MemoryMessage) -> None:
        self.orders.acked(message)

    def replied(self, body: bytes) -> None:
        self.orders.replied(json.loads(body))
