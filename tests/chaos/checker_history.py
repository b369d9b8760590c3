"""What a chaos run leaves behind, as the checker reads it: the driver's log, the evidence and the ledger.

The driver's log has one JSON object a line, with `event` and `at` (seconds since 1970):

```
command.sent      id sender command            the command as it was handed to an instance
command.answered  id reply                     the reply, each time one arrives
command.failed    id why confirmed             no reply; `confirmed`: the broker has it
killed            instance                     kill -9, and the process is gone
disturbed         number kind target           a fault begins; `healed` with its number ends it
term              epoch seq watermark holder   a change of the term document, by MongoDB's own wall clock
```

The ledger is read raw, with pymongo: nothing of cronexec is imported here, nor what it says about itself.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Any

import evidence
from bson.codec_options import CodecOptions
from pymongo import MongoClient

Document = dict[str, Any]
STANDSTILLS = {"SIGSTOP", "blocked loop: engine"}


@dataclass(slots=True)
class Former:
    """A former attempt of a run that was tried again."""

    attempt: int
    state: str
    executor: str | None = None
    started_at: float | None = None
    finished_at: float | None = None
    reason: str | None = None
    error: str | None = None


@dataclass(slots=True)
class Entry:
    """One entry of the ledger. Instants in seconds since 1970, None where there is none."""

    id: str
    job: str
    version: int
    slot: int
    state: str
    epoch: int
    attempt: int = 1
    cause: str = "schedule"
    reason: str | None = None
    until: float | None = None
    claimed_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    executor: str | None = None
    error: str | None = None
    former: list[Former] = field(default_factory=list)

    def tries(self) -> list[Former]:
        """Return all attempts, the last one as the entry has it."""
        last = (self.state, self.executor, self.started_at, self.finished_at, self.reason, self.error)
        return [*self.former, Former(self.attempt, *last)]

    @property
    def is_skip(self) -> bool:
        return self.state == "skipped"

    @property
    def first_claimed_at(self) -> float:
        """When it was claimed, at the earliest: who has a triggered run tried again claims it once more."""
        return float(self.slot) if self.former and self.cause == "trigger" else self.claimed_at or 0.0


@dataclass(slots=True)
class Sent:
    """A command and what came back. `confirmed`: the broker has had it."""

    id: str
    type: str
    job: str | None
    command: Document
    sent_at: float
    replied_at: float | None = None
    reply: Document | None = None
    replies: list[Document] = field(default_factory=list)
    confirmed: bool = False


@dataclass(slots=True)
class Disturbance:
    number: int
    kind: str
    target: str
    began_at: float
    healed_at: float


@dataclass(slots=True)
class Step:
    """A change of the term document."""

    at: float
    epoch: int
    seq: int
    watermark: float
    holder: str | None = None


@dataclass
class History:
    """All of it. `recorded`: the audit records by command id; `rejected`: ids in the rejected queue."""

    watermark: float
    entries: list[Entry] = field(default_factory=list)
    work: list[evidence.Work] = field(default_factory=list)
    commands: list[Sent] = field(default_factory=list)
    recorded: dict[str, Document] = field(default_factory=dict)
    rejected: set[str] = field(default_factory=set)
    killed: dict[str, float] = field(default_factory=dict)
    disturbances: list[Disturbance] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def first_claims(self) -> dict[int, float]:
        """Return when each epoch first changed the term document after raising it: its first claim."""
        raised: dict[int, int] = {}
        claims: dict[int, float] = {}
        for step in sorted(self.steps, key=lambda step: (step.epoch, step.seq)):
            if raised.setdefault(step.epoch, step.seq) < step.seq:
                claims.setdefault(step.epoch, step.at)
        return claims

    def standstills(self, instance: str | None) -> Iterator[Disturbance]:
        """Yield the faults in which nothing happened in an instance, until they were healed."""
        return (
            fault for fault in self.disturbances if fault.target == instance and fault.kind in STANDSTILLS
        )

    def was_away(self, instance: str | None, since: float, until: float) -> float:
        """Return for how long, at most, an instance was harmed at a time between two instants."""
        return max(
            (
                fault.healed_at - fault.began_at
                for fault in self.disturbances
                if fault.target == instance and fault.began_at <= until and since <= fault.healed_at
            ),
            default=0.0,
        )

    def disturbed(self, since: float, until: float, *, recovery: float) -> bool:
        """Whether there was a fault between two instants, or one from which all was still recovering."""
        return any(
            fault.began_at <= until and since <= fault.healed_at + recovery for fault in self.disturbances
        )

    def commands_by_job(self) -> dict[str, list[Sent]]:
        found: dict[str, list[Sent]] = defaultdict(list)
        for sent in sorted(self.commands, key=lambda sent: sent.sent_at):
            if sent.job is not None:
                found[sent.job].append(sent)
        return found


def read_history(log: Path, work: Path, mongo_url: str, database: str, namespace: str) -> History:
    """Read a history from the driver's log, the evidence and MongoDB, once everything has settled."""
    with MongoClient[Document](mongo_url) as client:
        options = CodecOptions[Document](tz_aware=True, tzinfo=UTC)
        collections = client.get_database(database, codec_options=options)
        history = History(watermark=_watermark(collections[f"{namespace}.term"].find_one({"_id": "term"})))
        shown = dict.fromkeys(("outcome.output", "attempts.outcome.output", "params", "progress"), 0)
        history.entries = [entry(found) for found in collections[f"{namespace}.runs"].find({}, shown)]
        kept = dict.fromkeys(("reply", "type", "received_at", "issued_by"), 1)
        audited = collections[f"{namespace}.commands"].find({}, kept)
        history.recorded = {found["_id"]: found for found in audited}
    if work.exists():
        history.work = evidence.read(work.read_text().splitlines())
    read_log(history, (json.loads(line) for line in log.read_text().splitlines()))
    return history


