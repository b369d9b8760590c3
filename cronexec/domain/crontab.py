r"""Crontabs, read as cron reads them and turned into job documents.

Both formats are known: a user's, and the system's of /etc/crontab and /etc/cron.d, with a column for the
user. Environment lines count for the lines below them, as in cron: `CRON_TZ` becomes the time zone,
`RANDOM_DELAY` (minutes) jitter, `HOME` the directory as well, `SHELL` the shell of the command, the others
its environment. `\%` is a percent sign.

What has no equivalent is named with its line and refused, never dropped: input after an unescaped `%`,
`@reboot`, mail, another user than the instances', the `-` of SUSE that keeps a line out of the log. Missed
and overlapping slots follow the defaults of job documents; cron drops the ones and ignores the others.

A job's name comes from its command, so that the same crontab gives the same names; the second job of that
name gets a hash of what its line says. A comment `# name: xyz` right above a line names it. The crontab that
a job is from is in its label `crontab` (see `crontab_origin`).
"""

import hashlib
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cronexec.domain.crontab_names import name_of
from cronexec.domain.crontab_origin import ORIGIN_LABEL
from cronexec.domain.job import JobDocument
from cronexec.errors import FieldProblem, InvalidDocumentError

_ASSIGNMENT = re.compile(
    r"""(?P<quote>["']?)(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P=quote)\s*=\s*(?P<value>.*?)\s*"""
)
_ENTRY = re.compile(r"(?P<when>@\S+|(?:\S+[ \t]+){4}\S+)(?:[ \t]+(?P<rest>.*))?")
_NAME_COMMENT = re.compile(r"#\s*name\s*:\s*(?P<name>\S+)\s*", re.IGNORECASE)
_HEADER = re.compile(r"#.*\bdow\b\s+(?P<user>user(?:-name|name)?\s+)?command\b.*", re.IGNORECASE)
_SYSTEM_SOURCE = re.compile(r"(?:.*/)?etc/(?:crontab|cron\.d/[^/]+)")
_USERS = frozenset({"root", "daemon", "nobody", "www-data", "postgres", "mysql", "nginx", "apache", "redis"})
_PERCENT = re.compile(r"(?<!\\)%")
_DEFAULT_SHELLS = frozenset({"/bin/sh", "/usr/bin/sh"})
_WITHOUT_EQUIVALENT = {
    "MAILTO": 'no mail is sent, output is kept with the run; write MAILTO="" to say that none is wanted',
    "MAILFROM": "no mail is sent; leave it out",
    "CONTENT_TYPE": "no mail is sent; leave it out",
    "CONTENT_TRANSFER_ENCODING": "no mail is sent; leave it out",
    "LOGNAME": "it is the user's name and cannot be set, in cron neither; leave it out",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Context:
    """What counts for the next line: environment, time zone and jitter so far, a name from a comment."""

    environment: Mapping[str, str] = field(default_factory=dict)
    timezone: str = "UTC"
    jitter: str | None = None
    name: str | None = None


class _RefusedError(Exception):
    """A line has no equivalent; the message says why and what to do."""


def parse_crontab(
    text: str,
    *,
    system: bool | None,
    prefix: str,
    source: str,
    run_as: str | None = None,
    timezone: str = "UTC",
    origin: str = "",
) -> tuple[list[dict[str, Any]], list[FieldProblem]]:
    """Return the job documents of a crontab, each valid, and what is wrong with the other lines.

    `system`: whether there is a column for the user; None: judged by `source` and the text. `prefix` begins
    the names that are made. `run_as`: the user that the instances run as, the only one that lines may name.
    `timezone`: where no `CRON_TZ` says so; cron itself takes the machine's. `origin`: what the label says
    of where jobs are from; none is made where it is empty.
    """
    has_users = _has_users(text, source, run_as) if system is None else system
    reader = _Reader(has_users=has_users, prefix=prefix, source=source, run_as=run_as, origin=origin)
    context = _Context(timezone=timezone)
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        context = reader.read(number, line.removesuffix("\r").lstrip(" \t"), context)
    reader.end()
    return reader.documents, reader.problems


class _Reader:
    """Reads line after line; keeps the documents, the problems, and the names that are taken."""

    def __init__(self, *, has_users: bool, prefix: str, source: str, run_as: str | None, origin: str) -> None:
        self._has_users = has_users
        self._prefix = prefix
        self._source = source
        self._run_as = run_as
        self._labels = {ORIGIN_LABEL: origin} if origin else {}
        self._named_in: int | None = None
        self._taken: set[str] = set()
        self.documents: list[dict[str, Any]] = []
        self.problems: list[FieldProblem] = []

    def read(self, number: int, line: str, context: _Context) -> _Context:
        """Read one line; returns what counts for the next one."""
        if comment := _NAME_COMMENT.fullmatch(line):
            self.end()
            self._named_in = number
            return replace(context, name=comment["name"])
        try:
            if assignment := _ASSIGNMENT.fullmatch(line):
                context = _assign(assignment["name"], _unquote(assignment["value"]), context)
            elif line.strip() and not line.startswith("#"):
                self._add(line, context)
                self._named_in = None
        except _RefusedError as refusal:
            self._named_in = None
            self._complain(number, str(refusal))
        except InvalidDocumentError as error:
            self._named_in = None
            for wrong in error.problems:
                self._complain(number, str(wrong))
        self.end()
        return replace(context, name=None)

    def end(self) -> None:
        """Complain of a name that stood above no job."""
        if self._named_in is not None:
            self._complain(self._named_in, "the name is for the line right below it, and there is no job")
        self._named_in = None

    def _complain(self, number: int, message: str) -> None:
        self.problems.append(FieldProblem(f"{self._source}, line {number}", message))

    def _add(self, line: str, context: _Context) -> None:
        when, rest = _split_entry(line)
        command = self._strip_user(rest) if self._has_users else rest
        document: dict[str, Any] = {
            "name": "",
            "schedule": _schedule(when, context),
            "target": _target(command, context),
        }
        document["name"] = context.name or self._make_name(command, document)
        if self._labels:
            document["labels"] = dict(self._labels)
        JobDocument.parse(document)
        if document["name"] in self._taken:
            raise _RefusedError(f"another line has the name {document['name']!r} already")
        self._taken.add(document["name"])
        self.documents.append(document)

    def _strip_user(self, rest: str) -> str:
        user, command = (*rest.split(maxsplit=1), "", "")[:2]
        if not command:
            raise _RefusedError("expected a user and a command after the time")
        if user != self._run_as:
            instances = f"the instances run as {self._run_as!r}" if self._run_as else "the user is not known"
            raise _RefusedError(
                f"it runs as {user!r}, and {instances}: a job cannot change its user; write the command with "
                f"'runuser -u {user} --' or 'sudo -n -u {user}' and the instances' user"
            )
        return command

    def _make_name(self, command: str, document: Mapping[str, Any]) -> str:
        name = name_of(command, self._prefix)
        if name not in self._taken:
            return name
        meaning = repr((document["schedule"], document["target"]))
        name = f"{name[:119]}-{hashlib.sha256(meaning.encode(errors='replace')).hexdigest()[:8]}"
        if name in self._taken:
            raise _RefusedError("the same line stands above already; name this one by '# name: …' above it")
        return name


def _assign(name: str, value: str, context: _Context) -> _Context:
    if name == "CRON_TZ":
        return replace(context, timezone=value or "UTC")
    if name == "RANDOM_DELAY":
        return replace(context, jitter=_read_minutes(value))
    if name in _WITHOUT_EQUIVALENT and (value or name != "MAILTO"):
        raise _RefusedError(f"{name}: {_WITHOUT_EQUIVALENT[name]}")
    if name == "MAILTO":
        return context
    return replace(context, environment={**context.environment, name: value})


def _read_minutes(value: str) -> str | None:
    if not re.fullmatch(r"\d{0,4}", value, re.ASCII):
        raise _RefusedError(f"RANDOM_DELAY: {value!r} is no number of minutes")
    return f"{value}m" if value.strip("0") else None


def _unquote(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value


def _split_entry(line: str) -> tuple[str, str]:
    if line.startswith("-"):
        raise _RefusedError("the '-' that keeps a line out of the log has no equivalent; leave it out")
    if line.lower().startswith("@reboot"):
        raise _RefusedError("@reboot has no equivalent: the instances start when they start; give a time")
    entry = _ENTRY.fullmatch(line)
    if entry is None:
        raise _RefusedError("expected five fields for the time, or @daily and the like, and a command")
    if not (entry["rest"] or "").strip():
        raise _RefusedError("expected a command after the time")
    return " ".join(entry["when"].split()), entry["rest"]


def _schedule(when: str, context: _Context) -> dict[str, Any]:
    timezone = {"timezone": context.timezone} if context.timezone != "UTC" else {}
    return {"cron": when, **timezone, **({"jitter": context.jitter} if context.jitter else {})}


def _target(command: str, context: _Context) -> dict[str, Any]:
    if _PERCENT.search(command):
        raise _RefusedError(
            "an unescaped % begins the command's input in cron, which has no equivalent; write \\% for a "
            "percent sign, or give the input with 'printf … |'"
        )
    environment = dict(context.environment)
    directory = {"cwd": environment["HOME"]} if environment.get("HOME") else {}
    variables = {"env": environment} if environment else {}
    run = _with_shell(command.replace("\\%", "%"), environment.get("SHELL"))
    return {"type": "shell", "command": run, **variables, **directory}


def _with_shell(command: str, shell: str | None) -> str:
    if not shell or shell in _DEFAULT_SHELLS:
        return command
    return f"exec {shlex.quote(shell)} -c {shlex.quote(command)}"


def _has_users(text: str, source: str, run_as: str | None) -> bool:
    """Judge the format: by the file's place, else the usual header, else by what stands for users."""
    if _SYSTEM_SOURCE.fullmatch(source):
        return True
    lines = [line.strip() for line in text.split("\n")]
    if headers := [header for line in lines if (header := _HEADER.fullmatch(line))]:
        return headers[0]["user"] is not None
    words = list(_words_in_user_column(lines))
    return bool(words) and all(word in _USERS or word == run_as for word in words)


def _words_in_user_column(lines: list[str]) -> Iterator[str]:
    for line in lines:
        if line and not line.startswith("#") and not _ASSIGNMENT.fullmatch(line):
            entry = _ENTRY.fullmatch(line)
            if entry and entry["rest"]:
                yield entry["rest"].split()[0]
