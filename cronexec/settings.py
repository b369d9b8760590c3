"""Settings: parsed once, cross-checked, and refused with a sentence that says what to do.

They come from four places, each stronger than the one before: defaults, a TOML file, `CRONEXEC_…` variables,
and what the caller of `Settings.load` gives. Every variable but those that are paths themselves has a `_FILE`
twin, which names a file with the value, as mounted secrets are. Nothing else in cronexec reads the
environment for settings, and this module only in `load`.

An unknown key in the file is an error. In the environment it is a warning (Kubernetes injects `CRONEXEC_PORT`
for a Service of that name), unless it is nearly a known name. Passwords are in none of the errors and not in
`repr`.
"""

import os
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from cronexec.domain.model import read_length, read_positive_length
from cronexec.domain.problems import expected, invalid_document, problem
from cronexec.domain.redaction import redact_url
from cronexec.errors import SettingsError
from cronexec.settings_sources import Given, read_environment, read_file

__all__ = ["Settings", "redact_url"]

DEFAULT_DATABASE = "cronexec"

_MONGO_URL = re.compile(r"mongodb(?:\+srv)?://[^/?]+(?:/(?P<database>[^?/]*))?(?:\?.*)?")
_WORDS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:]+\]|[^\s:]*):\d{1,5}")
_LAST_PORT = 65535
_SHORTEST_LEASE = timedelta(seconds=2)
_LONGEST_RENEWAL = timedelta(minutes=15)
_LONGEST_HEARTBEAT = timedelta(seconds=65535)


def _read_urls(given: Any) -> Any:
    return tuple(url.strip() for url in given.split(",") if url.strip()) if isinstance(given, str) else given


def _check_amqp_urls(urls: tuple[str, ...]) -> tuple[str, ...]:
    if not urls or not all(_is_url(url, ("amqp", "amqps")) for url in urls):
        raise problem(
            "expected amqp://USER:PASSWORD@HOST:PORT/VHOST, or amqps://; several are separated by commas"
        )
    return urls


def _check_mongo_url(url: str) -> str:
    if not _MONGO_URL.fullmatch(url):
        raise problem("expected mongodb://USER:PASSWORD@HOST:PORT/DATABASE, or mongodb+srv://")
    return url


def _check_management_url(url: str) -> str:
    if not _is_url(url, ("http", "https")):
        raise problem("expected http://USER:PASSWORD@HOST:15672, or https://")
    return url


def _check_callback_url(url: str) -> str:
    if not _is_url(url, ("http", "https")) or urlsplit(url).query or urlsplit(url).fragment:
        raise problem("expected http://HOST:PORT, or https://, where this very instance can be reached")
    return url


def _check_address(address: str) -> str:
    if not _ADDRESS.fullmatch(address) or not 0 < int(address.rpartition(":")[2]) <= _LAST_PORT:
        raise problem(expected("an address to listen at, such as 0.0.0.0:8090", address))
    return address


