"""What a message carries in the rejected queue: why it is there, in its headers.

A message comes there in two ways: the holder could not use it (our headers), or the broker dead-lettered it
because it expired or ran into a limit (the broker's `x-death`).
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cronexec.ports import CommandArrived, RejectedCommand

CODE = "x-cronexec-code"
REASON = "x-cronexec-reason"
FIELD = "x-cronexec-field"
REJECTED_AT = "x-cronexec-rejected-at"
USER = "x-cronexec-user"
LEFT_OUT = "x-cronexec-headers-left-out"  # why the sender's headers are not there
DEATHS = "x-death"
LONGEST_REASON = 2000  # characters: headers must fit into one frame


def rejected_headers(
    command: CommandArrived, *, code: str, message: str, field: str | None, at: datetime
) -> dict[str, Any]:
    """Return the message's own headers with the reason, the verified sender and `at` added.

    `at`: the database's clock, as everywhere; not this machine's, which may be wrong.
    """
    reason = {
        CODE: code,
        REASON: message[:LONGEST_REASON],
        FIELD: field,
        REJECTED_AT: at.isoformat(timespec="milliseconds"),
        USER: command.user,
    }
    return dict(command.headers) | {name: value for name, value in reason.items() if value is not None}


def rejected_command(body: bytes, message_id: str | None, headers: Mapping[str, Any]) -> RejectedCommand:
    """Read a message of the rejected queue. The reason is a sentence with the code in parentheses."""
    if REASON not in headers:
        return _dead_letter(body, message_id, headers)
    return RejectedCommand(
        body=body,
        reason=f"{headers[REASON]} ({headers.get(CODE, 'rejected')})",
        field=headers.get(FIELD),
        rejected_at=_instant(headers.get(REJECTED_AT)),
        message_id=message_id,
    )


def _dead_letter(body: bytes, message_id: str | None, headers: Mapping[str, Any]) -> RejectedCommand:
    death: Mapping[str, Any] = next(iter(headers.get(DEATHS) or ()), {})
    return RejectedCommand(
        body=body,
        reason=f"dead-lettered by the broker ({death.get('reason', 'no reason given')})",
        rejected_at=_instant(death.get("time")),
        message_id=message_id,
    )


def _instant(value: object) -> datetime | None:
    """Read ISO text (ours) or a naive datetime in UTC (the broker's, as pika decodes it)."""
    try:
        instant = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return None
    if not isinstance(instant, datetime):
        return None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
