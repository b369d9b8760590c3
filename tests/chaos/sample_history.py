"""Histories as a correct scheduler leaves them, made from a seed, for the tests of the checker.

Nothing runs: a few jobs with changes, terms that follow each other, an outage in which nobody holds, and an
instance that is killed are drawn, and every slot gets the entry and the evidence that it must have. What was
drawn is told (`killed_at`, `outage`), so that tests can find places for their faults.
"""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from checker_due import due, excluded, length
from checker_history import Disturbance, Entry, History, Sent, Step
from evidence import Work

START = 1_800_000_000.0
LASTS = 240.0
EVERY = (
    {"every": "1s"},
    {"every": "7s"},
    {"cron": "* * * * * *"},
    {"cron": "*/5 * * * * *"},
    {"every": "2s", "exclude": [{"cron": "*/4 * * * * *"}]},
)
POLICIES: tuple[dict[str, Any], ...] = (
    {"overlap": "allow", "misfire": {"grace": "1h"}},
    {"misfire": {"grace": "2s"}, "overlap": "allow"},
    {"misfire": {"grace": "2s", "policy": "skip"}, "overlap": "allow"},
    {"misfire": {"grace": "2s", "policy": "all", "limit": 3}, "overlap": "allow"},
    {"misfire": {"grace": "2s", "policy": "all", "limit": 5, "window": "6s"}, "overlap": "allow"},
)
FAR = 253_370_764_800.0
ENDED = 0.5  # of the pauses


@dataclass
class Sample:
    """`killed_at`: the end of `killed`; `outage`: nobody holds in it."""

    history: History
    killed: str
    killed_at: float
    outage: tuple[float, float]
    rng: random.Random
    epochs: list[tuple[float, int, str]] = field(default_factory=list)

    def ran(self) -> list[Entry]:
        """Return the runs of slots that succeeded, outside the last seconds."""
        return [
            entry
            for entry in self.history.entries
            if entry.state == "succeeded" and entry.cause == "schedule" and entry.slot < START + LASTS - 20
        ]

    def work_of(self, entry: Entry) -> Work:
        return next(work for work in self.history.work if work.run == entry.id)

    def remove(self, entry: Entry) -> None:
        self.history.entries.remove(entry)
        self.history.work = [work for work in self.history.work if work.run != entry.id]

    def sent(self, kind: str) -> list[Sent]:
        return [sent for sent in self.history.commands if sent.type == kind]


@dataclass(frozen=True, slots=True)
class Life:
    """One version of a job."""

    name: str
    version: int
    document: dict[str, Any]


def slot_id(job: str, slot: int) -> str:
    return f"{job}@{datetime.fromtimestamp(slot, UTC):%Y-%m-%dT%H:%M:%SZ}"


def make(seed: int) -> Sample:
    """Return the history of this seed: the same for the same one."""
    rng = random.Random(seed)  # noqa: S311  to be repeatable
    outage_at = START + rng.uniform(60, 90)
    outage = (outage_at, outage_at + rng.uniform(1, 15))
    sample = Sample(
        history=History(watermark=START + LASTS),
        killed="a1",
        killed_at=outage[0],
        outage=outage,
        rng=rng,
    )
    sample.history.killed["a1"] = outage[0] + 0.02
    sample.history.disturbances.append(Disturbance(0, "kill -9", "a1", outage[0], outage[1]))
    handover = outage[1] + rng.uniform(10, 60)
    sample.epochs = [(START, 1, "a1"), (outage[1], 2, "b1"), (handover, 4, "c1")]
    _make_terms(sample)
    for number in range(6):
        _make_job(sample, f"job-{number}")
    return sample


def _make_terms(sample: Sample) -> None:
    for since, epoch, holder in sample.epochs:
        until = min((begin for begin, other, _ in sample.epochs if other > epoch), default=START + LASTS + 10)
        until = sample.killed_at if holder == sample.killed else until
        at, seq = since, epoch * 1000
        while at < until:
            sample.history.steps.append(Step(at, epoch, seq, at, holder))
            at, seq = at + 1, seq + 1


def _term(sample: Sample, at: float) -> tuple[int, str]:
    return next((epoch, holder) for since, epoch, holder in reversed(sample.epochs) if at >= since)


