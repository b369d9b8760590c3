"""A finding: what was looked at, how it is, and what to do."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How it is. `unreachable`: it could not be asked."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """`check` says what was looked at, for programs; `message` how it is, `remedy` what to do, for people."""

    check: str
    level: Level
    message: str
    remedy: str = ""


def ok(check: str, message: str) -> Finding:
    return Finding(check=check, level=Level.OK, message=message)


def warn(check: str, message: str, remedy: str) -> Finding:
    return Finding(check=check, level=Level.WARN, message=message, remedy=remedy)


def fail(check: str, message: str, remedy: str) -> Finding:
    return Finding(check=check, level=Level.FAIL, message=message, remedy=remedy)
