"""Targets as job documents define them: what a run does.

Here is what can be judged from the document alone. Whether a host exists, a command is installed, a handler
is registered or an exchange is there depends on the instance that executes the run, which says so in the
run's outcome. `{{ … }}` templates and `${secret:NAME}` are kept as written, and resolved where the run
executes; a placeholder that no run will know is refused, where placeholders are filled in at all (not in a
shell's `command`, where `{{ }}` belongs to other tools).
"""

import re
from datetime import timedelta
from typing import Annotated, ClassVar, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)

from cronexec.domain.json_values import NO_FIELDS, JsonObject, JsonValue
from cronexec.domain.model import NO_TEXTS, TEXT_MAP_SCHEMA, DocumentModel, Length, text_map
from cronexec.domain.problems import expected, problem, problems, show
from cronexec.domain.redaction import redact_url
from cronexec.domain.template import check_template, placeholders, wrong_names
from cronexec.errors import FieldProblem

IDENTITY_HEADERS = (
    "Idempotency-Key",
    "X-Cronexec-Job",
    "X-Cronexec-Slot",
    "X-Cronexec-Attempt",
    "X-Cronexec-Epoch",
    "X-Cronexec-Callback",
    "X-Cronexec-Callback-Token",
)
SIGNATURE_HEADERS = ("Webhook-Id", "Webhook-Timestamp", "Webhook-Signature")
IDENTITY_VARIABLES = (
    "CRONEXEC_JOB",
    "CRONEXEC_SLOT",
    "CRONEXEC_RUN_ID",
    "CRONEXEC_ATTEMPT",
    "CRONEXEC_EPOCH",
    "CRONEXEC_PARAMS",
    "CRONEXEC_PROGRESS",
)

T = TypeVar("T")

_URL = re.compile(r"https?://[^\s/?#]+\S*", re.IGNORECASE)
_REFERENCE = re.compile(r"\$\{[^}$]*\}")
_SECRET = re.compile(r"\$\{secret:([A-Za-z0-9_]+)\}")
_ONLY_REFERENCES = (
    'expected a reference such as "${secret:NAME}"; the secret itself does not belong in a document, '
    "and is not shown here"
)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2, token
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HANDLER_NAME = r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}"
_STATUS_RANGE = r"[1-5]xx"
_STATUSES = range(100, 600)
_SHORT_TEXT = 255  # bytes, of a short string in AMQP 0-9-1
_REFERENCE_SCHEMA = {"type": "string", "pattern": f"^{_SECRET.pattern}$"}


def _check_url(url: str) -> str:
    # A placeholder may stand for the host or the port as well; people write it with spaces.
    filled = _REFERENCE.sub("0", _fill_in(url))
    if not _URL.fullmatch(filled):
        raise problem(expected('a URL such as "https://host/path"', redact_url(url)))
    try:
        _ = urlsplit(filled).port
    except ValueError:
        raise problem(f"no URL: {show(redact_url(url))} has a wrong host or port") from None
    return url


def _fill_in(url: str) -> str:
    parts, done = [], 0
    for begin, end in placeholders(url):
        parts += [url[done:begin], "0"]
        done = end
    return "".join([*parts, url[done:]])


def _check_placeholders(value: T) -> T:
    if found := check_template(value):
        raise problems(found)
    return value


def _judge_header(name: str, value: str) -> str | None:
    if not _HEADER_NAME.fullmatch(name):
        return f"expected a header's name; got {show(name)}"
    if "\r" in value or "\n" in value:
        return f"expected a value without line breaks; got {show(value)}"
    if name.title() in IDENTITY_HEADERS:
        return "set by cronexec to identify the run; leave it out"
    return next(wrong_names(value), None)


def _judge_variable(name: str, value: str) -> str | None:
    if not _VARIABLE_NAME.fullmatch(name):
        return f"expected a variable's name of letters, digits and _; got {show(name)}"
    if name in IDENTITY_VARIABLES:
        return "set by cronexec to identify the run; leave it out"
    return next(wrong_names(value), None)


def _read_status(given: object) -> int | str:
    if isinstance(given, int) and not isinstance(given, bool) and given in _STATUSES:
        return given
    if isinstance(given, str) and re.fullmatch(_STATUS_RANGE, given):
        return given
    raise problem(expected('a status from 100 to 599 or a range such as "2xx"', given))


def _refuse_no_status(given: object) -> object:
    if given in ([], ()):
        raise problem("expected at least one status; got an empty list")
    return given


def _read_secrets(given: object) -> object:
    """Return references as a tuple; what is none is not shown: it may be the secret itself."""
    found = (given,) if isinstance(given, str) else given
    if not isinstance(found, list | tuple) or not found:
        raise problem('expected "${secret:NAME}", or a list of such references while one replaces another')
    wrong = [
        FieldProblem(f"[{index}]" if found is given else "", _ONLY_REFERENCES)
        for index, each in enumerate(found)
        if not (isinstance(each, str) and _SECRET.fullmatch(each))
    ]
    if wrong:
        raise problems(wrong)
    return tuple(found)


def _write_secrets(secrets: tuple[str, ...]) -> str | list[str]:
    return secrets[0] if len(secrets) == 1 else list(secrets)


def _check_command(command: str) -> str:
    if not command.strip() or "\0" in command:
        raise problem(expected("a command for the shell", command))
    return command