def _make_job(sample: Sample, name: str) -> None:
    """Draw a job's life, and carry it out: put, changed, paused, resumed, deleted, put again."""
    rng, at, version = sample.rng, START + sample.rng.uniform(1, 5), 0
    paused, wishes, past = False, Wishes(), Past(name)
    document: dict[str, Any] | None = None
    while at < START + LASTS:
        kind = _draw(rng, document, paused=paused)
        if kind == "job.put":
            document, version = _document(rng, name), version + 1
        result = {"name": name, "version": version, "changed": True}
        fields = {"job": document} if kind == "job.put" else {"name": name}
        over_at = at + rng.uniform(4, 30) if kind == "job.pause" and rng.random() < ENDED else None
        if over_at is not None:
            fields["until"] = _text(over_at)
        elif kind in {"job.skip", "job.blackout"}:
            asked, told = wishes.ask(kind, document or {}, at, rng)
            fields, result = fields | asked, result | told
        applied_at = send(sample, {"type": kind, **fields}, at, result)
        if kind == "job.delete":
            document, paused, wishes = None, False, Wishes()
        elif kind in {"job.pause", "job.resume"}:
            paused = kind == "job.pause"
        if kind == "job.trigger":
            _trigger(sample, name, version, applied_at)
            past.fill(sample, document or {}, version, applied_at)
        at = (over_at or applied_at) + rng.uniform(5, 40)
        until = min(at, START + LASTS)
        if document is not None:
            next_at = _peek(sample, until)
            life = Life(name, version, document)
            if over_at is not None:
                _live(sample, life, applied_at, over_at, wishes, paused=True)
                paused = False
            _live(sample, life, over_at or applied_at, next_at, wishes, paused=paused)
            at = next_at if next_at < START + LASTS else at


def _peek(sample: Sample, at: float) -> float:
    """Return when the next change is applied: not while nobody holds."""
    since, until = sample.outage
    return until + 0.5 if since - 1 <= at <= until else at


def _draw(rng: random.Random, document: dict[str, Any] | None, *, paused: bool) -> str:
    if document is None:
        return "job.put"
    kinds = ["job.put", "job.resume" if paused else "job.pause", "job.delete", "job.trigger"]
    wishes = 0 if paused else 1  # of a paused job, the next slots are those of some time later
    return rng.choices([*kinds, "job.skip", "job.blackout"], (4, 4, 1, 4, wishes, wishes))[0]


