"""What a job document says about runs that overlap, slots that were missed, and runs that were abandoned.

`overlap` is text where nothing but the policy is said, and an object otherwise; both are written back as
short as they can be:

| policy | active at most | waiting at most | beyond that |
|---|---|---|---|
| `queue` | 1 | `queue_limit` (1) | skipped |
| `skip` | 1 | none | skipped |
| `allow` | `max_running` (as many as there are) | `queue_limit` (1) | skipped |
| `replace` | 1 | 1: the newest | it replaces what is active and what waits |

The decisions themselves are in `domain.policy`, `domain.places` and `domain.replacement`.
"""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import (
    BeforeValidator,
    Field,
    StrictInt,
    WithJsonSchema,
    model_serializer,
    model_validator,
)

from cronexec.domain.model import DocumentModel, Length, PositiveLength
from cronexec.domain.problems import expected, expected_one_of, problem, problems
from cronexec.errors import FieldProblem

MAX_MISFIRE_LIMIT = 100_000
MOST_WAITING = 100_000
MOST_RUNNING = 100_000
QUEUE_LIMIT = 1


class OverlapPolicy(StrEnum):
    """What happens to a slot that comes due while earlier runs of the job are unsettled."""

    QUEUE = "queue"
    SKIP = "skip"
    ALLOW = "allow"
    REPLACE = "replace"


class Overlap(DocumentModel):
    """How many runs of a job may be active at once, and how many live slots wait for them.

    `queue_limit`: of `queue`, and of `allow` with `max_running`. Missed slots that are caught up wait in a
    line of their own, no longer than the misfire policy wants at once.
    """

    policy: OverlapPolicy = OverlapPolicy.QUEUE
    queue_limit: Annotated[StrictInt, Field(ge=0, le=MOST_WAITING)] = QUEUE_LIMIT
    max_running: Annotated[StrictInt, Field(ge=1, le=MOST_RUNNING)] | None = None

    @cached_property
    def most_active(self) -> int | None:
        """How many runs may be active at once; None where that is not limited."""
        return self.max_running if self.policy is OverlapPolicy.ALLOW else 1

    @cached_property
    def replaces(self) -> bool:
        """Whether a newer run ends the others."""
        return self.policy is OverlapPolicy.REPLACE

    @model_validator(mode="after")
    def _fits_its_policy(self) -> Self:
        policy, found = self.policy, []
        if self.max_running is not None and policy is not OverlapPolicy.ALLOW:
            found.append(FieldProblem("max_running", f"{policy.value!r} runs one at a time; leave it out"))
        if "queue_limit" in self.model_fields_set:
            if policy is OverlapPolicy.ALLOW and self.max_running is None:
                found.append(
                    FieldProblem("queue_limit", "nothing waits without 'max_running'; give that too")
                )
            elif policy in (OverlapPolicy.SKIP, OverlapPolicy.REPLACE):
                found.append(
                    FieldProblem("queue_limit", f"no line forms under {policy.value!r}; leave it out")
                )
        if found:
            raise problems(found)
        return self

    @model_serializer(mode="plain")
    def _write(self) -> Any:
        said: dict[str, Any] = {}
        if self.queue_limit != QUEUE_LIMIT:
            said["queue_limit"] = self.queue_limit
        if self.max_running is not None:
            said["max_running"] = self.max_running
        return {"policy": self.policy.value, **said} if said else self.policy.value


def _read_overlap(given: Any) -> Any:
    if isinstance(given, (Overlap, Mapping)):
        return given
    words = [policy.value for policy in OverlapPolicy]
    if not isinstance(given, str):
        accepted = f'one of {", ".join(words)}, or an object such as {{"policy": "queue", "queue_limit": 3}}'
        raise problem(expected(accepted, given))
    if given not in words:
        raise problem(expected_one_of(words, given))
    return {"policy": given}


_POLICY_SCHEMA: dict[str, Any] = {"type": "string", "enum": [policy.value for policy in OverlapPolicy]}
_OVERLAP_SCHEMA: dict[str, Any] = {
    "anyOf": [
        _POLICY_SCHEMA,
        {
            "type": "object",
            "properties": {
                "policy": _POLICY_SCHEMA,
                "queue_limit": {"type": "integer", "minimum": 0, "maximum": MOST_WAITING},
                "max_running": {"type": "integer", "minimum": 1, "maximum": MOST_RUNNING},
            },
            "additionalProperties": False,
        },
    ],
    "default": OverlapPolicy.QUEUE.value,
    "examples": ["queue", {"policy": "allow", "max_running": 5}],
}
OverlapField = Annotated[Overlap, BeforeValidator(_read_overlap), WithJsonSchema(_OVERLAP_SCHEMA)]


class MisfirePolicy(StrEnum):
    """Which of the slots found later than their grace are run."""

    LATEST = "latest"
    ALL = "all"
    SKIP = "skip"


class Misfire(DocumentModel):
    """What happens to missed slots.

    `limit`: at most so many of the newest are run under `all`. `window`: what is older than that is not run,
    under `latest` neither.
    """

    policy: MisfirePolicy = MisfirePolicy.LATEST
    grace: Annotated[Length, Field(json_schema_extra={"default": "1m"})] = timedelta(seconds=60)
    limit: Annotated[StrictInt, Field(ge=1, le=MAX_MISFIRE_LIMIT)] = 100
    window: PositiveLength | None = None

    @model_validator(mode="after")
    def _window_beyond_grace(self) -> Self:
        if self.window is not None and self.window <= self.grace:
            message = "it is no longer than the grace, within which nothing is missed; make it longer"
            raise problems([FieldProblem("window", message)])
        return self


class Abandoned(StrEnum):
    """What becomes of a run whose instance vanished before it recorded an outcome.

    `ask`: it stays open, and keeps its place, until a person retries or resolves it.
    """

    FAIL = "fail"
    RETRY = "retry"
    ASK = "ask"
