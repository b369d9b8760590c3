"""Judges what the live instances have logged lately: the warnings and errors that their heartbeats carry.

An event is *recent* for a quarter of an hour. Those below say something to whoever runs the instances, and
what to do about it; the others are listed in one finding, so that none is left out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cronexec.doctor.finding import Finding, ok, warn
from cronexec.ports import InstanceRecord

RECENT = timedelta(minutes=15)
SHOWN = 5
CHECK = "instances.events"

DATABASE = "Look at the database and at the network to it; the log has the error."
BROKER = "Look at the broker and at the network to it; the log has the reason."
DEFECT = "Its log has the traceback. Restart it, and report the defect."
NOTABLE = {  # what an event means, and what to do
    "baton.duplicate_discarded": ("there was more than one baton; all but one were discarded", "Nothing."),
    "baton.inserted": (
        "nobody held, and a baton was inserted",
        "Find out what took the baton: was the queue purged or deleted, or every link cut?",
    ),
    "baton.renewal_unconfirmed": (
        "the broker did not confirm a renewal of the baton",
        "See whether the broker has an alarm for memory or disk: rabbitmq-diagnostics alarms.",
    ),
    "baton.silent": (
        "a holder lived and decided nothing, and was deposed",
        "See the log of that holder: engine.stalled, term.commit_unclear or a crash tells why.",
    ),
    "candidate.crashed": ("it failed while it competed for the baton", DEFECT),
    "candidate.waiting": (
        "it could not compete for the baton",
        "The log says why.",
    ),
    "clock.offset": ("its clock is wrong by more than a second", "Have it set by NTP or chrony."),
    "command.crashed": ("a command could not be applied", DEFECT),
    "command.rejected": ("commands were rejected", "See 'cronexec command rejected'."),
    "database.connection_lost": (
        "connections to the database broke while they were used; what was not answered was asked again",
        DATABASE,
    ),
    "database.unreachable": ("the database did not answer", DATABASE),
    "engine.blocked": (
        "its event loop stood still for longer than a lease, and its term was ended",
        "See whether the process was stopped, or short of processor time or memory.",
    ),
    "engine.stalled": (
        "its event loop stood still",
        "Give the process more of a processor, or move work that holds the interpreter elsewhere.",
    ),
    "handlers.stalled": (
        "an asynchronous handler blocked its event loop, and all others on it",
        "Make what blocks a sync handler (def instead of async def): it gets a thread of its own.",
    ),
    "holder.link_closed": (
        "a holder fell silent, and its connection was closed for it",
        "See whether that instance was frozen, or cut off from MongoDB.",
    ),
    "holder.link_not_closed": (
        "a silent holder's connection could not be closed",
        "See whether MANAGEMENT_URL is right, and its user may see and close connections.",
    ),
    "instance.beat_failed": ("its heartbeat could not be written", DATABASE),
    "instance.beat_hangs": ("its heartbeat was never answered", DATABASE),
    "instance.failed": ("a part of it ended by an error of its own", DEFECT),
    "job.crashed": ("a job could not be decided, and is parked", DEFECT),
    "job.parked": (
        "a job could not be decided, or the database refused what it writes, and it was parked",
        "Mend the cause (the log has it), then: cronexec job resume NAME.",
    ),
    "link.lost": ("it lost its connection to the broker", BROKER),
    "run.abandoned": (
        "runs were abandoned",
        "See them: cronexec run list --state abandoned. Their targets may have had their effect.",
    ),
    "run.outcome_delayed": ("outcomes could not be recorded at once", DATABASE),
    "run.outcome_refused": (
        "outcomes came after others had ended their runs",
        "See the runs: cronexec run list. An instance was taken for lost while it ran them.",
    ),
    "run.outcome_unwritable": ("the database refused an outcome's text", "See the log for the run and why."),
    "run.outcomes_lost": (
        "outcomes were not recorded before it ended",
        "See the runs that it names: they become abandoned.",
    ),
    "run.start_unclear": ("the start of runs was not answered, and was asked for again", DATABASE),
    "service.crashed": ("a part of it ended by an error of its own", DEFECT),
    "term.commit_unclear": ("a write of the holder was not answered, and was looked after", DATABASE),
    "term.ended": ("a term ended other than by a handover", "The log has the reason; see what it names."),
    "term.slow_commit": (
        "writes of the holder took a good part of its lease",
        "See the load of the database, and the network to it: beyond the lease the holder changes.",
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Seen:
    """How often an event was logged by one instance, and when last."""

    by: str
    count: int
    last_at: datetime


def judge_events(instances: Sequence[InstanceRecord], *, now: datetime) -> Iterator[Finding]:
    """Yield what is to be said of the live instances' recent events; `now` is the database's clock."""
    recent: dict[str, list[_Seen]] = {}
    for record in instances:
        for counted in record.events:
            if now - counted.last_at <= RECENT:
                seen = _Seen(by=record.executor.name, count=counted.count, last_at=counted.last_at)
                recent.setdefault(counted.event, []).append(seen)
    for event in sorted(recent.keys() & NOTABLE.keys()):
        meaning, remedy = NOTABLE[event]
        yield warn(CHECK, f"{event}: {meaning} ({_when(recent[event], now)})", remedy)
    if others := sorted(recent.keys() - NOTABLE.keys()):
        said = "; ".join(f"{event} ({_when(recent[event], now)})" for event in others)
        yield ok(CHECK, f"also logged lately: {said}")
    if instances and not recent:
        yield ok(CHECK, f"no warnings and no errors in the last {RECENT.total_seconds() / 60:g} minutes")


def _when(seen: Sequence[_Seen], now: datetime) -> str:
    """Return by whom and how often since their starts, and how long ago last."""
    shown = sorted(seen, key=lambda each: each.last_at, reverse=True)
    by = ", ".join(f"{each.by}: {each.count}" for each in shown[:SHOWN])
    more = f" and {len(shown) - SHOWN} more instances" if len(shown) > SHOWN else ""
    return f"{by}{more}; last {max(0.0, (now - shown[0].last_at).total_seconds()):.0f} s ago"
