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
from collections import defaultdict
from pathlib import Path

from checker_attempts import JobAttempts
from checker_commands import check_commands, check_terms
from checker_evidence import Evidence
from checker_history import Entry, History, Sent, read_history
from checker_report import Report, Tolerances
from checker_skips import JobRuns, JobSkips
from checker_slots import JobSlots
from checker_timeline import timeline
from checker_wishes import JobWishes


def check(history: History, tolerances: Tolerances | None = None) -> Report:
    """Return everything that is wrong with a history, and its figures."""
    allowed, report = tolerances or Tolerances(), Report()
    commands = history.commands_by_job()
    entries: dict[str, list[Entry]] = defaultdict(list)
    for entry in history.entries:
        entries[entry.job].append(entry)
    timelines = {
        job: timeline(commands.get(job, []), history.recorded, tolerance=allowed.change)
        for job in commands.keys() | entries.keys()
    }
    retried: dict[str, list[Sent]] = defaultdict(list)
    for sent in history.commands:
        if sent.type == "run.retry":
            retried[sent.command["run"]].append(sent)
    cancelled = {sent.command["run"]: sent for sent in history.commands if sent.type == "run.cancel"}
    for job, states in sorted(timelines.items()):
        of_job = entries[job]
        JobSlots(job, states, of_job, watermark=history.watermark, report=report).check()
        JobSkips(states, of_job, tolerances=allowed, report=report).check()
        ends = commands.get(job, [])
        JobWishes(ends, history.recorded, tolerance=allowed.change, report=report).check(of_job)
        JobAttempts(states, of_job, retried, report=report).check()
        JobRuns(
            states,
            of_job,
            ends,
            cancelled,
            stood_still=history.stood_still,
            tolerances=allowed,
            report=report,
        ).check()
    Evidence(history, timelines, tolerances=allowed, report=report).check()
    check_commands(history, report)
    check_terms(history, report)
    return report


def main(directory: str, mongo_url: str, database: str, namespace: str) -> int:
    folder = Path(directory)
    history = read_history(folder / "driver.jsonl", folder / "evidence", mongo_url, database, namespace)
    report = check(history)
    print(json.dumps(report.to_json(), indent=2))  # noqa: T201  the answer
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
