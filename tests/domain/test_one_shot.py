"""Jobs with a single instant: when they are deleted, and that they do not run again."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sample_jobs import NOON, at, document, job, queued
from sample_namespace import NOW, YESTERDAY, Namespace, instant, put, result

from cronexec.domain.job import Job, JobDocument
from cronexec.domain.one_shot import delete_at, is_over
from cronexec.domain.run import Run, RunState
from cronexec.errors import InvalidDocumentError

HOUR = timedelta(hours=1)


def one_shot(clock: str = "11:00", **fields: Any) -> Job:
    return job(instant(clock), **({"delete_after": "30m"} | fields))


def run(state: RunState, **fields: Any) -> Run:
    return queued("backup@2026-03-02T11:00:00Z", slot=at("11:00"), state=state, **fields)


DELETED = [
    (run(RunState.SUCCEEDED, finished_at=at("11:10")), at("11:40")),
    (run(RunState.SKIPPED, claimed_at=at("11:05")), at("11:35")),
    (run(RunState.QUEUED, claimed_at=at("11:00")), None),
    (run(RunState.RUNNING, started_at=at("11:00")), None),
    (run(RunState.ABANDONED, finished_at=at("11:10"), undecided=True), None),
    (None, YESTERDAY + HOUR / 2),
]


@pytest.mark.parametrize(("entry", "deleted_at"), DELETED)
def test_a_job_is_deleted_so_long_after_its_run_has_settled(
    entry: Run | None, deleted_at: datetime | None
) -> None:
    assert delete_at(one_shot(), entry) == deleted_at


OVER = [("11:00", "11:30", True), ("11:00", "11:29:59", False), ("12:00", "11:00", False)]


@pytest.mark.parametrize(("due", "now", "over"), OVER)
def test_a_job_is_over_so_long_after_its_instant(due: str, now: str, over: bool) -> None:
    assert is_over(one_shot(due).document, at(now)) is over


def test_a_job_without_the_field_is_never_over() -> None:
    assert not is_over(document(instant("11:00")), NOON + 365 * 24 * HOUR)


def test_a_job_that_is_over_is_not_put_anew() -> None:
    effects = Namespace().apply(put(instant("11:00"), delete_after="30m"))
    assert (effects.job, effects.entries, effects.versions) == (None, (), ())
    assert (result(effects)["changed"], result(effects)["over"]) == (False, True)
    gone = replace(one_shot(), deleted_at=YESTERDAY)
    assert Namespace(gone).apply(put(instant("11:00"), delete_after="30m")).job is None


def test_a_job_whose_time_is_not_over_yet_is_decided_as_ever() -> None:
    effects = Namespace().apply(put(instant("11:59:30"), delete_after="30m"))
    assert [entry.id for entry in effects.entries] == ["backup@2026-03-02T11:59:30Z"]


def test_a_job_that_is_there_may_be_changed_though_it_is_over() -> None:
    effects = Namespace(one_shot()).apply(put(instant("12:30"), delete_after="30m"))
    assert effects.job is not None
    assert effects.job.schedule.next_after(NOW) == at("12:30")


def test_only_jobs_with_a_single_instant_are_ever_done() -> None:
    with pytest.raises(InvalidDocumentError, match="delete_after: only a job whose schedule is a single"):
        document({"every": "1m"}, delete_after="1h")
    written = one_shot().document.to_document()
    assert written["delete_after"] == "30m"
    assert JobDocument.parse(written) == one_shot().document
