"""Retries: whether an attempt that has ended is followed by another one, and when.

Delays grow exponentially, with full jitter: uniform in [0, min(max_delay, initial_delay * 2^(attempt-1))],
so that what failed together does not come back together. A server that says when to come (`Retry-After`,
RFC 9110 §10.2.3) is given that time, up to `max_delay`.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, StrictInt, model_validator

from cronexec.domain.instants import later, whole_milliseconds
from cronexec.domain.model import DocumentModel, Length
from cronexec.domain.problems import expected, problem
from cronexec.domain.run import Outcome, RunState

MOST_ATTEMPTS = 100
FIRST_STATUS, LAST_STATUS = 100, 599
_MOST_LISTED = 64
_CLASSES = ["1xx", "2xx", "3xx", "4xx", "5xx"]


def _check_status(given: Any) -> Any:
    is_code = isinstance(given, int) and not isinstance(given, bool)
    if (is_code and FIRST_STATUS <= given <= LAST_STATUS) or given in _CLASSES:
        return given
    raise problem(expected('an HTTP status such as 503, or a class of them such as "5xx"', given))


def _check_exception(name: str) -> str:
    if all(part.isidentifier() for part in name.split(".")):
        return name
    raise problem(expected('the name of an exception, such as "TimeoutError" or "httpx.ReadTimeout"', name))


Status = Annotated[
    int | str,
    BeforeValidator(_check_status),
    Field(json_schema_extra={"examples": [503, "5xx"]}),
]
ExitCode = Annotated[StrictInt, Field(ge=-64, le=255)]
ExceptionName = Annotated[str, AfterValidator(_check_exception)]
_Some = Field(max_length=_MOST_LISTED)


class RetryWhen(DocumentModel):
    """Which ends of an attempt are retried; what is not named is not.

    `timeout`: no end within the job's timeout. `statuses`: of a webhook; `exit_codes`: of a command
    (negative: the signal that ended it). `exceptions`: of a handler, by class, qualified or not; a base class
    will do. `errors`: whatever failed without one of these: no connection, say.
    """

    timeout: StrictBool = False
    statuses: Annotated[tuple[Status, ...], _Some] = ()
    exit_codes: Annotated[tuple[ExitCode, ...], _Some] = ()
    exceptions: Annotated[tuple[ExceptionName, ...], _Some] = ()
    errors: StrictBool = False

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if not any((self.timeout, self.statuses, self.exit_codes, self.exceptions, self.errors)):
            raise problem("it names nothing that is retried; leave `when` out to retry whatever fails")
        return self

    def includes(self, outcome: Outcome) -> bool:
        """Whether an attempt that ended so is retried. It failed or timed out."""
        if outcome.state is RunState.TIMED_OUT:
            return self.timeout
        if outcome.status is not None:
            return outcome.status in self.statuses or f"{outcome.status // 100}xx" in self.statuses
        if outcome.exit_code is not None:
            return outcome.exit_code in self.exit_codes
        if outcome.exceptions:
            return self._names_one_of(outcome.exceptions)
        return self.errors

    def _names_one_of(self, exceptions: Iterable[str]) -> bool:
        short = (name.rpartition(".")[2] for name in exceptions)
        return not {*exceptions, *short}.isdisjoint(self.exceptions)


class Retry(DocumentModel):
    """How often, and when, a run is tried again.

    `max_attempts`: the first one included. `when`: which failures; left out, every one, timeouts included. A
    cancelled attempt is never followed by another.
    """

    max_attempts: Annotated[StrictInt, Field(ge=1, le=MOST_ATTEMPTS)] = 3
    initial_delay: Annotated[Length, Field(json_schema_extra={"default": "5s"})] = timedelta(seconds=5)
    max_delay: Annotated[Length, Field(json_schema_extra={"default": "5m"})] = timedelta(minutes=5)
    when: RetryWhen | None = None

    @model_validator(mode="after")
    def _delays_in_order(self) -> Self:
        if "max_delay" in self.model_fields_set and self.initial_delay > self.max_delay:
            raise problem("initial_delay is longer than max_delay; swap them, or leave one out")
        return self

    def next_at(self, attempt: int, outcome: Outcome, ended_at: datetime, chance: float) -> datetime | None:
        """Return when the attempt after `attempt` may start, None if there is none; `chance` is in [0, 1)."""
        if attempt >= self.max_attempts or outcome.state not in (RunState.FAILED, RunState.TIMED_OUT):
            return None
        if self.when is not None and not self.when.includes(outcome):
            return None
        growth = 2 ** min(attempt - 1, 30)
        has_grown = self.initial_delay > self.max_delay / growth  # the product may be too long to count
        longest = self.max_delay if has_grown else self.initial_delay * growth
        asked = min(outcome.retry_after or timedelta(0), self.max_delay)
        return whole_milliseconds(later(ended_at, max(longest * chance, asked)))
