"""How a command ends when it fails: one sentence on standard error, and an exit code that programs can go by.

With `--json` it is also a document on standard output.
"""

import json
from collections.abc import Mapping
from typing import Any

import click

from cronexec.errors import (
    CronexecError,
    InvalidDocumentError,
    NotYetAppliedError,
    RefusedError,
    SettingsError,
    UnreachableError,
)

REFUSED = 1  # or failed
USAGE = 2  # settings too
NOT_YET = 3  # sent, and no holder answered in time
UNREACHABLE = 4


class Failure(click.ClickException):
    """An error as the command line tells it: a sentence, and an exit code."""

    def __init__(self, message: str, exit_code: int, document: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]
        self.document = document
        self.as_json = False

    def show(self, file: Any = None) -> None:
        """Print the sentence, and the document where `--json` was given."""
        if self.as_json:
            click.echo(json.dumps({"error": self.document}, ensure_ascii=False))
        click.echo(f"Error: {self.message}", err=True, file=file)


def failure_of(error: CronexecError) -> Failure:
    """Return how the command line ends with `error`."""
    document: dict[str, Any] = {"message": str(error)}
    match error:
        case SettingsError():
            return Failure(str(error), USAGE, document | {"code": "settings"})
        case InvalidDocumentError():
            problems = [{"field": each.field, "message": each.message} for each in error.problems]
            text = "\n".join(["the document is refused:", *(f"  {each}" for each in error.problems)])
            return Failure(text, REFUSED, document | {"code": "invalid", "problems": problems})
        case RefusedError():
            return Failure(str(error), REFUSED, document | {"code": error.code, "field": error.field})
        case NotYetAppliedError():
            sent = {"code": "not_yet_applied", "id": error.command_id, "confirmed": error.confirmed}
            return Failure(str(error), NOT_YET, document | sent)
        case UnreachableError():
            return Failure(
                str(error), UNREACHABLE, document | {"code": "unreachable", "service": error.service}
            )
    return Failure(str(error), REFUSED, document | {"code": "failed"})
