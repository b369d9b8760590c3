"""Job documents from files: YAML, JSON, JSON lines and crontabs.

Every problem of every document is found before anything is sent.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cronexec.domain.crontab import parse_crontab
from cronexec.domain.documents import read_documents
from cronexec.domain.job import JobDocument
from cronexec.errors import FieldProblem, InvalidDocumentError

STANDARD_INPUT = "-"
_WHEN = r"(?:@[a-z]+|[-\d*,/A-Za-z~?#]+(?:\s+[-\d*,/A-Za-z~?#]+){4})"
_CRONTAB_LINE = re.compile(rf"\s*(?:{_WHEN}\s+\S|[A-Za-z_][A-Za-z0-9_]*\s*=)")


@dataclass(frozen=True, kw_only=True, slots=True)
class CrontabOptions:
    """How crontabs are read.

    `forced`: whether everything is one; `system`: whether there is a column for the user (None: judged).
    """

    forced: bool = False
    system: bool | None = None
    prefix: str = ""
    run_as: str | None = None
    timezone: str = "UTC"


@dataclass(kw_only=True)
class Reading:
    """What was read from all files."""

    jobs: list[JobDocument] = field(default_factory=list)
    problems: list[FieldProblem] = field(default_factory=list)


def read_files(files: Sequence[str], options: CrontabOptions) -> Reading:
    """Read and validate all documents of all files; `-` is standard input."""
    reading = Reading()
    places: dict[str, str] = {}
    for file in files:
        try:
            text = _read(file)
        except (OSError, UnicodeDecodeError) as error:
            reading.problems.append(FieldProblem(file, f"it cannot be read: {_why(error)}"))
            continue
        source = "standard input" if file == STANDARD_INPUT else file
        _read_text(text, source, options, reading, places)
    return reading


def _read(file: str) -> str:
    return sys.stdin.read() if file == STANDARD_INPUT else Path(file).read_text(encoding="utf-8")


def _why(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else "it is not UTF-8"


def _read_text(
    text: str, source: str, options: CrontabOptions, reading: Reading, places: dict[str, str]
) -> None:
    documents, problems = _documents(text, source, options)
    reading.problems.extend(problems)
    for number, document in enumerate(documents, 1):
        place = _place(source, number, document)
        try:
            job = JobDocument.parse(document)
        except InvalidDocumentError as error:
            reading.problems.extend(_placed(place, error))
            continue
        if job.name in places:
            reading.problems.append(
                FieldProblem(f"{place}: name", f"it is the name of {places[job.name]} too")
            )
        places.setdefault(job.name, f"{source}, document {number}")
        reading.jobs.append(job)


def _documents(
    text: str, source: str, options: CrontabOptions
) -> tuple[list[dict[str, Any]], list[FieldProblem]]:
    if options.forced or options.system or is_crontab(text):
        return parse_crontab(
            text,
            system=options.system,
            prefix=options.prefix,
            source=source,
            run_as=options.run_as,
            timezone=options.timezone,
        )
    return read_documents(text, source=source)


def _place(source: str, number: int, document: dict[str, Any]) -> str:
    name = document.get("name")
    return f"{source}, document {number}" + (f" ({name})" if isinstance(name, str) else "")


def _placed(place: str, error: InvalidDocumentError) -> Iterator[FieldProblem]:
    for each in error.problems:
        yield FieldProblem(f"{place}: {each.field}" if each.field else place, each.message)


def is_crontab(text: str) -> bool:
    """Whether the first line that is no comment is one of a crontab.

    No line of a job document looks like it: those have a colon or a bracket before there are five fields.
    """
    lines = (
        line
        for line in text.removeprefix("\ufeff").splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    )
    return bool(_CRONTAB_LINE.match(next(lines, "")))