def _is_url(url: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in schemes and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _read_flag(given: Any) -> Any:
    flag = _WORDS.get(given.strip().lower()) if isinstance(given, str) else given
    if not isinstance(flag, bool):
        raise problem(expected("true or false", given))
    return flag


def _read_heartbeat(given: Any) -> timedelta:
    length = read_length(given)
    if not timedelta(seconds=1) <= length <= _LONGEST_HEARTBEAT or length % timedelta(seconds=1):
        raise problem(expected("whole seconds, from 1s on", given))
    return length


def _check_namespace(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9._-]{1,64}", name):
        raise problem(expected("1 to 64 of a-z 0-9 . _ -", name))
    return name


def _check_label(text: str) -> str:
    if not re.fullmatch(r"[!-~]{1,128}", text):
        raise problem(expected("1 to 128 visible ASCII characters", text))
    return text


_Length = Annotated[timedelta, BeforeValidator(read_length)]
_PositiveLength = Annotated[timedelta, BeforeValidator(read_positive_length)]
_Flag = Annotated[bool, BeforeValidator(_read_flag)]
_Label = Annotated[str, AfterValidator(_check_label)]
_Limit = Annotated[int, Field(ge=1, le=100_000)]


class Settings(BaseModel):
    """The settings of one instance. Lengths are timedeltas.

    `instance` None: made of host and process at start. `candidate` False: sends commands and reads, and never
    competes for the baton. `warnings`: what was odd in the environment, for the caller to log.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    amqp_urls: Annotated[tuple[str, ...], BeforeValidator(_read_urls), AfterValidator(_check_amqp_urls)] = (
        "amqp://guest:guest@localhost:5672/",
    )
    amqp_ca_file: Path | None = None
    amqp_cert_file: Path | None = None
    amqp_key_file: Path | None = None
    mongo_url: Annotated[str, AfterValidator(_check_mongo_url)] = "mongodb://localhost:27017/cronexec"
    management_url: Annotated[str, AfterValidator(_check_management_url)] | None = None
    namespace: Annotated[str, AfterValidator(_check_namespace)] = "cronexec"
    instance: _Label | None = None
    datacenter: _Label = "default"
    callback_url: Annotated[str, AfterValidator(_check_callback_url)] | None = None
    callback_listen: Annotated[str, AfterValidator(_check_address)] | None = None
    candidate: _Flag = True
    allow_shell: _Flag = False
    heartbeat: Annotated[timedelta, BeforeValidator(_read_heartbeat)] = timedelta(seconds=10)
    baton_queue_type: Literal["quorum", "classic"] = "quorum"
    baton_renew_interval: _PositiveLength = timedelta(minutes=5)
    baton_lost_after: _PositiveLength = timedelta(seconds=15)
    lease: _PositiveLength = timedelta(seconds=10)
    instance_lost_after: _PositiveLength = timedelta(seconds=60)
    catch_up_rate: _Limit = 50
    shutdown_grace: _Length = timedelta(seconds=25)
    retention: _PositiveLength = timedelta(days=30)
    max_running_handlers: _Limit = 32
    max_running_async_handlers: _Limit = 1000
    max_running_processes: _Limit = 8
    max_running_shell: _Limit = 32
    max_running_webhooks: _Limit = 256
    max_running_publishes: _Limit = 256
    secrets_dir: Path | None = None
    log_format: Literal["console", "json", "auto"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    warnings: tuple[str, ...] = Field(default=(), repr=False)

    @classmethod
    def load(
        cls, file: Path | None = None, environ: Mapping[str, str] = os.environ, **overrides: Any
    ) -> Self:
        """Read the settings from all four places.

        `file`: where None, `CRONEXEC_CONFIG` names it. `overrides`: by field; None is not given. Raises
        SettingsError with every wrong setting, each by the name under which it was given.
        """
        path = file or (Path(environ["CRONEXEC_CONFIG"]) if environ.get("CRONEXEC_CONFIG") else None)
        given = Given(known=tuple(name for name in cls.model_fields if name != "warnings"))
        if path is not None:
            read_file(path, given)
        read_environment(environ, given)
        for name, value in overrides.items():
            if value is not None:
                given.add(name, value, origin=name)
        return cls._build(given)

    @classmethod
    def _build(cls, given: Given) -> Self:
        values = {name: value for name, value in given.values.items() if name in cls.model_fields}
        try:
            settings = cls.model_validate({**values, "warnings": tuple(given.warnings)})
        except ValidationError as error:
            found = [given.tell(each) for each in invalid_document(error, cls).problems]
            raise SettingsError("; ".join([*given.problems, *found])) from None
        if given.problems:
            raise SettingsError("; ".join(given.problems))
        return settings

    @property
    def mongo_database(self) -> str:
        """The database that the URL names."""
        match = _MONGO_URL.fullmatch(self.mongo_url)
        return unquote((match and match["database"]) or DEFAULT_DATABASE)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, _redact(value) if name in {"amqp_urls", "mongo_url", "management_url"} else value

    @model_validator(mode="after")
    def _cross_check(self) -> Self:
        wrong = [*_judge_lengths(self), *_judge_tls(self), *_judge_callbacks(self)]
        if wrong:
            raise problem("; ".join(wrong))
        return self


def _redact(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(redact_url(url) for url in value)
    return redact_url(value) if isinstance(value, str) else value


def _judge_lengths(settings: Settings) -> Iterator[str]:
    if settings.lease < _SHORTEST_LEASE:
        yield "lease is below 2s, and an idle holder writes once a second: make it 2s or more"
    if settings.lease >= settings.baton_lost_after:
        yield (
            "baton_lost_after must be longer than lease, or standbys take a holder for lost that "
            "still holds: make it at least half as long again"
        )
    if settings.baton_lost_after >= settings.instance_lost_after:
        yield (
            "instance_lost_after must be longer than baton_lost_after, or runs are abandoned by a holder "
            "that is itself about to be replaced: make it at least twice as long"
        )
    if settings.baton_renew_interval > _LONGEST_RENEWAL:
        yield (
            "baton_renew_interval is above 15m, and RabbitMQ closes channels whose deliveries are "
            "unacknowledged for 30 minutes: make it 15m or less"
        )
    if settings.retention <= settings.instance_lost_after:
        yield "retention must be longer than instance_lost_after: make it days"


def _judge_callbacks(settings: Settings) -> Iterator[str]:
    if (settings.callback_url is None) != (settings.callback_listen is None):
        yield "callback_url and callback_listen belong together: give both or none"


def _judge_tls(settings: Settings) -> Iterator[str]:
    if (settings.amqp_cert_file is None) != (settings.amqp_key_file is None):
        yield "amqp_cert_file and amqp_key_file belong together: give both or none"
    files = (settings.amqp_ca_file, settings.amqp_cert_file, settings.amqp_key_file)
    if any(files) and not any(url.startswith("amqps:") for url in settings.amqp_urls):
        yield "amqp_ca_file, amqp_cert_file and amqp_key_file are for TLS: begin the URL with amqps://"
