"""Commands: what was sent, and what became of it.

A command that the broker has confirmed must be in the audit log or in the rejected queue in the end; whoever
was answered, however often, was answered what the audit log says; and a trigger's run is in the ledger.
"""

from itertools import pairwise

from checker_history import History, Sent
from checker_report import Report


def check_commands(history: History, report: Report) -> None:
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
    for entry in history.entries:
        if entry.cause == "trigger":
            report.triggered[entry.state] += 1


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