class Wishes:
    """A job's windows, and its slots to be skipped once."""

    def __init__(self) -> None:
        self.windows: list[tuple[int, int]] = []
        self.once: set[int] = set()

    def ask(
        self, kind: str, document: dict[str, Any], at: float, rng: random.Random
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Ask for one more; returns the fields of the command, and of its reply."""
        if kind == "job.blackout":
            first = int(at) + rng.randint(3, 6)
            self.windows.append((first, first + rng.randint(1, 15)))
            return {"start": _text(first), "end": _text(self.windows[-1][1])}, {}
        upcoming = due(document, at, at + 600)
        wanted = [slot for slot in upcoming if not excluded(document, slot) and not self._in_window(slot)]
        self.once = {slot for slot in self.once if slot <= at} | set(wanted[:3])
        return {"count": 3}, {"skipped": [_text(slot) for slot in wanted[:3]]}

    def why(self, slot: int) -> str | None:
        if slot in self.once:
            return "skip_next"
        return "blackout" if self._in_window(slot) else None

    def _in_window(self, slot: int) -> bool:
        return any(first <= slot <= last for first, last in self.windows)


class Past:
    """A job's time before the history, and which of its slots were run by now."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._ran: set[int] = set()

    def fill(self, sample: Sample, document: dict[str, Any], version: int, at: float) -> None:
        """Have some slots run by a command that is applied at `at`."""
        since = int(START) - sample.rng.randint(600, 610)
        ran = sample.rng.choice(("refuse", "skip", "again"))
        slots = due(document, since - 1, since + 9)
        wanted = [slot for slot in slots if not excluded(document, slot)]
        before = self._ran & set(wanted)
        made = [slot for slot in wanted if ran == "again" or slot not in before]
        command = {"type": "job.backfill", "name": self._name, "ran": ran}
        command |= {"since": _text(since), "until": _text(since + 9)}
        told = {"queued": len(made), "ran_before": len(before), "excluded": len(slots) - len(wanted)}
        result = {"name": self._name, "next": None, **told}
        refused = "conflict" if ran == "refuse" and before else None
        send(sample, command, at, result, refused=refused)
        for slot in made if refused is None else ():
            self._run(sample, version, slot, at)

    def _run(self, sample: Sample, version: int, slot: int, at: float) -> None:
        epoch, holder = _term(sample, at)
        run = slot_id(self._name, slot).replace("@", "#backfill:")
        run += f":{sample.history.commands[-1].id}" if slot in self._ran else ""
        self._ran.add(slot)
        entry = Entry(run, self._name, version, slot, "succeeded", epoch, cause="backfill", claimed_at=at)
        entry.executor = holder
        _execute(sample, entry)


def _text(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


def _document(rng: random.Random, name: str) -> dict[str, Any]:
    schedule = rng.choice(EVERY)
    return {"name": name, "schedule": schedule, "target": {"type": "handler"}, **rng.choice(POLICIES)}


def send(
    sample: Sample,
    command: dict[str, Any],
    at: float,
    result: dict[str, Any],
    *,
    refused: str | None = None,
) -> float:
    """Add a command that is applied at `at`, or refused with that code; returns when."""
    command_id = f"command-{len(sample.history.commands)}"
    kind, job = command["type"], result["name"]
    if kind == "job.trigger":
        result = {"run": f"{job}#{command_id}"}
    reply = {"id": command_id, "ok": True, "result": result}
    if refused is not None:
        reply = {"id": command_id, "ok": False, "error": {"code": refused, "message": "…"}}
    sent = Sent(
        id=command_id,
        type=kind,
        job=job,
        command=command,
        sent_at=at - sample.rng.uniform(0.001, 0.5),
        replied_at=at + sample.rng.uniform(0.001, 0.3),
        reply=reply,
        replies=[reply],
        confirmed=True,
    )
    sample.history.commands.append(sent)
    received_at = datetime.fromtimestamp(at, UTC)
    sample.history.recorded[command_id] = {"reply": reply, "received_at": received_at}
    return at


def _live(sample: Sample, life: Life, since: float, until: float, wishes: Wishes, *, paused: bool) -> None:
    """Account for every slot of a version in (since, until]."""
    slots = due(life.document, since, min(until, START + LASTS))
    if paused:
        open_until = until if until < START + LASTS else FAR
        if slots:
            _skip(sample, life, slots[0], "paused", at=since, until=open_until)
        return
    missed = [slot for slot in slots if sample.outage[0] <= slot <= sample.outage[1]]
    whys = {
        slot: wishes.why(slot) or ("excluded" if excluded(life.document, slot) else None) for slot in slots
    }
    for slot, why in whys.items():
        if why is not None:
            _skip(sample, life, slot, why, at=sample.outage[1] if slot in missed else slot)
        elif slot not in missed:
            _run(sample, life, slot, slot)
    is_parted = "exclude" in life.document["schedule"] or any(whys.values())
    _catch_up(sample, life, [slot for slot in missed if whys[slot] is None], is_parted=is_parted)


def _catch_up(sample: Sample, life: Life, missed: list[int], *, is_parted: bool) -> None:
    """Decide what came due while nobody held, as the misfire policy says."""
    now, misfire = sample.outage[1], life.document["misfire"]
    late = [slot for slot in missed if now - slot > length(misfire["grace"])]
    live = [slot for slot in missed if slot not in late]
    policy = misfire.get("policy", "latest")
    wanted = {"skip": 0, "latest": 0 if live else 1, "all": misfire.get("limit", 100)}[policy]
    if "window" in misfire:
        wanted = min(wanted, sum(now - slot <= length(misfire["window"]) for slot in late))
    skipped = late[: max(0, len(late) - wanted)]
    run = late[len(skipped) :]
    for slot in [*run, *live]:
        _run(sample, life, slot, now)
    if is_parted:  # by what is skipped for another reason
        for slot in skipped:
            _skip(sample, life, slot, "misfire", at=now)
    elif skipped:
        until = skipped[-1] if len(skipped) > 1 else None
        _skip(sample, life, skipped[0], "misfire", at=now, until=until)


def _run(sample: Sample, life: Life, slot: int, at: float) -> None:
    epoch, holder = _term(sample, at)
    entry = Entry(slot_id(life.name, slot), life.name, life.version, slot, "succeeded", epoch, claimed_at=at)
    entry.executor = holder
    _execute(sample, entry)


def _trigger(sample: Sample, name: str, version: int, at: float) -> None:
    epoch, holder = _term(sample, at)
    run = f"{name}#{sample.history.commands[-1].id}"
    entry = Entry(run, name, version, int(at), "succeeded", epoch, cause="trigger", claimed_at=at)
    entry.executor = holder
    _execute(sample, entry)


def _execute(sample: Sample, entry: Entry) -> None:
    """Start and finish a run, unless its instance is killed meanwhile."""
    rng = sample.rng
    claimed_at = entry.claimed_at or 0.0
    entry.started_at = claimed_at + rng.uniform(0.001, 0.05)
    if entry.executor == sample.killed:
        entry.started_at = min(entry.started_at, sample.killed_at)
    began_at = entry.started_at + rng.uniform(0.001, 0.05)
    ended_at = began_at + rng.uniform(0, 0.1)
    entry.finished_at = ended_at + 0.01
    sample.history.entries.append(entry)
    instance = entry.executor or ""
    work = Work(entry.job, entry.slot, entry.attempt, entry.epoch, entry.id, instance, began_at, ended_at)
    if instance == sample.killed and entry.finished_at > sample.killed_at:
        entry.state, entry.reason = "abandoned", "instance_lost"
        entry.finished_at = sample.killed_at + 60.0
        work.ended_at = None
        if began_at > sample.killed_at:
            return
    sample.history.work.append(work)


def _skip(
    sample: Sample, life: Life, slot: int, reason: str, *, at: float, until: float | None = None
) -> None:
    run = f"{slot_id(life.name, slot)}..{len(sample.history.entries)}"
    epoch, _ = _term(sample, at)
    entry = Entry(run, life.name, life.version, slot, "skipped", epoch, reason=reason, claimed_at=at)
    entry.until = until
    sample.history.entries.append(entry)
