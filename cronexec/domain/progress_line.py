"""Progress as a shell command tells it: a line `DONE [TOTAL] [MESSAGE]`, as in `2 5 matches`.

What `cronexec progress` writes and what an executor reads. Kept apart from everything else, because a command
in a shell script must start at once.
"""

import math

INT64 = 2**63
MESSAGE_AT_MOST = 1000  # characters
UNKNOWN = "-"  # as TOTAL, where a message begins with a number

Told = tuple[float, float | None, str]


def parse_progress(line: str) -> Told:
    """Return done, total (None where it is not known) and message. Raises ValueError with a sentence."""
    words = line.strip().split(maxsplit=1)
    done = _number(words[0]) if words else None
    if done is None:
        raise ValueError(f"expected DONE [TOTAL] [MESSAGE] as in '2 5 matches', got {line[:80]!r}")
    rest = words[1] if len(words) > 1 else ""
    first, _, after = rest.partition(" ")
    total = _number(first)
    message = rest if total is None and first != UNKNOWN else after
    return done, total, message.strip()[:MESSAGE_AT_MOST]


def progress_line(done: float, total: float | None, message: str) -> str:
    """Return the line, with its end."""
    words = [str(done), UNKNOWN if total is None else str(total), " ".join(message.split())]
    return " ".join(words)[: 2 * MESSAGE_AT_MOST].rstrip() + "\n"


def _number(word: str) -> float | None:
    """Return a number that the database can hold, or None."""
    try:
        number = int(word) if word.lstrip("+-").isdigit() else float(word)
    except ValueError:
        return None
    if isinstance(number, int):
        return number if -INT64 <= number < INT64 else None
    return number if math.isfinite(number) else None
