"""Commands: what was sent, and what became of it.

A command that the broker has confirmed must be in the audit log or in the rejected queue in the end; whoever
was answered, however often, was answered what the audit log says; what is there was sent by somebody. A
trigger's run is in the ledger, and every triggered run was asked for. What is refused must be something that
cannot be done (`_may_be_refused`), and what cannot be done must be refused.
"""

from collections.abc import Mapping
from itertools import pairwise

from checker_due import instant
from checker_history import Document, History, Sent
from checker_report import Report
from checker_skips import overlap_of
from checker_timeline import Timeline, outcome

OWN = "cronexec"  # sends itself what a holder has decided: the deletion of a job that is over
ABOUT_A_JOB = {"job.delete", "job.pause", "job.resume", "job.skip", "job.blackout", "job.unblackout"}


def check_commands(
    history: History, timelines: Mapping[str, Timeline], *, tolerance: float, report: Report
) -> None:
    """Compare the driver's log with the audit log, the rejected queue and the ledger."""
    runs = {entry.id for entry in history.entries}
    for sent in history.commands:
        report.commands["sent"] += 1
        report.commands[_fate(sent, history)] += 1
        record = history.recorded.get(sent.id)
        if sent.confirmed and record is None and sent.id not in history.rejected:
            report.find("lost_command", id=sent.id, type=sent.type, job=sent.job, reply=sent.reply)
        for reply in sent.replies:
            if record is None or record["reply"] != reply:
                report.find("unrecorded_command", id=sent.id, reply=reply, record=record and record["reply"])
        result = (sent.reply or {}).get("result", {})
        if sent.type == "job.trigger" and result and result["run"] not in runs:
            report.find("trigger_without_run", id=sent.id, run=result["run"])
        document = _document(sent, timelines.get(sent.job or ""), tolerance)
        if wrong := _wrongly_answered(sent, history, document):
            report.find("wrongly_answered", id=sent.id, type=sent.type, job=sent.job, why=wrong)
    for command_id in _unsent(history):
        report.find("unsent_command", id=command_id, record=history.recorded[command_id]["reply"])
    _check_triggered(history, report)


def _check_triggered(history: History, report: Report) -> None:
    asked = {
        f"{sent.job}#{sent.command.get('key') or sent.id}"
        for sent in history.commands
        if sent.type == "job.trigger" and (outcome(sent, history.recorded)[0] or {}).get("ok")
    }
    for entry in history.entries:
        if entry.cause == "trigger":
            report.triggered[entry.state] += 1
            if entry.id not in asked:
                report.find("unexpected", entry=entry.id, state=entry.state)


def _unsent(history: History) -> set[str]:
    own = {found for found, record in history.recorded.items() if record.get("issued_by") == OWN}
    return history.recorded.keys() - own - {sent.id for sent in history.commands}


def _wrongly_answered(sent: Sent, history: History, document: Document | None) -> str:
    reply, answered_at = outcome(sent, history.recorded)
    if reply is None:
        return ""
    code = None if reply["ok"] else reply["error"]["code"]
    if code is None:
        return _why_to_refuse(sent, exists=document is not None)
    return "" if _may_be_refused(sent, code, document, answered_at) else f"it was refused: {reply['error']}"


def _document(sent: Sent, timeline: Timeline | None, tolerance: float) -> Document | None:
    """Return the document of a command's job; commands about one job are sent one after the other."""
    if timeline is None:
        return None
    document = timeline.known(sent.sent_at, tolerance=tolerance).document
    return None if document is None else dict(document)


def _why_to_refuse(sent: Sent, *, exists: bool) -> str:
    if sent.type == "job.put" and "if_version" in sent.command:
        return "there is no such version"
    if sent.type in ABOUT_A_JOB and not exists:
        return "there is no such job"
    return ""


def _may_be_refused(sent: Sent, code: str, document: Document | None, answered_at: float) -> bool:
    if sent.type in ABOUT_A_JOB and code == "not_found":
        return document is None
    until = sent.command.get("until", sent.command.get("end"))
    may_be = {
        ("job.put", "version_conflict"): "if_version" in sent.command,
        ("job.pause", "invalid"): until is not None and int(instant(until)) <= answered_at,
        ("job.blackout", "invalid"): until is not None and int(instant(until)) <= answered_at,
        ("job.trigger", "conflict"): document is not None and overlap_of(document) == "skip",
        ("run.cancel", "already_settled"): True,  # `checker_ends` has what ran all the same
        ("run.retry", "already_settled"): True,
        ("run.retry", "conflict"): True,
        ("job.backfill", "conflict"): sent.command.get("ran", "refuse") == "refuse",
    }
    return may_be.get((sent.type, code), False)


def _fate(sent: Sent, history: History) -> str:
    record = history.recorded.get(sent.id)
    if record is not None:
        return "applied" if record["reply"]["ok"] else "refused"
    if sent.id in history.rejected:
        return "rejected"
    return "lost" if sent.confirmed else "never sent"


def check_terms(history: History, report: Report) -> None:
    """Check that epoch, sequence and watermark only ever rose, in the order in which they were written."""
    for one, other in pairwise(history.steps):
        if (other.epoch, other.seq) <= (one.epoch, one.seq) or other.watermark < one.watermark:
            was, became = (one.epoch, one.seq, one.watermark), (other.epoch, other.seq, other.watermark)
            report.find("term_went_back", at=other.at, was=was, became=became)
