"""Where a job from a crontab is from, and whether it may replace the one that is there.

Names of such jobs are made from their commands, so the crontab of a second machine easily has the names of
the first one's. A job therefore carries its crontab in the label `crontab`: HOST:PATH, or USER@HOST:- from
standard input. A crontab changes only what came from the same one. What is there and differs in nothing but
the label is left alone: the same crontab on ten machines is one job.

The decision names the version that it was taken for; put on that condition, nobody's change in between is
overwritten.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cronexec.domain.job import Job, JobDocument

ORIGIN_LABEL = "crontab"


@dataclass(frozen=True, kw_only=True, slots=True)
class Put:
    """Put it, if the job is at this version (0: if there is none)."""

    if_version: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Leave:
    """Leave `job` as it is: it means the same."""

    job: Job


@dataclass(frozen=True, kw_only=True, slots=True)
class Refuse:
    """Do not replace it; `message` says what is there, and the remedies."""

    message: str


def judge_origin(document: JobDocument, known: Job | None) -> Put | Leave | Refuse:
    """Decide whether `document`, from a crontab, may become the job; `known`: what is there, or None."""
    if known is None:
        return Put(if_version=0)
    if _but_for_origin(known.document) == _but_for_origin(document):
        return Leave(job=known)
    origin = known.document.labels.get(ORIGIN_LABEL)
    if origin is not None and origin == document.labels.get(ORIGIN_LABEL):
        return Put(if_version=known.version)
    where = f"from the crontab {origin}" if origin else "not from a crontab"
    return Refuse(
        message=f"there is another job {known.name} (version {known.version}, {where}); give this crontab's "
        "jobs names of their own with --prefix, or replace that job with --replace"
    )


def _but_for_origin(document: JobDocument) -> Mapping[str, Any]:
    written = document.to_document()
    labels = {name: text for name, text in document.labels.items() if name != ORIGIN_LABEL}
    return written | {"labels": labels}
