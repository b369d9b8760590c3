"""Queueing a run for its next attempt, as updates of MongoDB.

The former attempt is put away from the entry's own fields, and these are cleared, in one statement: whoever
reads the entry finds the attempt in one place or in the other.
"""

from typing import Any

from pymongo import UpdateOne

from cronexec.adapters.mongo_collections import Document
from cronexec.adapters.mongo_documents import outcome_document
from cronexec.domain.ledger import Requeue
from cronexec.domain.run import RETRY, Outcome, RunState
from cronexec.ports import Finish

_CLEARED = (
    "token",
    "executor",
    "started_at",
    "finished_at",
    "progress",
    "overrun_at",
    "outcome",
    "returned",
    "undecided",
    "expire_at",
)


def requeued_by_finish(finish: Finish) -> UpdateOne:
    """Return what ends an attempt that is followed by another; it matches the running one only."""
    where = {
        "_id": finish.run_id,
        "attempt": finish.attempt,
        "token": finish.token,
        "state": RunState.RUNNING.value,
    }
    fields: Document = {"not_before": finish.again_at, "reason": RETRY}
    ended = {"started_at": finish.started_at, "finished_at": finish.finished_at}
    return UpdateOne(where, _again(finish.outcome, ended, fields))


def requeued_by_term(requeue: Requeue, epoch: int) -> UpdateOne:
    """Return what queues a run anew under a term; a cancellation that was asked for earlier is forgotten."""
    where: Document = {"_id": requeue.run_id, "attempt": requeue.attempt, "state": requeue.expected.value}
    if requeue.token is not None:
        where["token"] = requeue.token
    fields: Document = {"epoch": epoch, "reason": requeue.reason, "claimed_at": requeue.at}
    ended = {"finished_at": {"$ifNull": ["$finished_at", requeue.at]}}
    return UpdateOne(where, _again(requeue.outcome, ended, fields, "not_before", "cancel_requested_by"))


def was_requeued(entry: Document | None, finish: Finish) -> bool:
    """Whether this very finish has queued the run already: its answer was lost, say."""
    return entry is not None and any(
        former.get("token") == finish.token for former in entry.get("attempts", ())
    )


def _again(outcome: Outcome | None, ended: Document, fields: Document, *cleared: str) -> list[Document]:
    """Return the stages that put the attempt away; what users wrote is a literal, never an expression."""
    said = {"$literal": outcome_document(outcome)} if outcome is not None else "$outcome"
    former: dict[str, Any] = {
        "attempt": "$attempt",
        "token": "$token",
        "executor": "$executor",
        "started_at": "$started_at",
        "outcome": said,
    } | ended
    attempts = {"$concatArrays": [{"$ifNull": ["$attempts", []]}, [former]]}
    set_to = {name: {"$literal": value} for name, value in fields.items() if value is not None}
    return [
        {"$set": {"attempts": attempts}},
        {
            "$set": {
                **set_to,
                "state": RunState.QUEUED.value,
                "attempt": {"$add": ["$attempt", 1]},
                "unsettled": True,
            }
        },
        {"$unset": [*_CLEARED, *cleared]},
    ]
