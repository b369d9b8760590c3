"""The commands that make runs besides the schedule."""

from typing import Annotated, Literal

from pydantic import Field, StrictInt

from cronexec.domain.backfill import Ran
from cronexec.domain.command_model import CommandModel, Key
from cronexec.domain.job import JobName
from cronexec.domain.json_values import JsonObject
from cronexec.domain.model import Instant

MOST_BACKFILLED = 500  # slots in one command: they travel in one write


class TriggerJob(CommandModel):
    """Run the job now.

    `params` replace those of the document, key by key; `key` names the run and makes the trigger happen once,
    and with it again other params are refused.
    """

    type: Literal["job.trigger"] = "job.trigger"
    name: JobName
    params: JsonObject | None = None
    key: Key | None = None


class BackfillJob(CommandModel):
    """Run the job for past slots of its current schedule: those from `since` to `until`, both included.

    At most the first `limit` of them; the reply names the `next` one. `ran`: what becomes of those that ran
    before: the command is refused, or they are left out (`skip`), or they run once more (`again`). `params`
    as of a trigger.
    """

    type: Literal["job.backfill"] = "job.backfill"
    name: JobName
    since: Instant
    until: Instant
    ran: Ran = "refuse"
    limit: Annotated[StrictInt, Field(ge=1, le=MOST_BACKFILLED)] = MOST_BACKFILLED
    params: JsonObject | None = None
