"""Control messages: what is said to one instance, whoever holds the baton.

They go to the fanout exchange `NAMESPACE.control`, and so to every instance that lives at that moment; each
does what names its id. Nothing keeps them and nobody answers them: whoever sends one watches the instance's
record for the state that it changes, and sends it again until it has. So every one must mean the same when it
arrives twice.
"""

import json
from dataclasses import dataclass
from enum import StrEnum

SCHEMA = 1


class ControlType(StrEnum):
    """What an instance is told to do."""

    DRAIN = "instance.drain"
    UNDRAIN = "instance.undrain"


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlMessage:
    """`instance`: the id of the one that it is for."""

    type: ControlType
    instance: str
    issued_by: str | None = None


def encode_control(message: ControlMessage) -> bytes:
    """Return what is published."""
    fields = {"schema": SCHEMA, "type": message.type.value, "instance": message.instance}
    issued_by = {} if message.issued_by is None else {"issued_by": message.issued_by}
    return json.dumps(fields | issued_by).encode()


def read_control(body: bytes) -> ControlMessage | None:
    """Return the message, None for one that says nothing to this release: malformed, or of a newer one."""
    try:
        fields = json.loads(body)
        issued_by = fields.get("issued_by")
        return ControlMessage(
            type=ControlType(fields["type"]),
            instance=str(fields["instance"]),
            issued_by=None if issued_by is None else str(issued_by),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
