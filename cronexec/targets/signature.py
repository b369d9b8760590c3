"""Signatures of webhooks as Standard Webhooks 1.0.0 has them: who sent it, and that nothing is missing.

`webhook-id` is the run's id, the same at every attempt, with `%2E` for a full stop: the parts of what is
signed are divided by full stops, and a trigger's key is anybody's text. `webhook-timestamp` is the attempt's.
With several secrets there are several signatures: while a secret is rotated, the receiver may know either.
Source: github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
from datetime import datetime
from urllib.parse import quote

from cronexec.errors import CronexecError

PREFIX = "whsec_"
SHORTEST, LONGEST = 24, 64  # bytes


class SigningKeyError(CronexecError):
    """A secret is none to sign with; the message names it, and never holds a value."""


def read_key(name: str, secret: str) -> bytes:
    """Return the key that the secret of this name is. Raises SigningKeyError."""
    text = secret.strip()
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not SHORTEST <= len(key) <= LONGEST:
        raise SigningKeyError(
            f"the secret {name} cannot sign: expected {PREFIX} and {SHORTEST} to {LONGEST} bytes in base64"
        )
    return key


def sign(run_id: str, sent_at: datetime, body: bytes, keys: Iterable[bytes]) -> dict[str, str]:
    """Return the headers for a request with this body, sent at this instant."""
    message_id = quote(run_id, safe="@#:/+").replace(".", "%2E")
    timestamp = str(int(sent_at.timestamp()))
    signed = f"{message_id}.{timestamp}.".encode() + body
    signatures = (base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
