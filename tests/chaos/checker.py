"""A checker that trusts nothing of cronexec: `python checker.py DIRECTORY MONGO_URL DATABASE NAMESPACE`.

It imports nothing of it, and reads three things: what the driver sent and did (`driver.jsonl`), the evidence
that the work itself left (`evidence`), and the ledger, raw. From the commands and their replies it knows
which version of a job counted when, within a window (`checker_timeline`); from the versions, by cronsim,
which slots were due (`checker_due`); and it matches these with the ledger and the evidence, as Jepsen's
checker for Chronos matches target windows with runs. What it may find is in `checker_report.VIOLATIONS`.

Exits 1 where there is a violation.
"""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from checker_attempts import JobAttempts
from checker_backfills import JobBackfills
from checker_commands import check_commands, check_terms
from checker_ends import JobEnds
from checker_evidence import Evidence
from checker_history import Entry, History, Sent, read_history
from checker_overlaps import JobOverlaps
from checker_report import Report, Tolerances
from checker_skips import JobSkips
from checker_slots import JobSlots
from checker_timeline import Timeline, accepted, timeline
from checker_wishes import JobWishes
from evidence import Work


def check(history: History, tolerances: Tolerances | None = None) -> Report:
    """Return everything that is wrong with a history, and its figures."""
    allowed, report = tolerances or Tolerances(), Report()
    commands = history.commands_by_job()
    entries: dict[str, list[Entry]] = defaultdict(list)
    for entry in history.entries:
        entries[entry.job].append(entry)
    works: dict[str, list[Work]] = defaultdict(list)
    for work in history.work:
        works[work.job].append(work)
    timelines = {
        job: timeline(commands.get(job, []), history.recorded, tolerance=allowed.change)
        for job in commands.keys() | entries.keys()
    }
    for job, states in sorted(timelines.items()):
        of_job = _Job(job, states, entries[job], works[job], commands.get(job, []))
        _check_job(of_job, history, allowed, report)
    Evidence(history, timelines, tolerances=allowed, report=report).check()
    check_commands(history, timelines, tolerance=allowed.change, report=report)
    check_terms(history, report)
    return report


@dataclass(frozen=True, slots=True)
class _Job:
    """What there is about one job."""

    name: str
    timeline: Timeline
    entries: Sequence[Entry]
    work: Sequence[Work]
    commands: Sequence[Sent]


def _check_job(job: _Job, history: History, allowed: Tolerances, report: Report) -> None:
    states, of_job = job.timeline, job.entries
    JobSlots(job.name, states, of_job, watermark=history.watermark, report=report).check()
    disturbed = partial(history.disturbed, recovery=allowed.known)
    JobSkips(states, of_job, disturbed=disturbed, tolerances=allowed, report=report).check()
    wishes = JobWishes(job.commands, history.recorded, tolerance=allowed.change, report=report)
    wishes.check(of_job, states.documents())
    retried = Counter(
        sent.command["run"]
        for sent in job.commands
        if sent.type == "run.retry" and accepted(sent, history.recorded, tolerance=allowed.change)
    )
    JobAttempts(states, of_job, retried, report=report).check()
    JobEnds(
        states,
        of_job,
        job.commands,
        history.recorded,
        worked={(work.run, work.attempt) for work in job.work},
        standstills=history.standstills,
        disturbed=disturbed,
        tolerances=allowed,
        report=report,
    ).check()
    JobOverlaps(
        states,
        of_job,
        job.work,
        killed=history.killed,
        was_away=history.was_away,
        tolerances=allowed,
        report=report,
    ).check()
    backfills = JobBackfills(job.name, states, of_job, tolerance=allowed.change, report=report)
    backfills.check(job.commands, history.recorded)


def main(directory: str, mongo_url: str, database: str, namespace: str) -> int:
    folder = Path(directory)
    history = read_history(folder / "driver.jsonl", folder / "evidence", mongo_url, database, namespace)
    report = check(history)
    print(json.dumps(report.to_json(), indent=2))  # noqa: T201  the answer
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
