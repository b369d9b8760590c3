"""Lengths of time as people write them: "15m", "1h30m", "500ms", or a number of seconds."""

import re
from datetime import timedelta

_UNITS = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
_PATTERN = re.compile("".join(rf"(?:(\d+(?:\.\d+)?){unit})?" for unit in _UNITS), re.ASCII)
_SECONDS = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_ACCEPTED = 'write a number with d, h, m, s or ms, as in "15m", "1h30m" or "500ms", or a number of seconds'


def parse_duration(value: str | float) -> timedelta:
    """Return the length that `value` says, in whole milliseconds; a plain number is seconds.

    Units come in descending order, each at most once. Raises ValueError, a sentence with what is accepted,
    for anything else: negative, finer than a millisecond, unknown units.
    """
    try:
        length = _parse_text(value.strip()) if isinstance(value, str) else _parse_number(value)
    except OverflowError:
        raise ValueError(f"{value!r} is longer than can be counted; {_ACCEPTED}.") from None
    if length is None:
        raise ValueError(f"{value!r} is no length of time; {_ACCEPTED}.")
    if length % _UNITS["ms"]:
        raise ValueError(f"{value!r} is finer than a millisecond, which is the smallest length counted.")
    return length


def format_duration(length: timedelta) -> str:
    """Return `length` as `parse_duration` reads it ("1h30m"); what is finer than a millisecond is cut off."""
    if length < timedelta(0):
        return f"-{format_duration(-length)}"
    parts = []
    for unit, size in _UNITS.items():
        count, length = divmod(length, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def _parse_text(text: str) -> timedelta | None:
    if _SECONDS.fullmatch(text):
        return timedelta(seconds=float(text))
    match = _PATTERN.fullmatch(text) if text else None
    if match is None:
        return None
    counts = zip(match.groups(), _UNITS.values(), strict=True)
    return sum((float(count) * size for count, size in counts if count), timedelta(0))


def _parse_number(number: object) -> timedelta | None:
    # A YAML "yes" arrives as a bool, which is an int to Python; NaN and infinity fail the comparison.
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number < float("inf"):
        return None
    return timedelta(seconds=number)
