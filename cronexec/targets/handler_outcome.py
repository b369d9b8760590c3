"""What becomes of a handler's result or exception: an outcome, and text for the run's output."""

import traceback
from typing import Any

from cronexec.domain.redaction import redact_url
from cronexec.domain.run import Outcome, RunState
from cronexec.targets import identity
from cronexec.targets.sentence import sentence

MOST_RESULT = 16 * 1024
MOST_TRACEBACK = 64 * 1024


def text_of_result(result: Any) -> str:
    """Return what a handler returned, as a line of JSON; nothing for None."""
    if result is None:
        return ""
    try:
        text = identity.to_json(result)
    except Exception:  # noqa: BLE001  it has a __str__ of its own
        text = f"a {type(result).__name__}"
    return text[:MOST_RESULT] + "\n"


def failure(error: BaseException) -> tuple[Outcome, str]:
    """Return the outcome of a handler that raised, and the traceback without the frame that called it."""
    said = redact_url(f"{type(error).__name__}: {_message(error)}".rstrip(": "))
    tb = error.__traceback__
    lines = traceback.format_exception(type(error), error, tb.tb_next if tb else None)
    outcome = Outcome(state=RunState.FAILED, error=sentence(said), exceptions=names_of(type(error)))
    text = redact_url("".join(lines)[-2 * MOST_TRACEBACK :])  # more than is kept: no URL is cut before
    return outcome, text[-MOST_TRACEBACK:]


def names_of(kind: type[BaseException]) -> tuple[str, ...]:
    """Return the names of an exception's class and its bases, as `Outcome.exceptions` has them."""
    return tuple(
        each.__qualname__ if each.__module__ == "builtins" else f"{each.__module__}.{each.__qualname__}"
        for each in kind.__mro__
        if each not in (object, BaseException)
    )


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  it has a __str__ of its own
        return "(its message cannot be printed)"
