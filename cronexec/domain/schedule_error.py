"""The one error of schedules, and the nearest known name for a misspelt one."""

import difflib
from collections.abc import Iterable


class ScheduleError(ValueError):
    """A schedule that cannot be accepted.

    `field` is the wrong field of the document; `str(error)` is a full sentence with what was given and the
    remedy; `others` are the further wrong fields of the same document.
    """

    def __init__(self, field: str, message: str, *, others: tuple["ScheduleError", ...] = ()) -> None:
        super().__init__(message)
        self.field = field
        self.others = others


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return "; did you mean X?" for the nearest of `known`, and nothing where none is near."""
    spellings = {name.lower(): name for name in known}
    nearest = difflib.get_close_matches(given.lower(), spellings, n=1)
    return f"; did you mean {spellings[nearest[0]]}?" if nearest else ""
