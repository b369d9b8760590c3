"""Jobs: the document that a user writes, and the job that the namespace keeps."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict

from cronexec.domain.schedule import Schedule
from cronexec.domain.targets import Target


class Overlap(StrEnum):
    QUEUE = "queue"
    SKIP = "skip"
    ALLOW = "allow"


class MisfirePolicy(StrEnum):
    LATEST = "latest"
    ALL = "all"
    SKIP = "skip"


class Misfire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: MisfirePolicy = MisfirePolicy.LATEST
    grace: timedelta = timedelta(seconds=60)
    limit: int = 100


class JobDocument(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: str
    schedule: Schedule
    target: Target
    description: str = ""
    owner: str = ""
    labels: dict[str, str] = {}
    params: dict[str, Any] = {}
    timeout: timedelta | None = None
    overlap: Overlap = Overlap.QUEUE
    misfire: Misfire = Misfire()

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> "JobDocument":
        """Raises InvalidDocumentError with every problem."""
        raise NotImplementedError

    def to_document(self) -> dict[str, Any]:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True, slots=True)
class Pause:
    """`range_id`: the open range entry in the ledger."""

    since_at: datetime
    issued_by: str | None
    range_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A job as the namespace keeps it. `declared`: in code."""

    document: JobDocument
    version: int
    revision: int
    from_at: datetime
    updated_at: datetime
    issued_by: str | None = None
    declared: bool = False
    paused: Pause | None = None
    deleted_at: datetime | None = None

    @property
    def name(self) -> str:
        return self.document.name

    @property
    def schedule(self) -> Schedule:
        return self.document.schedule


@dataclass(frozen=True, kw_only=True, slots=True)
class JobVersion:
    name: str
    version: int
    document: JobDocument
    from_at: datetime
    to_at: datetime | None
    issued_by: str | None = None


def job_schema() -> dict[str, Any]:
    raise NotImplementedError
