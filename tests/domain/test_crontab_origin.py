"""A crontab's jobs replace what came from the same crontab, and nothing else."""

from datetime import UTC, datetime
from typing import Any

import pytest

from cronexec.domain.crontab import parse_crontab
from cronexec.domain.crontab_origin import Leave, Put, Refuse, judge_origin
from cronexec.domain.job import Job, JobDocument

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def from_crontab(command: str = "/opt/backup.sh", origin: str = "web1:/etc/crontab") -> JobDocument:
    documents, problems = parse_crontab(
        f"0 3 * * * {command}\n", system=False, prefix="", source="crontab", origin=origin
    )
    assert not problems
    return JobDocument.parse(documents[0])


def kept(document: JobDocument, **fields: Any) -> Job:
    return Job(document=document, version=3, revision=9, from_at=NOW, updated_at=NOW, **fields)


def written(document: JobDocument, **fields: Any) -> JobDocument:
    return JobDocument.parse(document.to_document() | fields)


def test_a_job_carries_the_crontab_it_is_from() -> None:
    assert from_crontab().to_document()["labels"] == {"crontab": "web1:/etc/crontab"}


def test_a_job_that_is_not_there_is_put_if_it_is_still_not_there() -> None:
    assert judge_origin(from_crontab(), None) == Put(if_version=0)


def test_the_same_crontab_updates_its_job_at_the_version_that_was_seen() -> None:
    assert judge_origin(from_crontab("/opt/backup.sh -x"), kept(from_crontab())) == Put(if_version=3)


@pytest.mark.parametrize(
    "known",
    [
        from_crontab(),
        from_crontab(origin="web2:/etc/crontab"),
        written(from_crontab(), labels={}),
    ],
    ids=["the same crontab", "another crontab", "no crontab"],
)
def test_an_equal_job_is_left_alone_wherever_it_is_from(known: JobDocument) -> None:
    assert judge_origin(from_crontab(), kept(known)) == Leave(job=kept(known))


@pytest.mark.parametrize(
    ("known", "where"),
    [
        (from_crontab("/srv/backup.sh", "web2:/etc/crontab"), "from the crontab web2:/etc/crontab"),
        (written(from_crontab(), labels={}, timeout="5m"), "not from a crontab"),
        (written(from_crontab(), labels={"team": "ops"}), "not from a crontab"),
    ],
)
def test_another_s_job_that_differs_is_not_replaced(known: JobDocument, where: str) -> None:
    decided = judge_origin(from_crontab(), kept(known))

    assert isinstance(decided, Refuse)
    assert decided.message.startswith(f"there is another job backup-sh (version 3, {where});")
    assert "--prefix" in decided.message
    assert "--replace" in decided.message