def _watermark(term: Document | None) -> float:
    assert term is not None, "there is no term document"
    found: float = term["watermark"].timestamp()
    return found


def entry(found: Mapping[str, Any]) -> Entry:
    """Return the entry that a document of the `runs` collection is."""
    instants = _instants(found, "until", "claimed_at", "started_at", "finished_at")
    return Entry(
        id=found["_id"],
        job=found["job"],
        version=found["version"],
        slot=int(found["slot"].timestamp()),
        state=found["state"],
        epoch=found["epoch"],
        attempt=found["attempt"],
        cause=found["cause"],
        reason=(found if found["state"] == "skipped" else found.get("outcome", {})).get("reason"),
        error=found.get("outcome", {}).get("error"),
        executor=found.get("executor", {}).get("name"),
        former=[_former(each) for each in found.get("attempts", ())],
        **instants,
    )


def _former(found: Mapping[str, Any]) -> Former:
    return Former(
        attempt=found["attempt"],
        state=found["outcome"]["state"],
        executor=found.get("executor", {}).get("name"),
        reason=found["outcome"].get("reason"),
        error=found["outcome"].get("error"),
        **_instants(found, "started_at", "finished_at"),
    )


def _instants(found: Mapping[str, Any], *names: str) -> dict[str, float]:
    return {name: found[name].timestamp() for name in names if found.get(name) is not None}


def read_log(history: History, events: Iterable[Document]) -> None:
    """Add what the driver's log says; a disturbance that was never healed lasts for ever."""
    commands: dict[str, Sent] = {}
    disturbances: dict[int, Disturbance] = {}
    for event in events:
        at = event["at"]
        match event["event"]:
            case "command.sent":
                commands.setdefault(event["id"], _sent(event))
            case "command.answered":
                _answered(commands[event["id"]], event["reply"], at)
            case "command.failed":
                commands[event["id"]].confirmed |= event["confirmed"]
            case "command.rejected":
                history.rejected.add(event["id"])
            case "killed":
                history.killed[event["instance"]] = at
            case "disturbed":
                number = event["number"]
                disturbances[number] = Disturbance(number, event["kind"], event["target"], at, float("inf"))
            case "healed":
                disturbances[event["number"]].healed_at = at
            case "term":
                fields = (event["epoch"], event["seq"], event["watermark"], event.get("holder"))
                history.steps.append(Step(at, *fields))
    history.commands += commands.values()
    history.disturbances += disturbances.values()


def _sent(event: Document) -> Sent:
    command = event["command"]
    job = command["job"]["name"] if command["type"] == "job.put" else command.get("name")
    if job is None and "run" in command:
        job = command["run"].partition("#")[0].partition("@")[0]
    return Sent(id=event["id"], type=command["type"], job=job, command=command, sent_at=event["at"])


def _answered(sent: Sent, reply: Document, at: float) -> None:
    sent.confirmed = True
    sent.replies.append(reply)
    if sent.reply is None:
        sent.reply, sent.replied_at = reply, at
