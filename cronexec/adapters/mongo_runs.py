"""Runs: the executors' own writes, each a compare-and-set, and what is read of the ledger.

Entries come into the ledger by fenced writes (`mongo_content`); what happens to them on an instance (start,
progress, outcome) is fenced by the start token instead. All of these may be repeated when their answer was
lost: a start finds its own token, a finish its own outcome. A start that was never answered may arrive when
its runs have been given back already: giving back therefore burns the token, on queued runs too.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from itertools import groupby

from pymongo import ASCENDING, DESCENDING, UpdateOne

from cronexec.adapters.mongo_collections import Collections, Document
from cronexec.adapters.mongo_content import slices
from cronexec.adapters.mongo_documents import outcome_document, progress_document, reach_from, run_from
from cronexec.adapters.mongo_errors import driver_errors
from cronexec.adapters.mongo_requeues import requeued_by_finish, was_requeued
from cronexec.domain.run import OUTCOMES, UNSETTLED, Cause, Progress, Run, RunState, SkipReason, sources_of
from cronexec.ports import Finish, Reach, RunFilter, Start

READ_BATCH = 250  # documents; decoding more at once would hold the event loop for too long
_EXECUTED_STATES = {  # from which an executor's outcome may come: a queued run has no executor
    state: {"$in": [source.value for source in sources_of(state) if source is not RunState.QUEUED]}
    for state in OUTCOMES
}
QUEUED, RUNNING = RunState.QUEUED.value, RunState.RUNNING.value


class MongoRunStore:
    """Implements `ports.RunStore`."""

    def __init__(
        self, collections: Collections, *, retention: timedelta, settled: Callable[[], Awaitable[None]]
    ) -> None:
        self._runs = collections.runs
        self._settled = settled  # waits for fenced writes whose callers are gone
        self._retention = retention

    async def unsettled(self) -> list[Run]:
        return [run async for run in self._find({"unsettled": True}, [("slot", ASCENDING)])]

    async def beyond(self, watermark: datetime) -> list[Reach]:
        where = _reaching_beyond(watermark) | {"reason": {"$ne": SkipReason.PAUSED.value}}
        shown = {"_id": 0, "job": 1, "slot": 1, "until": 1, "open": 1}
        with driver_errors():
            found = self._runs.find(where, shown, sort=[("slot", ASCENDING)], allow_disk_use=True)
            return [reach_from(fields) async for fields in found]

    async def start(self, runs: Sequence[Run], start: Start) -> list[str]:
        started: list[str] = []
        with driver_errors():
            for (epoch, attempt), group in groupby(runs, key=lambda run: (run.epoch, run.attempt)):
                ids = [run.id for run in group]
                started += await self._start(ids, epoch, attempt, start)
        return started

    async def give_back(self, run_ids: Sequence[str], token: str) -> None:
        """See `ports.RunStore.give_back`. No start with `token` moves any of the runs from now on."""
        ours = {"_id": {"$in": list(run_ids)}, "$or": [{"state": QUEUED}, {"state": RUNNING, "token": token}]}
        fields = {"state": QUEUED, "returned": token}
        forgotten = {"token": "", "executor": "", "started_at": "", "progress": "", "overrun_at": ""}
        await self._settled()
        with driver_errors():
            await self._runs.update_many(ours, {"$set": fields, "$unset": forgotten})

    async def finish(self, finishes: Sequence[Finish]) -> list[str]:
        recorded = 0
        with driver_errors():
            for part in slices(finishes):
                writes = [self._finish(finish) for finish in part]
                recorded += (await self._runs.bulk_write(writes, ordered=False)).matched_count
            return [] if recorded == len(finishes) else await self._not_recorded(finishes)

    async def progress(self, progress: Mapping[tuple[str, str], Progress]) -> None:
        with driver_errors():
            for part in slices(list(progress.items())):
                writes = [_progress(run_id, token, latest) for (run_id, token), latest in part]
                await self._runs.bulk_write(writes, ordered=False)

    async def overran(self, since: Mapping[tuple[str, str], datetime]) -> None:
        with driver_errors():
            for part in slices(list(since.items())):
                writes = [
                    UpdateOne({"_id": run_id, "token": token}, {"$set": {"overrun_at": at}})
                    for (run_id, token), at in part
                ]
                await self._runs.bulk_write(writes, ordered=False)

    async def cancel_requests(self, executor_id: str) -> list[tuple[str, str]]:
        where = {
            "unsettled": True,
            "cancel_requested_by": {"$exists": True},
            "executor.id": executor_id,
            "state": RUNNING,
        }
        with driver_errors():
            asked = self._runs.find(where, {"cancel_requested_by": 1})
            return [(fields["_id"], fields["cancel_requested_by"]) async for fields in asked]

    async def states(self, run_ids: Sequence[str]) -> dict[str, RunState]:
        with driver_errors():
            found = self._runs.find({"_id": {"$in": list(run_ids)}}, {"state": 1})
            return {fields["_id"]: RunState(fields["state"]) async for fields in found}

    async def get(self, run_id: str) -> Run | None:
        with driver_errors():
            found = await self._runs.find_one({"_id": run_id})
            return None if found is None else run_from(found)

    async def get_many(self, run_ids: Sequence[str]) -> dict[str, Run]:
        where = {"_id": {"$in": list(run_ids)}}
        return {run.id: run async for run in self._find(where, None)}

    async def at_slots(self, job: str, slots: Sequence[datetime]) -> list[Run]:
        where = {
            "job": job,
            "slot": {"$in": list(slots)},
            "cause": {"$in": [Cause.SCHEDULE.value, Cause.BACKFILL.value]},
            "state": {"$ne": RunState.SKIPPED.value},
        }
        return [run async for run in self._find(where, None, without=("outcome.output", "attempts"))]

    async def scheduled(self, since: datetime | None = None) -> AsyncIterator[Run]:
        """See `ports.RunStore.scheduled`; what the runs printed is left out."""
        where: Document = {"cause": Cause.SCHEDULE.value} if since is None else _reaching_beyond(since)
        found = self._find(where, [("job", ASCENDING), ("slot", ASCENDING)], without=("outcome.output",))
        async for run in found:
            yield run

    async def _find(
        self,
        where: Document,
        order: list[tuple[str, int]] | None,
        *,
        limit: int = 0,
        without: Sequence[str] = (),
    ) -> AsyncIterator[Run]:
        with driver_errors():
            found = self._runs.find(
                where,
                dict.fromkeys(without, 0) or None,
                sort=order,
                limit=limit,
                batch_size=READ_BATCH,
                allow_disk_use=True,
            )
            async for fields in found:
                yield run_from(fields)

    async def _start(self, ids: list[str], epoch: int, attempt: int, start: Start) -> list[str]:
        ready = {
            "_id": {"$in": ids},
            "state": QUEUED,
            "epoch": epoch,
            "attempt": attempt,
            "returned": {"$ne": start.token},
        }
        fields = {
            "state": RUNNING,
            "token": start.token,
            "executor": asdict(start.executor),
            "started_at": start.at,
        }
        result = await self._runs.update_many(
            ready, {"$set": fields, "$unset": {"reason": "", "returned": ""}}
        )
        if result.matched_count == len(ids):
            return ids
        with_token = self._runs.find(
            {"_id": {"$in": ids}, "token": start.token, "state": RUNNING}, {"_id": 1}
        )
        ours = {fields["_id"] async for fields in with_token}
        return [run_id for run_id in ids if run_id in ours]

    def _finish(self, finish: Finish) -> UpdateOne:
        if finish.again_at is not None:
            return requeued_by_finish(finish)
        state = finish.outcome.state
        where = {
            "_id": finish.run_id,
            "attempt": finish.attempt,
            "token": finish.token,
            "state": _EXECUTED_STATES[state],
        }
        fields = {
            "state": state.value,
            "outcome": outcome_document(finish.outcome),
            "started_at": finish.started_at,
            "finished_at": finish.finished_at,
        }
        if finish.progress is not None:
            fields["progress"] = progress_document(finish.progress)
        if finish.undecided:
            return UpdateOne(where, {"$set": {**fields, "undecided": True}})
        fields["expire_at"] = finish.finished_at + self._retention
        return UpdateOne(where, {"$set": fields, "$unset": {"unsettled": "", "undecided": ""}})

    async def _not_recorded(self, finishes: Sequence[Finish]) -> list[str]:
        """Return the ids whose entry does not say what its finish says: something else got there."""
        shown = {"attempt": 1, "token": 1, "state": 1, "finished_at": 1, "attempts.token": 1}
        found = self._runs.find({"_id": {"$in": [finish.run_id for finish in finishes]}}, shown)
        entries = {fields["_id"]: fields async for fields in found}
        return [finish.run_id for finish in finishes if not _says(entries.get(finish.run_id), finish)]

    async def list(self, which: RunFilter) -> list[Run]:
        """See `ports.RunStore.list`. Asked for by slot alone: no index has the ids as well."""
        found = self._find(_filter(which), [("slot", DESCENDING)], limit=which.limit)
        by_id = sorted([run async for run in found], key=lambda run: run.id)
        return sorted(by_id, key=lambda run: run.slot, reverse=True)


def _progress(run_id: str, token: str, latest: Progress) -> UpdateOne:
    where = {"_id": run_id, "token": token, "state": RUNNING}
    return UpdateOne(where, {"$set": {"progress": progress_document(latest)}})


def _says(entry: Document | None, finish: Finish) -> bool:
    if entry is None:
        return False
    if finish.again_at is not None:
        return was_requeued(entry, finish)
    recorded = (entry["attempt"], entry.get("token"), entry["state"], entry.get("finished_at"))
    return recorded == (finish.attempt, finish.token, finish.outcome.state.value, finish.finished_at)


def _reaching_beyond(instant: datetime) -> Document:
    """Entries of the schedule with a slot after `instant`, and ranges that end after it."""
    return {
        "cause": Cause.SCHEDULE.value,
        "$or": [{"slot": {"$gt": instant}}, {"until": {"$gt": instant}}],
    }


def _filter(which: RunFilter) -> Document:
    where: Document = {} if which.job is None else {"job": which.job}
    if which.executor is not None:
        where["executor.id"] = which.executor
    if which.states:
        where["state"] = {"$in": [state.value for state in which.states]}
    if which.causes:
        where["cause"] = {"$in": [cause.value for cause in which.causes]}
    if which.states and set(which.states) <= UNSETTLED:
        where["unsettled"] = True  # few, and they have an index of their own
    if which.undecided:
        where |= {"unsettled": True, "undecided": True}
    if which.since is not None:
        where.setdefault("slot", {})["$gte"] = which.since
    if which.until is not None:
        where.setdefault("slot", {})["$lte"] = which.until
    return where
