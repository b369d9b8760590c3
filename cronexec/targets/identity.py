"""Who a run is, as its target is told: environment variables, HTTP and AMQP headers, values for placeholders.

The one place for these names: they are a contract with other people's programs.
"""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from cronexec.domain.run import Run, slot_text

IDEMPOTENCY_KEY = "Idempotency-Key"

_HEADER_SAFE = " !\"#$&'()*+,-./:;<=>?@[]^_`{|}~"  # all of visible ASCII but the percent sign


def environment(run: Run, params: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables that a shell command gets."""
    return {
        "CRONEXEC_JOB": run.job,
        "CRONEXEC_SLOT": slot_text(run.slot),
        "CRONEXEC_RUN_ID": run.id,
        "CRONEXEC_ATTEMPT": str(run.attempt),
        "CRONEXEC_EPOCH": str(run.epoch),
        "CRONEXEC_PARAMS": to_json(params),
    }


def headers(run: Run) -> dict[str, str]:
    """Return the headers of a request or message. The key is the same at every attempt.

    What a header cannot carry is percent-encoded (the key of a trigger is somebody's free text).
    """
    return {
        IDEMPOTENCY_KEY: quote(run.id, safe=_HEADER_SAFE),
        "X-Cronexec-Job": quote(run.job, safe=_HEADER_SAFE),
        "X-Cronexec-Slot": slot_text(run.slot),
        "X-Cronexec-Attempt": str(run.attempt),
        "X-Cronexec-Epoch": str(run.epoch),
    }


def values(run: Run, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what placeholders are filled in from; also the body of a webhook or message that states none."""
    return {
        "job": run.job,
        "slot": slot_text(run.slot),
        "run_id": run.id,
        "attempt": run.attempt,
        "epoch": run.epoch,
        "params": dict(params),
    }


def to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
