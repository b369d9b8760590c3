"""The commands about runs, and about the baton and the commands that the holder has in hand."""

from typing import Literal

from cronexec.domain.command_model import CommandModel, Key, RunId


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


class KeptCommands(CommandModel):
    """List the commands that are kept for a newer holder, or discard one: it moves to the rejected queue."""

    type: Literal["command.kept"] = "command.kept"
    discard: Key | None = None


class ReleaseBaton(CommandModel):
    """Let the holder pass on the baton."""

    type: Literal["baton.release"] = "baton.release"
