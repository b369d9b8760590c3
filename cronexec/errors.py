"""What can go wrong, named for what the caller can do about it.

Errors of drivers (pika, pymongo, aiohttp) stop at the adapters and leave them as one of these, with the
driver's error as `__cause__`. Every message is a sentence for people; what a program needs is in the
attributes.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class CronexecError(Exception):
    """Base of everything cronexec raises on purpose."""


class SettingsError(CronexecError):
    """A setting is unknown, missing or wrong; the message names it and the remedy."""


class UnreachableError(CronexecError):
    """A server could not be reached or did not let us in. Try again later, or follow `remedy`.

    `service` is "broker", "database" or "management" (the broker's).
    """

    def __init__(self, service: str, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}. {remedy}" if remedy else problem)
        self.service = service
        self.problem = problem
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One wrong field of a document: where it is, what was given, what is accepted."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class InvalidDocumentError(CronexecError, ValueError):
    """A job document or a command is wrong. `problems` has every wrong field, not only the first."""

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class RefusedError(CronexecError):
    """The holder understood the command and refused it: `code`, `field` and the message say why."""

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.field = field


class NotYetAppliedError(CronexecError):
    """The command was sent, and no holder answered in time. In the durable queue it will be applied.

    `confirmed` False: the broker has not said either whether it is in the queue; it may be.
    """

    def __init__(self, command_id: str, waited: float, *, confirmed: bool = True) -> None:
        place = (
            f"the command {command_id} is in the queue, and applied as soon as there is a holder; "
            "'cronexec baton status' shows who holds the baton"
            if confirmed
            else f"the command {command_id} was sent and not confirmed by the broker, so it may be applied "
            "or not; sent again with the same id it is applied once"
        )
        super().__init__(f"no holder answered within {waited:g} s: {place}")
        self.command_id = command_id
        self.waited = waited
        self.confirmed = confirmed


class TermLostError(CronexecError):
    """This instance does not hold the term any more: a fenced write found another (epoch, seq).

    `maybe_written`: the write was sent before, and nobody knows whether it was applied while the term lasted.
    """

    def __init__(self, message: str, *, maybe_written: bool = False) -> None:
        super().__init__(message)
        self.maybe_written = maybe_written


class UnclearCommitError(CronexecError):
    """A fenced write was sent and its answer is unknown: it may or may not have been applied."""


class DuplicateEntryError(CronexecError):
    """Entries with these ids are in the ledger already; nothing of the write was applied."""

    def __init__(self, run_ids: Sequence[str]) -> None:
        super().__init__(f"already in the ledger: {', '.join(run_ids[:5])}{' …' if len(run_ids) > 5 else ''}")  # noqa: PLR2004  a sentence, not a policy
        self.run_ids = tuple(run_ids)


class UnwritableError(CronexecError):
    """The database will never accept this write as it is (for example a document that is too large)."""
