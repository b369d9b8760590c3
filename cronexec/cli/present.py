"""The present instant, for what is said before a server is asked: `--since 1h`, `--for 2h`, `next --cron`.

It is this machine's clock, as whoever types `1h` reads it. Commands that have asked the database anyway go by
its time, as instances do.
"""

from datetime import UTC, datetime, timedelta

import click


def present() -> datetime:
    """Return the instant that it is now, in UTC."""
    return datetime.now(UTC)


def instant_after(length: timedelta, start: datetime | None = None) -> datetime:
    """Return the instant `length` after `start` (now); a negative one lies before it.

    Raises BadParameter where no calendar goes that far.
    """
    try:
        return (start or present()) + length
    except OverflowError:
        raise click.BadParameter("it is further away than years are counted (1 to 9999)") from None
