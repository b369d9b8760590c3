"""Where settings come from: a TOML file and the environment, and which names are known there."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cronexec.domain.problems import nearest
from cronexec.errors import FieldProblem, SettingsError

PREFIX = "CRONEXEC_"

_TWIN = "_FILE"
_ALIASES = {"amqp_url": "amqp_urls"}
_PATHS = frozenset({"amqp_ca_file", "amqp_cert_file", "amqp_key_file", "secrets_dir"})
# Not settings: where the file is, the secrets of documents, and what a run is told about itself.
_ELSEWHERE = re.compile(r"CONFIG|SECRET_.+|JOB|SLOT|RUN_ID|ATTEMPT|EPOCH|PARAMS|PROGRESS")
_OF_KUBERNETES = re.compile(
    r"(?:.+_)?(?:PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?)?|SERVICE_(?:HOST|PORT)(?:_\w+)?)"
)


@dataclass(kw_only=True, slots=True)
class Given:
    """What was given so far: values by field, the name that each came under, and what is wrong or odd."""

    known: tuple[str, ...]
    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, name: str, value: Any, *, origin: str) -> None:
        """Take a value, in place of an earlier one; `origin` is the name that its giver knows."""
        key = _ALIASES.get(name, name)
        if key not in self.known:
            self.problems.append(f"unknown setting {origin}{self.hint(name)}")
            return
        self.values[key] = value
        self.origins[key] = origin

    def names(self) -> tuple[str, ...]:
        """Return the names of settings as they are written: `amqp_url`, not `amqp_urls`."""
        written = {key: name for name, key in _ALIASES.items()}
        return tuple(written.get(key, key) for key in self.known)

    def hint(self, name: str) -> str:
        near = nearest(name, self.names())
        return f"; did you mean {near}?" if near else f"; known: {', '.join(self.names())}"

    def tell(self, wrong: FieldProblem) -> str:
        """Return what is wrong, with the setting named as it was given."""
        return (
            f"{self.origins.get(wrong.field, wrong.field)}: {wrong.message}" if wrong.field else wrong.message
        )


def read_file(path: Path, given: Given) -> None:
    """Take the settings of a TOML file. Raises SettingsError where it cannot be read."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"the settings file {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        # Python's message names the place and quotes nothing of the line, which may have a password in it.
        raise SettingsError(f"the settings file {path} is no TOML: {error}") from None
    for name, value in document.items():
        given.add(name, value, origin=f"{name} in {path}")


def read_environment(environ: Mapping[str, str], given: Given) -> None:
    """Take the settings of `CRONEXEC_…` variables and of the files that their `_FILE` twins name."""
    variables = {_variable(name): name for name in given.names()}
    twins = {f"{variable}{_TWIN}": name for variable, name in variables.items() if name not in _PATHS}
    for variable in sorted(environ):
        if not variable.startswith(PREFIX):
            continue
        if variable in variables:
            given.add(variables[variable], environ[variable], origin=variable)
        elif variable in twins:
            _read_twin(variable, twins[variable], environ, given)
        elif not _ELSEWHERE.fullmatch(variable.removeprefix(PREFIX)):
            _judge_unknown(variable, (*variables, *twins), given)


def _variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


def _read_twin(variable: str, name: str, environ: Mapping[str, str], given: Given) -> None:
    if _variable(name) in environ:
        given.problems.append(f"{_variable(name)} and {variable} are both set; keep one of them")
        return
    try:
        value = Path(environ[variable]).read_text(encoding="utf-8").strip()
    except OSError as error:
        given.problems.append(f"{variable}: {environ[variable]} cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        given.problems.append(f"{variable}: {environ[variable]} is not text in UTF-8")
    else:
        given.add(name, value, origin=variable)


def _judge_unknown(variable: str, known: tuple[str, ...], given: Given) -> None:
    name = variable.removeprefix(PREFIX)
    near = nearest(name, [each.removeprefix(PREFIX) for each in known], cutoff=0.8)
    if near and not _OF_KUBERNETES.fullmatch(name):
        given.problems.append(f"unknown setting {variable}; did you mean {PREFIX}{near}?")
    else:
        given.warnings.append(f"the variable {variable} is no setting of cronexec and has no effect")