def _check_directory(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise problem(expected('an absolute path such as "/srv/app"', path))
    return path


def _check_handler(name: str) -> str:
    if not re.fullmatch(_HANDLER_NAME, name):
        raise problem(expected("a handler's name: 1 to 128 letters, digits and . _ : -", name))
    return name


def _check_short(text: str) -> str:
    if len(text.encode(errors="replace")) > _SHORT_TEXT:
        raise problem(expected(f"at most {_SHORT_TEXT} bytes", text))
    return text


Status = Annotated[
    int | str,
    BeforeValidator(_read_status),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": _STATUSES.start, "maximum": _STATUSES.stop - 1},
                {"type": "string", "pattern": f"^{_STATUS_RANGE}$"},
            ]
        }
    ),
]
Headers = Annotated[dict[str, str], text_map(_judge_header), TEXT_MAP_SCHEMA]
Environment = Annotated[dict[str, str], text_map(_judge_variable), TEXT_MAP_SCHEMA]
Secrets = Annotated[
    tuple[str, ...],
    BeforeValidator(_read_secrets),
    PlainSerializer(_write_secrets),
    WithJsonSchema(
        {
            "anyOf": [_REFERENCE_SCHEMA, {"type": "array", "items": _REFERENCE_SCHEMA, "minItems": 1}],
            "examples": ["${secret:GAMES_WEBHOOK}"],
        }
    ),
]
FILLED_IN = AfterValidator(_check_placeholders)
ShortText = Annotated[str, AfterValidator(_check_short), FILLED_IN]


class TargetModel(DocumentModel):
    """What all targets have in common: `type` says which one it is."""

    types_not_yet: ClassVar[frozenset[str]] = frozenset()


class WebhookTarget(TargetModel):
    """An HTTP request. `expect`: the statuses that mean success, each a number or a range such as "2xx".

    `secret`: references to the secrets that sign it as Standard Webhooks says; () for none. `wait`: with
    `callback`, an answer of 202 means that it is not over: the receiver says later how it ended.
    """

    fields_not_yet: ClassVar[frozenset[str]] = frozenset({"sign", "signature", "auth", "tls", "verify"})

    type: Literal["webhook"] = "webhook"
    url: Annotated[
        str,
        AfterValidator(_check_url),
        FILLED_IN,
        Field(json_schema_extra={"pattern": "^[Hh][Tt][Tt][Pp][Ss]?://"}),
    ]
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "POST"
    headers: Headers = NO_TEXTS
    body: Annotated[JsonValue, FILLED_IN] = None
    expect: Annotated[
        tuple[Status, ...], BeforeValidator(_refuse_no_status), Field(json_schema_extra={"minItems": 1})
    ] = ("2xx",)
    secret: Secrets = ()
    wait: Literal["answer", "callback"] = "answer"

    @model_validator(mode="after")
    def _refuse_own_signature(self) -> Self:
        own = [name for name in self.headers if name.title() in SIGNATURE_HEADERS] if self.secret else []
        if own:
            message = "set by cronexec to sign the request; leave it out"
            raise problems([FieldProblem(f"headers.{name}", message) for name in own])
        return self

    @property
    def secret_names(self) -> tuple[str, ...]:
        """The names of the secrets that sign the request."""
        return tuple(match[1] for each in self.secret if (match := _SECRET.fullmatch(each)))

    def expects(self, status: int) -> bool:
        """Whether an answer with this HTTP status is a success."""
        return status in self.expect or f"{status // 100}xx" in self.expect


class ShellTarget(TargetModel):
    """A command for `/bin/sh -c`. `kill_after`: from SIGTERM to SIGKILL when it is to end."""

    fields_not_yet: ClassVar[frozenset[str]] = frozenset({"user", "shell", "stdin"})

    type: Literal["shell"] = "shell"
    command: Annotated[str, AfterValidator(_check_command)]
    env: Environment = NO_TEXTS
    cwd: Annotated[str, AfterValidator(_check_directory)] | None = None
    kill_after: Annotated[Length, Field(json_schema_extra={"default": "10s"})] = timedelta(seconds=10)


class HandlerTarget(TargetModel):
    """A Python callable that the application registered under this name.

    `isolation`: "process" for one of its own, which can be ended whatever the function does;
    `kill_after`: from SIGTERM to SIGKILL then.
    """

    type: Literal["handler"] = "handler"
    name: Annotated[
        str, AfterValidator(_check_handler), Field(json_schema_extra={"pattern": f"^{_HANDLER_NAME}$"})
    ]
    isolation: Literal["process"] | None = None
    kill_after: Annotated[Length, Field(json_schema_extra={"default": "10s"})] = timedelta(seconds=10)

    @model_validator(mode="after")
    def _refuse_kill_after(self) -> Self:
        if "kill_after" in self.model_fields_set and self.isolation is None:
            message = "only a process can be killed: it goes with isolation: process"
            raise problems([FieldProblem("kill_after", message)])
        return self


class PublishTarget(TargetModel):
    """An AMQP message. With the exchange "" the routing key is the queue's name."""

    type: Literal["publish"] = "publish"
    exchange: ShortText = ""
    routing_key: ShortText = ""
    body: Annotated[JsonValue, FILLED_IN] = None
    headers: Annotated[JsonObject, FILLED_IN] = NO_FIELDS

    @model_validator(mode="after")
    def _refuse_nowhere(self) -> Self:
        if not self.exchange and not self.routing_key:
            raise problems(
                [FieldProblem("routing_key", "required with the default exchange: the name of a queue")]
            )
        return self


Target = Annotated[WebhookTarget | ShellTarget | HandlerTarget | PublishTarget, Field(discriminator="type")]
