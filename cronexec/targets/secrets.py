"""`${secret:NAME}`: secrets are named in documents and resolved where the run executes, and nowhere else.

They come from the variable `CRONEXEC_SECRET_NAME` or the file NAME in the instance's secrets directory, in
this order, and from nothing else: a document can name neither another variable nor a path. A file's one
trailing newline is not part of the secret. What was resolved is known to the run, which replaces it by `***`
in whatever it prints; a secret is never stored.
"""

import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, AnyStr
from urllib.parse import quote

from cronexec.errors import CronexecError

REDACTED = "***"
PREFIX = "CRONEXEC_SECRET_"

_REFERENCE = re.compile(r"\$\{secret:([^}]*)\}")
_NAME = re.compile(r"[A-Za-z0-9_]+")
_MOST_BYTES = 64 * 1024
_GLANCE = 16  # characters that are compared before all of a long secret is


class SecretError(CronexecError):
    """A secret is missing, or its name cannot be one; the message names it, and never holds a value."""


class Secrets:
    """The secrets of this instance.

    `environ`: variables to look in. `directory`: the secrets directory, or None. Files are read at every use,
    so that a rotated one counts from then on.
    """

    def __init__(self, environ: Mapping[str, str], directory: Path | None = None) -> None:
        self._environ = environ
        self._directory = directory

    def resolve(self, value: Any) -> tuple[Any, frozenset[str]]:
        """Return `value` (text, or JSON with text in it) with its references resolved, and the secrets used.

        Raises SecretError.
        """
        used: set[str] = set()
        return self._resolve(value, used), frozenset(used)

    def resolve_text(self, text: str, used: set[str]) -> str:
        """Return `text` with its references resolved; adds the secrets to `used`. Raises SecretError."""
        if "${secret:" not in text:
            return text
        return _REFERENCE.sub(lambda match: self._note(match[1], used), text)

    def get(self, name: str) -> str:
        """Return one secret. Raises SecretError."""
        if not _NAME.fullmatch(name):
            raise SecretError(f"${{secret:{name}}}: a secret's name has letters, digits and underscores only")
        value = self._environ.get(PREFIX + name)
        if value is None:
            value = self._read(name)
        elif not _is_utf8(value):
            raise SecretError(f"the secret {name} is no UTF-8 text")
        if value is None:
            where = f"{PREFIX}{name} is not set" + (
                f", and {self._directory} has no file {name}"
                if self._directory
                else ", and there is no secrets directory"
            )
            raise SecretError(f"the secret {name} is missing on this instance: {where}")
        return value

    def _resolve(self, value: Any, used: set[str]) -> Any:
        if isinstance(value, str):
            return self.resolve_text(value, used)
        if isinstance(value, Mapping):
            return {key: self._resolve(item, used) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._resolve(item, used) for item in value]
        return value

    def _note(self, name: str, used: set[str]) -> str:
        value = self.get(name)
        used.add(value)
        return value

    def _read(self, name: str) -> str | None:
        if self._directory is None:
            return None
        path = self._directory / name
        try:
            if not path.is_file():  # a pipe would block us
                return None
            with path.open("rb") as file:
                content = file.read(_MOST_BYTES + 1)
        except OSError as error:
            raise SecretError(f"the secret {name} cannot be read: {error.strerror}") from error
        if len(content) > _MOST_BYTES:
            raise SecretError(f"the secret {name} is larger than {_MOST_BYTES} bytes")
        with contextlib.suppress(UnicodeDecodeError):  # which holds the secret
            return content.decode().removesuffix("\n")
        raise SecretError(f"the secret {name} is no UTF-8 text")


def spellings(secrets: Iterable[str]) -> list[str]:
    """Return how secrets may turn up in what a run prints: as they are, in JSON, in a URL. Longest first."""
    found = {
        spelling
        for secret in secrets
        for spelling in (
            secret,
            json.dumps(secret)[1:-1],
            json.dumps(secret, ensure_ascii=False)[1:-1],
            quote(secret, safe=""),
        )
    }
    return sorted(found - {""}, key=len, reverse=True)


def redact(text: str, secrets: Iterable[str], *, is_cut: bool = False) -> str:
    """Return `text` without the secrets. `is_cut`: what it ends with may have been a secret's beginning."""
    found = spellings(secrets)
    for spelling in found:
        text = text.replace(spelling, REDACTED)
    begun = length_begun(text, found) if is_cut else 0
    return text[:-begun] + REDACTED if begun else text


def length_begun(text: AnyStr, found: Iterable[AnyStr]) -> int:
    """Return the length of the longest end of `text` that begins a spelling, and is not all of it."""
    longest = 0
    for spelling in found:
        at = max(0, len(text) - len(spelling) + 1)
        while (at := text.find(spelling[:1], at)) >= 0 and len(text) - at > longest:
            if spelling.startswith(text[at : at + _GLANCE]) and spelling.startswith(text[at:]):
                longest = len(text) - at
            at += 1
    return longest


def _is_utf8(value: str) -> bool:
    """Whether it is text; what was in the environment and is none comes with halves of surrogate pairs."""
    return value.isascii() or value == value.encode(errors="replace").decode()
