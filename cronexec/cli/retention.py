"""How far back the ledger goes.

That is the retention of the instances, who write it: it is read from what they wrote, since the settings here
may say something else. Only where nothing shows it these count.
"""

from dataclasses import dataclass
from datetime import timedelta

from cronexec.cli.session import Session
from cronexec.domain.duration import format_duration


@dataclass(frozen=True, kw_only=True, slots=True)
class Retention:
    """For how long settled entries are kept, and who says so: the ledger, or the settings here."""

    length: timedelta
    origin: str

    def __str__(self) -> str:
        shown = "as the ledger shows" if self.origin == "ledger" else "as the settings here say"
        return f"retention {format_duration(self.length)}, {shown}"


async def read_retention(session: Session) -> Retention:
    """Return the retention of the namespace. Raises UnreachableError."""
    shown = await session.connection.mongo.retention()
    if shown is None:
        return Retention(length=session.settings.retention, origin="settings")
    return Retention(length=shown, origin="ledger")
