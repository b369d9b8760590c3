"""The commands about jobs: their definition, and the controls that let slots of theirs run or not."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StrictBool, StrictInt, model_validator

from cronexec.domain.command_model import CommandModel
from cronexec.domain.job import JobDocument, JobName
from cronexec.domain.job_state import MOST_SKIPPED_ONCE
from cronexec.domain.model import Instant, is_storable
from cronexec.domain.problems import problem

_MAX_REASON = 500
_MAX_OWNER = 256


def _check_storable(text: str) -> str:
    if not is_storable(text):
        raise problem("text with a null character or half a surrogate pair cannot be stored")
    return text


Reason = Annotated[str, Field(min_length=1, max_length=_MAX_REASON), AfterValidator(_check_storable)]
Owner = Annotated[str, Field(min_length=1, max_length=_MAX_OWNER), AfterValidator(_check_storable)]


class PutJob(CommandModel):
    """Create the job or change it.

    `if_version`: only if this is its current version; 0: only if there is no such job.
    """

    type: Literal["job.put"] = "job.put"
    job: JobDocument
    if_version: Annotated[StrictInt, Field(ge=0)] | None = None
    declared: StrictBool = False

    def to_document(self) -> dict[str, Any]:
        """Return the command as it is sent, with the canonical form of the job."""
        return {**super().to_document(), "job": self.job.to_document()}


class DeleteJob(CommandModel):
    """Delete the job. `if_version`: only if this is its current version."""

    type: Literal["job.delete"] = "job.delete"
    name: JobName
    if_version: Annotated[StrictInt, Field(ge=1)] | None = None


class PauseJob(CommandModel):
    """Skip the job's slots until `until` (included), or until it is resumed.

    `owner`: who answers for it.
    """

    type: Literal["job.pause"] = "job.pause"
    name: JobName
    until: Instant | None = None
    reason: Reason | None = None
    owner: Owner | None = None


class ResumeJob(CommandModel):
    """Run the job's slots again."""

    type: Literal["job.resume"] = "job.resume"
    name: JobName


class SkipSlots(CommandModel):
    """Skip the job's next `count` slots, instead of those that were asked for before; 0: none."""

    type: Literal["job.skip"] = "job.skip"
    name: JobName
    count: Annotated[StrictInt, Field(ge=0, le=MOST_SKIPPED_ONCE)] = 1
    reason: Reason | None = None


class BlackoutJob(CommandModel):
    """Skip the job's slots from `start` (now, if left out) to `end`, both included."""

    type: Literal["job.blackout"] = "job.blackout"
    name: JobName
    start: Instant | None = None
    end: Instant
    reason: Reason | None = None

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.start is not None and self.end < self.start:
            raise problem("end is before start; swap them")
        return self


class UnblackoutJob(CommandModel):
    """Take away the job's windows; with `reason`, those with that one."""

    type: Literal["job.unblackout"] = "job.unblackout"
    name: JobName
    reason: Reason | None = None
