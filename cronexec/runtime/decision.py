"""One tick's decision, on its way into a fenced write and, once that is committed, into action.

It is made once and may be written several times: after an unclear commit as it is, after a refusal without
what was refused. So everything in it is a value, and nothing of it has been acted upon before the commit.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from cronexec.domain.job import Job, JobDocument
from cronexec.domain.ledger import Requeue, Settle
from cronexec.domain.parking import Parked, park
from cronexec.domain.plan import Due
from cronexec.domain.replacement import Replacement
from cronexec.domain.run import Run, RunState
from cronexec.domain.situation import Effects
from cronexec.ports import AppliedCommand, Batch
from cronexec.runtime.inbox import Received
from cronexec.runtime.ready import Ready, Reserved


@dataclass(kw_only=True)
class Decision:
    """Slots are judged against `until`, and commands applied at it; `watermark` is what the write moves to.

    `entries` are by id, with the version of the job that each was claimed with in `documents`. `planned`: the
    jobs whose slots came due, and `due` those of them that are decided to the end, by the instant up to which
    they are. `parked`: jobs that are taken out of the schedule. `returned`: ids of runs that came back
    unstarted, to be adopted. `replacements`: what claimed runs do to the others of their jobs; `ahead`:
    what ends so that later writes can carry the rest (`domain.ending`). `reserved`: the entries that start
    with this very write.
    """

    epoch: int
    until: datetime
    watermark: datetime
    revision: int
    due: dict[datetime, list[Due]] = field(default_factory=dict)
    planned: dict[str, Job] = field(default_factory=dict)
    entries: dict[str, Run] = field(default_factory=dict)
    documents: dict[str, JobDocument] = field(default_factory=dict)
    parked: dict[str, Parked] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    effects: list[tuple[Received, Effects]] = field(default_factory=list)
    records: list[AppliedCommand] = field(default_factory=list)
    replacements: dict[str, Replacement] = field(default_factory=dict)
    settles: Sequence[Settle] = ()
    ahead: Sequence[Settle] = ()
    requeues: Sequence[Requeue] = ()
    returned: Sequence[str] = ()
    reasons: Mapping[str, str | None] = field(default_factory=dict)
    reserved: Reserved | None = None

    def claim(self, entry: Run, document: JobDocument) -> None:
        """Add an entry of the job that `document` is a version of."""
        self.entries[entry.id] = entry
        self.documents[entry.id] = document

    def end_ahead(self, ahead: Sequence[Settle]) -> None:
        """Settle runs so that what ends them fits into a later write."""
        self.ahead = (*self.ahead, *ahead)

    def apply(self, received: Received, effects: Effects, record: AppliedCommand) -> None:
        """Add what a command does, and its audit record."""
        self.effects.append((received, effects))
        self.records.append(record)
        if effects.job is not None:
            self.jobs[effects.job.name] = effects.job
            self.revision = effects.job.revision

    def park(self, job: Job, first: datetime, why: str) -> None:
        """Take `job` out of the schedule: a range accounts for its slots from `first` on."""
        self.revision += 1
        self.parked[job.name] = park(
            job, first, why=why, revision=self.revision, epoch=self.epoch, at=self.until
        )

    def park_without_ranges(self) -> None:
        """Only pause the jobs that are parked: the database refuses their ranges."""
        self.parked = {name: parked.without_range() for name, parked in self.parked.items()}

    @property
    def is_empty(self) -> bool:
        """Whether it has neither claims nor commands nor anything else to carry."""
        moves = self.settles or self.ahead or self.requeues or self.returned
        return not (self.entries or self.parked or self.effects or moves)

    def drop_entries(self, run_ids: Iterable[str]) -> None:
        for run_id in run_ids:
            self.entries.pop(run_id, None)
            self.replacements.pop(run_id, None)

    def drop_ranges(self, run_ids: Collection[str]) -> None:
        """Write no range of a parked job that is in the ledger already."""
        for name, parked in self.parked.items():
            if parked.entry is not None and parked.entry.id in run_ids:
                self.parked[name] = replace(parked, entry=None)

    def drop_commands(self, revision: int) -> list[Received]:
        """Take all commands out, with everything that they do; returns them in their order."""
        self.drop_entries(entry.id for _, effects in self.effects for entry in effects.entries)
        commands = [received for received, _ in self.effects]
        self.effects, self.records, self.jobs, self.revision = [], [], {}, revision
        return commands

    def batch(self) -> Batch:
        """Return what the fenced write carries."""
        effects = [effects for _, effects in self.effects]
        return Batch(
            until=self.watermark,
            revision=self.revision,
            entries=[*self.entries.values(), *self.ranges()],
            jobs=self.changed(),
            versions=[version for effect in effects for version in effect.versions],
            settles=self.settled(),
            requeues=[*self.requeues, *(again for effect in effects for again in effect.requeues)],
            closes=[close for effect in effects for close in effect.closes],
            cancels={run_id: by for each in self.endings() for run_id, by in each.cancels.items()},
            reasons=self.reasons,
            commands=self.records,
            adopt=bool(self.returned),
            catching_up=self.watermark < self.until,
        )

    def ranges(self) -> list[Run]:
        """Return the entries that account for the slots of parked jobs."""
        return [parked.entry for parked in self.parked.values() if parked.entry is not None]

    def changed(self) -> list[Job]:
        """Return the jobs that it changes, each as it will be."""
        return [*self.jobs.values(), *(parked.job for parked in self.parked.values())]

    def settled(self) -> list[Settle]:
        """Return what is settled, in the order in which it was decided."""
        return [*self.settles, *(settle for each in self.endings() for settle in each.settles), *self.ahead]

    def endings(self) -> list[Replacement | Effects]:
        """Return what ends runs, in the order in which it was decided."""
        return [*self.replacements.values(), *(effects for _, effects in self.effects)]

    def reserve(self, reserved: Reserved) -> None:
        """Have the write start these runs besides claiming them: there are places for them."""
        self.reserved = reserved
        for item in reserved.items:
            self.entries[item.run.id] = reserved.started(item.run)

    def unreserve(self) -> Reserved | None:
        """Only claim what should have started with this write; returns what that was."""
        reserved, self.reserved = self.reserved, None
        if reserved is not None:
            self.entries |= {item.run.id: item.run for item in reserved.items if item.run.id in self.entries}
        return reserved

    def settled_by_commands(self) -> set[str]:
        """Return the runs that commands of this decision settle, or ask to end."""
        settles = (settle.run_id for _, effects in self.effects for settle in effects.settles)
        cancels = (run_id for _, effects in self.effects for run_id in effects.cancels)
        return {*settles, *cancels}

    def requeued_by_commands(self) -> list[str]:
        """Return the runs that commands of this decision queue for their next attempt."""
        return [again.run_id for _, effects in self.effects for again in effects.requeues]

    def queued(self) -> list[Ready]:
        """Return the claimed runs, live slots before those of a catch-up."""
        ready = [
            Ready(run=entry, document=self.documents[entry.id])
            for entry in self.entries.values()
            if entry.state is RunState.QUEUED
        ]
        return sorted(ready, key=lambda item: item.run.catch_up)
