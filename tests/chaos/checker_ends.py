"""How runs ended: every one did, and those that did not succeed had a reason.

A cancellation needs somebody who asked: for the run, in time and once for each attempt; or by deleting or
pausing the job, while it waited. What was cancelled starts no more, unless somebody has it tried again, and
what was under way does not go on for long.

A failure needs work that fails: a job says in its params at which attempt its work succeeds (`succeeds_at`).
There is one other: a webhook whose instance stood still while it connected, for longer than connecting may
take; it fails right after the instance has woken, with that error, and the receiver has seen nothing of it.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from checker_history import Disturbance, Entry, Former, Sent
from checker_report import Report, Tolerances
from checker_skips import overlap_of
from checker_timeline import Document, Timeline, accepted

REPLACED_BY = "replaced by "
BY_JOB = {"job_deleted", "job_paused"}
CONNECT_TIMEOUT = 10.0  # seconds that a webhook's connection may take
ABOUT = 3.0  # between a fault that is ordered and one that has come about; and until a request is sent
ENDED_WITHIN = 4.0  # seconds after a cancellation, where nothing is wrong
WOKEN_WITHIN = 10.0  # seconds after a standstill in which what has failed in it is noticed
NO_CONNECTION = "no connection to "  # begins the error of such a run
Attempt = tuple[str, int]


class JobEnds:
    """One job's runs. `worked`: the attempts that left evidence; `standstills`: of an instance.

    `disturbed`: whether there was a fault between two instants.
    """

    def __init__(
        self,
        timeline: Timeline,
        entries: Sequence[Entry],
        commands: Iterable[Sent],
        recorded: Mapping[str, Any],
        *,
        worked: Collection[Attempt],
        standstills: Callable[[str | None], Iterator[Disturbance]],
        disturbed: Callable[[float, float], bool],
        tolerances: Tolerances,
        report: Report,
    ) -> None:
        self._timeline = timeline
        self._documents = timeline.documents()
        self._entries = entries
        self._worked = worked
        self._standstills = standstills
        self._disturbed = disturbed
        self._tolerances = tolerances
        self._report = report
        self._cancels: dict[str, list[tuple[float, float]]] = {}
        self._retries: dict[str, list[tuple[float, float]]] = {}
        for sent in commands:
            kept = {"run.cancel": self._cancels, "run.retry": self._retries}.get(sent.type)
            window = accepted(sent, recorded, tolerance=tolerances.change)
            if kept is not None and window is not None:
                kept.setdefault(sent.command["run"], []).append(window)

    def check(self) -> None:
        for entry in self._entries:
            if entry.state in {"queued", "running"}:
                self._report.find("unsettled", entry=entry.id, state=entry.state)
            before = float("-inf")
            for tried in entry.tries():
                self._check_attempt(entry, tried, before)
                before = tried.finished_at or before

    def _check_attempt(self, entry: Entry, tried: Former, before: float) -> None:
        """`before`: when the attempt before it ended."""
        if tried.state in {"failed", "timed_out"} and not self._may_fail(entry, tried):
            self._report.find("failed", entry=entry.id, attempt=tried.attempt, error=tried.error)
        if tried.state == "cancelled" and not self._was_asked(entry, tried, before):
            self._report.find("cancelled_without_cause", entry=entry.id, reason=tried.reason)
        if tried.started_at is not None:
            went_on = tried.state == "succeeded" and self._went_on(entry.id, tried)
            if went_on or self._was_cancelled_before(entry.id, tried.started_at):
                self._report.find("ran_although_cancelled", entry=entry.id, attempt=tried.attempt)

    # --- failures ---

    def _may_fail(self, entry: Entry, tried: Former) -> bool:
        if tried.state == "timed_out":
            return False
        document = self._documents.get(entry.version, {})
        succeeds_at: int = document.get("params", {}).get("succeeds_at", 1)
        is_followed = tried.attempt < entry.attempt
        return (is_followed and tried.attempt < succeeds_at) or self._was_cut_short(entry, tried, document)

    def _was_cut_short(self, entry: Entry, tried: Former, document: Document) -> bool:
        """Whether the instance stood still while it connected with a webhook's receiver."""
        is_webhook = document.get("target", {}).get("type") == "webhook"
        is_timeout = (tried.error or "").startswith(NO_CONNECTION)
        if not (is_webhook and is_timeout) or (entry.id, tried.attempt) in self._worked:
            return False
        since, ended_at = tried.started_at or 0.0, tried.finished_at or float("inf")
        return any(
            abs(still.began_at - since) <= ABOUT
            and still.healed_at - still.began_at >= CONNECT_TIMEOUT
            and -ABOUT <= ended_at - still.healed_at <= WOKEN_WITHIN
            for still in self._standstills(tried.executor)
        )

    # --- cancellations ---

    def _was_asked(self, entry: Entry, tried: Former, before: float) -> bool:
        reason, at = tried.reason or "", tried.finished_at or 0.0
        if reason.startswith("cancelled by "):
            retries = [since for since, _ in self._retries.get(entry.id, ()) if since <= at]
            queued_at = max([before, *retries])
            return any(lo <= at and hi >= queued_at for lo, hi in self._cancels.get(entry.id, ()))
        if reason.startswith(REPLACED_BY):
            return self._is_replaced_by(entry, reason.removeprefix(REPLACED_BY), at)
        if reason in BY_JOB and tried.started_at is None:
            state = self._timeline.certain(at)
            return state is None or not state.is_active
        return False

    def _is_replaced_by(self, entry: Entry, successor: str, at: float) -> bool:
        """Whether there was a later run of the job under that id by then, and the job replaces its runs."""
        others = (other for other in self._entries if other.id == successor)
        change = self._tolerances.change
        later = any(other.slot >= entry.slot and other.first_claimed_at <= at + change for other in others)
        document = self._documents.get(entry.version)
        return later and document is not None and overlap_of(document) == "replace"

    def _was_cancelled_before(self, run: str, started_at: float) -> bool:
        """Whether the run had been cancelled when it was started, and nobody had it tried again."""
        for lo, hi in self._cancels.get(run, ()):
            again = any(since >= lo and since <= started_at for since, _ in self._retries.get(run, ()))
            if hi < started_at and not again:
                return True
        return False

    def _went_on(self, run: str, tried: Former) -> bool:
        """Whether the attempt was cancelled while it was under way, and went on as if nothing had been."""
        began_at, ended_at = tried.started_at or 0.0, tried.finished_at or 0.0
        return any(
            began_at <= hi and hi + ENDED_WITHIN < ended_at and not self._disturbed(lo, ended_at)
            for lo, hi in self._cancels.get(run, ())
        )
