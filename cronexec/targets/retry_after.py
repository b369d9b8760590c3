"""`Retry-After`: for how long the receiver of a webhook wants to be left alone (RFC 9110 §10.2.3).

Seconds, or an instant. An instant is by the receiver's clock: what counts is its distance from the answer's
own `Date`, where there is one, and from our clock otherwise. What cannot be read is not there; so is what
lies in the past.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

WITH_HINT = frozenset({429, 503})
_MOST_DIGITS = 9  # thirty years; more would not fit into a timedelta


def retry_after(status: int, headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """Return what the answer asks for. `now`: our clock, for answers without a `Date`."""
    text = headers.get("Retry-After", "").strip() if status in WITH_HINT else ""
    if text.isascii() and text.isdecimal():
        return timedelta(seconds=int(text[:_MOST_DIGITS]))
    until = _instant(text)
    if until is None:
        return None
    return max(until - (_instant(headers.get("Date", "")) or now), timedelta(0))


def _instant(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
