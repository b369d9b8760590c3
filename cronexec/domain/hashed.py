"""`H` in cron expressions: a fixed time of the job's own, so that jobs do not all come due at once.

As in Jenkins: `H` is one value of its field, `H(0-29)` one of a range, `H/15` every 15th from a value of its
own below 15, and `H(0-29)/10` the same within a range. The value is a hash of the job's name, so it stays
what it is through restarts, on every instance and in every version. Days of the month are 1 to 28, which
every month has.

Each `H` of an expression draws for itself, by the name of its field: the minute does not move when a field
for seconds is added, and two jobs that share a minute need not share an hour.
"""

import re
from collections.abc import Mapping
from hashlib import blake2b

from croniter.croniter import DOW_ALPHAS, M_ALPHAS

from cronexec.domain.schedule_error import ScheduleError

FIELDS = ("second", "minute", "hour", "day of month", "month", "day of week")
_HASHED = re.compile(r"(?:^|[\s,])h(?=$|[\s,/(])", re.IGNORECASE)
_TERM = re.compile(r"h(?:\((\w+)-(\w+)\))?(?:/(\d+))?", re.IGNORECASE | re.ASCII)
_BOUNDS = {
    "second": (0, 59),
    "minute": (0, 59),
    "hour": (0, 23),
    "day of month": (1, 31),
    "month": (1, 12),
    "day of week": (0, 7),
}
_DRAWN_FROM = {**_BOUNDS, "day of month": (1, 28), "day of week": (0, 6)}
_NAMES: dict[str, Mapping[str, int]] = {"month": M_ALPHAS, "day of week": DOW_ALPHAS}


def is_hashed(text: str) -> bool:
    """Whether a cron expression has an `H`, and hence depends on the job's name."""
    return ("H" in text or "h" in text) and _HASHED.search(text) is not None


def resolve_hashed(text: str, name: str) -> str:
    """Return the expression that `text` is for the job called `name`.

    Raises ScheduleError (cron) for an `H` that cannot be read.
    """
    fields = text.split()
    if len(fields) not in {len(FIELDS) - 1, len(FIELDS)}:
        return text  # it is refused for that
    named = zip(fields, FIELDS[len(FIELDS) - len(fields) :], strict=True)
    return " ".join(_resolve_field(text, field, field_name, name) for field, field_name in named)


def _resolve_field(text: str, field: str, field_name: str, name: str) -> str:
    if not is_hashed(field):
        return field
    terms = field.split(",")
    return ",".join(
        _resolve_term(text, term, field_name, f"{name}\n{field_name}\n{number}") if is_hashed(term) else term
        for number, term in enumerate(terms)
    )


def _resolve_term(text: str, term: str, field_name: str, key: str) -> str:
    match = _TERM.fullmatch(term)
    if match is None:
        raise ScheduleError(
            "cron", f"{text!r}: {term!r} cannot be read; write H, H/15, H(0-29) or H(0-29)/10."
        )
    low, high = _DRAWN_FROM[field_name]
    if match[1]:
        low, high = _read_end(text, match[1], field_name), _read_end(text, match[2], field_name)
    size = high - low + 1
    if size < 1:
        raise ScheduleError("cron", f"{text!r}: the range of {term!r} ends before it begins; swap its ends.")
    if match[3] is None:
        return str(low + _draw(key, size))
    step = int(match[3])
    if not 1 < step <= size:
        raise ScheduleError(
            "cron", f"{text!r}: the step of {term!r} is not from 2 to {size}, the values of its {field_name}."
        )
    return f"{low + _draw(key, step)}-{high}/{step}"


def _read_end(text: str, end: str, field_name: str) -> int:
    value = int(end) if end.isdecimal() else _NAMES.get(field_name, {}).get(end.lower())
    low, high = _BOUNDS[field_name]
    if value is None or not low <= value <= high:
        raise ScheduleError("cron", f"{text!r}: {end!r} is no {field_name} ({low}-{high}).")
    return value


def _draw(key: str, size: int) -> int:
    """Return a number below `size` that depends on nothing but `key`."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest()) % size
