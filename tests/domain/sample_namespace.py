"""A namespace that the tests apply commands to, one after the other, as within one write of the scheduler."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sample_jobs import NOON, at, document, job

from cronexec.domain.apply import apply
from cronexec.domain.command import Command, PutJob
from cronexec.domain.job import Job, Overlap, Pause
from cronexec.domain.occupancy import Occupancy
from cronexec.domain.run import Run
from cronexec.domain.situation import Effects, Situation

NOW = at("12:00:00.250")
YESTERDAY = NOON - timedelta(days=1)
PAUSE = Pause(since_at=YESTERDAY, issued_by="ann", range_id="backup@2026-03-01T12:01:00Z..4")
PAUSED = replace(job(), paused=PAUSE)


class Namespace:
    """Its jobs and runs, and what the write that is under way carries already."""

    def __init__(
        self,
        *jobs: Job,
        runs: Sequence[Run] = (),
        unsettled: Sequence[Run] = (),
        claimed: Sequence[Run] = (),
        now: datetime = NOW,
    ) -> None:
        self.jobs = {each.name: each for each in jobs}
        self.runs = {run.id: run for run in runs}
        self.now = now
        self.revision = 100
        self.occupancy = Occupancy()
        self.claimed: dict[str, list[Run]] = {}
        self.took(claimed)
        for run in unsettled:
            self.occupancy.enter(run, Overlap())

    def took(self, entries: Sequence[Run]) -> None:
        for entry in entries:
            self.claimed.setdefault(entry.job, []).append(entry)

    def situation(self) -> Situation:
        return Situation(
            at=self.now,
            epoch=9,
            revision=self.revision,
            jobs=self.jobs,
            occupancy=self.occupancy,
            runs=self.runs,
            claimed=self.claimed,
        )

    def apply(self, command: Command) -> Effects:
        effects = apply(command, self.situation())
        if effects.job is not None:
            assert effects.job.revision == self.revision + 1
            self.jobs[effects.job.name] = effects.job
            self.revision = effects.job.revision
        self.took(effects.entries)
        self.runs |= {entry.id: entry for entry in effects.entries}
        return effects


def put(schedule: Mapping[str, Any] | None = None, **fields: Any) -> PutJob:
    outside = {key: fields.pop(key) for key in ("if_version", "declared", "issued_by") if key in fields}
    return PutJob(id="p1", job=document(schedule or {"every": "1m"}, **fields), **outside)


def result(effects: Effects) -> dict[str, Any]:
    assert effects.reply["ok"], effects.reply
    return dict(effects.reply["result"])


def refusal(effects: Effects) -> tuple[str, str]:
    """Return code and field of a refusal, which must have no other effect."""
    assert effects == Effects(reply=effects.reply)
    assert not effects.reply["ok"]
    return effects.reply["error"]["code"], effects.reply["error"]["field"]


# What is refused, and for what.


def instant(clock: str) -> dict[str, str]:
    return {"at": at(clock).isoformat()}
