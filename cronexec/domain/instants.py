"""Instants of schedules: read from documents, counted in whole seconds since the epoch, written one way."""

from datetime import UTC, datetime, timedelta

from cronexec.domain.schedule_error import ScheduleError
from cronexec.domain.zone import EARLIEST, EPOCH, LATEST, Zone

SECOND = timedelta(seconds=1)


def to_seconds(instant: datetime) -> int:
    """Return an aware instant in seconds since the epoch, its fraction cut off."""
    return (instant - EPOCH) // SECOND


def to_datetime(seconds: int) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


def to_text(seconds: int) -> str:
    return to_datetime(seconds).isoformat().replace("+00:00", "Z")


def whole_milliseconds(instant: datetime) -> datetime:
    """Return an instant as it is stored, what is finer cut off."""
    return instant - timedelta(microseconds=instant.microsecond % 1000)


def later(instant: datetime, length: timedelta) -> datetime:
    """Return the instant so much later, or the last that is counted: any length is accepted in documents."""
    return to_datetime(LATEST) if length > to_datetime(LATEST) - instant else instant + length


def earlier(instant: datetime, length: timedelta) -> datetime:
    """Return the instant so much earlier, or the first that is counted."""
    return to_datetime(EARLIEST) if length > instant - to_datetime(EARLIEST) else instant - length


def read_instant(field: str, value: object, zone: Zone | None) -> int:
    """Return the instant that `value` says; one without an offset is a local time of `zone`, its first.

    Raises ScheduleError (`field`): no instant, a fraction of a second, no offset where there is no zone.
    """
    instant = _parse(field, value)
    if instant.microsecond:
        raise ScheduleError(field, f"{field} {instant.isoformat()} has a fraction; give whole seconds.")
    if instant.utcoffset() is not None:
        return _check_range(field, to_seconds(instant))
    if zone is None:
        raise ScheduleError(
            field,
            f"{field} {instant.isoformat()} has no offset; add one (as in {instant.isoformat()}+01:00).",
        )
    return _check_range(field, zone.first_occurrence(to_seconds(instant.replace(tzinfo=UTC))))


def _parse(field: str, value: object) -> datetime:
    if isinstance(value, datetime):
        return value
    try:
        return datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        raise ScheduleError(
            field, f"{field} {value!r} is no instant; write it as 2026-12-24T18:00:00+01:00."
        ) from None


def _check_range(field: str, instant: int) -> int:
    if not EARLIEST < instant <= LATEST:
        raise ScheduleError(
            field, f"{field} is beyond what a calendar is computed for; give a year from 100 to 9900."
        )
    return instant
