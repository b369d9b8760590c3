"""The commands about jobs: their definition, and the controls that let slots of theirs run or not."""

from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, StrictInt

from cronexec.domain.command_model import CommandModel
from cronexec.domain.job import JobDocument, JobName


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
    """Skip the job's slots until it is resumed."""

    type: Literal["job.pause"] = "job.pause"
    name: JobName


class ResumeJob(CommandModel):
    """Run the job's slots again."""

    type: Literal["job.resume"] = "job.resume"
    name: JobName
