"""The table of the faults that were tried: what happened to each, and how long slots did not run."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

NOT_MEASURED = "-"


@dataclass(kw_only=True)
class Row:
    """One fault that was tried.

    `events` are what the log said, `metrics` those of them that the instances counted, with how often, and
    `doctor` what it found. Seconds: `next_term_s` from the fault to the next term's first commit (None: the
    term went on), `pause_s` the longest time around it in which no run began (about one second is none),
    `back_s` from the end of the fault to the first run (None where the fault has no end, or nothing had
    stopped).
    """

    fault: str
    module: str
    held: bool = False
    due: int = 0
    missing: int = 0
    doubled: int = 0
    abandoned: int = 0
    next_term_s: float | None = None
    pause_s: float | None = None
    back_s: float | None = None
    events: list[str] = field(default_factory=list)
    metrics: dict[str, int] = field(default_factory=dict)
    doctor: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rabbitmq: str = ""
    mongodb: str = ""


def lines_of(rows: list[Row]) -> list[str]:
    """Return the table as text for the terminal."""
    head = f"{'fault':<64} {'held':<5} {'due':>5} {'miss':>4} {'dbl':>3} {'aband':>5} "
    head += f"{'next term':>9} {'pause':>7} {'back':>7}  seen"
    return [head, *(_line(row) for row in rows)]


def _line(row: Row) -> str:
    line = f"{row.fault:<64} {'yes' if row.held else 'NO':<5} {row.due:>5} {row.missing:>4} {row.doubled:>3} "
    line += f"{row.abandoned:>5} {_seconds(row.next_term_s):>9} {_seconds(row.pause_s):>7} "
    seen = [*row.events, *row.notes, *(f"doctor: {check}" for check in row.doctor)]
    return line + f"{_seconds(row.back_s):>7}  {', '.join(dict.fromkeys(seen))}"


def _seconds(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:.2f} s"


def write(rows: list[Row], path: Path) -> None:
    """Write the table as JSON."""
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False) + "\n")
