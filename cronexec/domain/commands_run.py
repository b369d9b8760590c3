"""The commands about runs, and about the baton that lets an instance decide on them."""

from typing import Literal

from cronexec.domain.command_model import CommandModel, RunId


class CancelRun(CommandModel):
    """Cancel a run, wherever it is."""

    type: Literal["run.cancel"] = "run.cancel"
    run: RunId


class RetryRun(CommandModel):
    """Try a run again that has failed, timed out, or was cancelled or abandoned."""

    type: Literal["run.retry"] = "run.retry"
    run: RunId


class ResolveRun(CommandModel):
    """Say what became of an abandoned run that waits for a person (`abandoned: ask`)."""

    type: Literal["run.resolve"] = "run.resolve"
    run: RunId
    state: Literal["abandoned", "succeeded", "failed"] = "abandoned"


class ReleaseBaton(CommandModel):
    """Let the holder pass on the baton."""

    type: Literal["baton.release"] = "baton.release"
