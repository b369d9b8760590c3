"""Jobs: the document that a user writes, and the job that the namespace keeps.

A document is validated whole: `JobDocument.parse` reports every wrong field in one go. What it returns is a
value, whose canonical form (`to_document`) is what is stored, compared and shown: fields at their default are
left out, lengths and instants are written one way. Fields that are not built yet are refused by name, never
ignored.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from cronexec.domain.document_schema import publish_schema
from cronexec.domain.duration import format_duration
from cronexec.domain.job_state import Blackout, Pause, Skip, SkippedOnce
from cronexec.domain.json_values import NO_FIELDS, JsonObject, canonical_json
from cronexec.domain.model import NO_TEXTS, DocumentModel, Length, PositiveLength, TextMap
from cronexec.domain.params import ParamsSchemaField, fill_in
from cronexec.domain.policies import (
    Abandoned,
    Misfire,
    MisfirePolicy,
    Overlap,
    OverlapField,
    OverlapPolicy,
)
from cronexec.domain.problems import expected, invalid_document, problem, problems
from cronexec.domain.retry import Retry
from cronexec.domain.run import SkipReason
from cronexec.domain.schedule import Schedule
from cronexec.domain.schedule_field import FIELDS as SCHEDULE_FIELDS
from cronexec.domain.schedule_field import ScheduleField
from cronexec.domain.targets import HandlerTarget, PublishTarget, ShellTarget, Target, WebhookTarget
from cronexec.domain.template import texts
from cronexec.errors import FieldProblem

__all__ = [
    "Abandoned",
    "HandlerTarget",
    "Job",
    "JobDocument",
    "JobName",
    "JobVersion",
    "Misfire",
    "MisfirePolicy",
    "Overlap",
    "OverlapPolicy",
    "Pause",
    "PublishTarget",
    "Retry",
    "Schedule",
    "ShellTarget",
    "Target",
    "WebhookTarget",
    "job_schema",
]

JOB_NAME = r"[a-z0-9][a-z0-9._-]{0,127}"
MAX_DOCUMENT_BYTES = 64 * 1024
READ_FROM = "read_from"  # in a validation's context: bytes of JSON
_LONGER_AT_MOST = 6  # times, written as the size is measured: DEL takes one byte, and six as \u007f

_DEFAULT_TIMEOUTS = {"webhook": timedelta(seconds=60), "publish": timedelta(seconds=60)}
_REFERENCE = re.compile(r"\$\{secret:[^}$]*\}")
_RESOLVED_IN_TARGETS = (
    "secrets are not resolved in params, which are stored and shown; got {secret}; write it where the target "
    "needs it (a webhook's url, headers or body, a shell's command or env, a publish's fields)"
)


def check_job_name(name: str) -> str:
    """Return `name` if it is one a job may have; for validators."""
    if not re.fullmatch(JOB_NAME, name):
        raise problem(expected("1 to 128 of a-z 0-9 . _ -, beginning with a letter or digit", name))
    return name


def _check_one_shot(length: timedelta, info: ValidationInfo) -> timedelta:
    schedule: Schedule | None = info.data.get("schedule")
    if schedule is not None and schedule.instant is None:
        raise problem("only a job whose schedule is a single instant (at) is done some day; leave it out")
    return length


def _refuse_secrets(params: Mapping[str, Any]) -> Mapping[str, Any]:
    found = [
        FieldProblem(path, _RESOLVED_IN_TARGETS.format(secret=secret))
        for path, text in texts(params)
        for secret in _REFERENCE.findall(text)
    ]
    if found:
        raise problems(found)
    return params


JobName = Annotated[
    str, AfterValidator(check_job_name), Field(json_schema_extra={"pattern": f"^{JOB_NAME}$"})
]


class JobDocument(DocumentModel):
    """What a user defines: a schedule, a target and policies.

    `timeout` is of an attempt; left out, it is 60 s for `webhook` and `publish`, and none (None) for `shell`
    and `handler`. `expected`: an attempt that takes longer is reported (`run.overrun`), and goes on.
    `delete_after`: a job with a single instant is deleted so long after its run has settled.
    """

    fields_not_yet: ClassVar[frozenset[str]] = frozenset(
        {
            "after",
            "gate",
            "gates",
            "notify",
            "run_on",
        }
    )
    ignorable_fields: ClassVar[frozenset[str]] = frozenset({"expected"})  # of those that are new
    homes: ClassVar[Mapping[str, str]] = (
        dict.fromkeys((*SCHEDULE_FIELDS, "calendar"), "schedule")
        | dict.fromkeys(("grace", "limit", "policy", "window"), "misfire")
        | dict.fromkeys(("queue_limit", "max_running"), "overlap")
        | dict.fromkeys(("max_attempts", "initial_delay", "max_delay"), "retry")
        | dict.fromkeys(("url", "method", "headers", "body", "expect"), "target")
        | dict.fromkeys(("command", "env", "cwd", "kill_after", "exchange", "routing_key", "type"), "target")
        | dict.fromkeys(("isolation", "secret"), "target")
    )

    name: JobName
    description: str = ""
    owner: str = ""
    labels: TextMap = NO_TEXTS
    schedule: ScheduleField
    target: Target
    params_schema: ParamsSchemaField | None = None
    params: Annotated[
        JsonObject, AfterValidator(fill_in), AfterValidator(_refuse_secrets), Field(validate_default=True)
    ] = NO_FIELDS
    timeout: PositiveLength | None = None
    expected: PositiveLength | None = None
    overlap: OverlapField = Overlap()
    misfire: Misfire = Misfire()
    retry: Retry | None = None
    abandoned: Abandoned = Abandoned.FAIL
    delete_after: Annotated[Length, AfterValidator(_check_one_shot)] | None = None

    _unknown: Mapping[str, Any] | None = PrivateAttr(default=None)

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        """Validate `document`. Raises InvalidDocumentError with every wrong field of it."""
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise invalid_document(error, cls) from None

    @classmethod
    def parse_stored(cls, document: Mapping[str, Any], ignorable: Collection[str] = ()) -> Self:
        """Validate a document that a release, perhaps a newer one, has stored.

        `ignorable`: fields that it marked as having no say in whether, when and what is run. Those of them
        that this release does not know stay in the document, unread. Raises as `parse`.
        """
        unknown = {name: document[name] for name in ignorable if name in document.keys() - cls.model_fields}
        parsed = cls.parse({name: value for name, value in document.items() if name not in unknown})
        if unknown:
            parsed._unknown = unknown  # noqa: SLF001  it is its own
        return parsed

    @property
    def unknown_fields(self) -> Collection[str]:
        """The fields of a newer release, which are kept and have no effect here."""
        return sorted(self._unknown or ())

    @property
    def ignorable(self) -> list[str]:
        """Those of its fields without which a release that does not know them may carry the job out."""
        return sorted((self.model_fields_set & self.ignorable_fields) | (self._unknown or {}).keys())

    @model_validator(mode="before")
    @classmethod
    def _prepare(cls, given: Any, info: ValidationInfo) -> Any:
        if not isinstance(given, Mapping):
            return given
        if not _is_surely_short(info):
            _check_size(given)
        return _with_default_timeout(given)

    @model_validator(mode="after")
    def _check_expected(self) -> Self:
        if self.expected is not None and self.timeout is not None and self.expected >= self.timeout:
            lengths = f"expected is {format_duration(self.expected)}, timeout {format_duration(self.timeout)}"
            raise problems([FieldProblem("expected", f"has to be below timeout: {lengths}")])
        return self

    def to_document(self) -> dict[str, Any]:
        """Return the canonical document: JSON-able, without what is at its default.

        `parse` makes an equal document of it.
        """
        written = self.model_dump(mode="json", exclude_defaults=True, exclude={"target"})
        if self.timeout == _DEFAULT_TIMEOUTS.get(self.target.type):
            written.pop("timeout", None)
        if self.params_schema is not None:
            written["params"] = self.params_schema.without_defaults(self.params)
            if not written["params"]:
                del written["params"]
        return {**written, "target": self.target.to_document(), **(self._unknown or {})}

    def to_json(self) -> str:
        """Return the canonical document as text: equal exactly where two documents mean the same."""
        return canonical_json(self.to_document())


def job_schema() -> dict[str, Any]:
    """Return the JSON Schema of a job document."""
    return publish_schema(JobDocument.model_json_schema(), "cronexec job document")


def _is_surely_short(info: ValidationInfo) -> bool:
    """Whether what the document was read from is so short that the document cannot be too long."""
    read_from = (info.context or {}).get(READ_FROM)
    return read_from is not None and read_from * _LONGER_AT_MOST <= MAX_DOCUMENT_BYTES


def _check_size(given: Mapping[str, Any]) -> None:
    try:
        size = len(json.dumps(given, default=str))
    except (TypeError, ValueError, RecursionError):
        return  # the fields' own validators say where and why
    if size > MAX_DOCUMENT_BYTES:
        raise problem(
            f"a job document has at most {MAX_DOCUMENT_BYTES // 1024} KiB; this one has {size / 1024:.0f} KiB"
        )


def _with_default_timeout(given: Mapping[str, Any]) -> Mapping[str, Any]:
    if given.get("timeout") is not None:
        return given
    target = given.get("target")
    kind = target.get("type") if isinstance(target, Mapping) else getattr(target, "type", None)
    default = _DEFAULT_TIMEOUTS.get(kind) if isinstance(kind, str) else None
    return {**given, "timeout": default}


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A job as the namespace keeps it.

    `version` counts the definitions, `revision` the changes of any job in the namespace. `from_at`: the slots
    after it are this version's. `declared`: in code. `deleted_at`: a tombstone, kept for a while so that
    standbys notice. `skip_next`, `blackouts`: what is skipped besides, by slot and by start.

    `is_selective`: whether anything may skip slots of it while it is not paused.
    """

    document: JobDocument
    version: int
    revision: int
    from_at: datetime
    updated_at: datetime
    issued_by: str | None = None
    declared: bool = False
    paused: Pause | None = None
    deleted_at: datetime | None = None
    skip_next: tuple[SkippedOnce, ...] = ()
    blackouts: tuple[Blackout, ...] = ()
    is_selective: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_selective", self._is_selective())

    @property
    def name(self) -> str:
        return self.document.name

    @property
    def schedule(self) -> Schedule:
        return self.document.schedule

    def _is_selective(self) -> bool:
        return bool(self.skip_next or self.blackouts) or self.document.schedule.has_exclusions

    def paused_at(self, instant: datetime) -> Pause | None:
        """Return the pause that slots after `instant` are in."""
        return self.paused if self.paused is not None and self.paused.lasts_beyond(instant) else None

    def planned_from(self, after: datetime) -> datetime | None:
        """Return from when on slots after `after` are planned: none up to the end of a pause. None: never."""
        if self.deleted_at is not None or (self.paused is not None and self.paused.until_at is None):
            return None
        until_at = self.paused.until_at if self.paused is not None else None
        return max(after, self.from_at, until_at or self.from_at)

    def will_skip(self, slot: datetime) -> Skip | None:
        """Return why `slot`, still to come, will be skipped, as far as is known; None: it will run."""
        if self.paused is not None and (self.paused.until_at is None or slot <= self.paused.until_at):
            return self.paused.skip()
        return self.passes_over(slot)

    def passes_over(self, slot: datetime) -> Skip | None:
        """Return why `slot` is skipped while the job is not paused."""
        found = self.controlled(slot)
        by = self.schedule.excluded(slot) if found is None else None
        return found if by is None else Skip(reason=SkipReason.EXCLUDED, note=by)

    def controlled(self, slot: datetime) -> Skip | None:
        """Return why somebody wants `slot` skipped."""
        once = next((each for each in self.skip_next if each.slot == slot), None)
        if once is not None:
            return once.skip()
        window = next((each for each in self.blackouts if each.covers(slot)), None)
        return window.skip() if window is not None else None


@dataclass(frozen=True, kw_only=True, slots=True)
class JobVersion:
    """One version of a job; its slots are those in (`from_at`, `to_at`].

    `to_at` is None while it is the current version.
    """

    name: str
    version: int
    document: JobDocument
    from_at: datetime
    to_at: datetime | None
    issued_by: str | None = None
