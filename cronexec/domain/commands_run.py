"""The commands about runs, and about the baton that lets an instance decide on them."""

from typing import Literal

from cronexec.domain.command_model import CommandModel, RunId


class CancelRun(CommandModel):
    """Cancel a run, wherever it is."""

    type: Literal["run.cancel"] = "run.cancel"
    run: RunId


class ReleaseBaton(CommandModel):
    """Let the holder pass on the baton."""

    type: Literal["baton.release"] = "baton.release"
