"""The commands that make runs besides the schedule."""

from typing import Literal

from cronexec.domain.command_model import CommandModel, Key
from cronexec.domain.job import JobName
from cronexec.domain.json_values import JsonObject


class TriggerJob(CommandModel):
    """Run the job now.

    `params` replace those of the document, key by key; `key` names the run and makes the trigger happen once.
    """

    type: Literal["job.trigger"] = "job.trigger"
    name: JobName
    params: JsonObject | None = None
    key: Key | None = None
