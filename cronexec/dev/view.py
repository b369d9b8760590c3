"""The live view: a pure function from what was read to what is drawn, fitted to the terminal.

Nothing here reads, waits or prints. At 80x24 every part is there with a few rows; a larger terminal gets more
rows, and from `WIDE` columns on what runs and what comes next stand side by side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.style import Style
from rich.table import Table
from rich.text import Text

from cronexec.dev.snapshot import Failover, Snapshot, Totals
from cronexec.domain.run import Run, RunState
from cronexec.ports import InstanceRecord

WIDE = 110
HEAD_LINES = 5  # the baton, the minute, the remark, the heading of the instances; the foot
MOST_NEXT = 10
MOST_RUNNING = 16
BAR_WIDTH = 18
LAG_FINE = timedelta(seconds=2.5)
BEAT_FINE = timedelta(seconds=15)
KINDS = {"webhook": "hook", "handler": "handler", "shell": "shell", "publish": "publish"}
STATES = {
    RunState.SUCCEEDED: "green",
    RunState.FAILED: "red",
    RunState.TIMED_OUT: "red",
    RunState.ABANDONED: "bold red",
    RunState.CANCELLED: "yellow",
    RunState.SKIPPED: "dim yellow",
}
INSTANCE_STATES = {
    "holder": "bold green",
    "standby": "default",
    "draining": "yellow",
    "waiting": "yellow",
    "down": "bold red",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """What is drawn: a snapshot, and what `dev` itself knows.

    `places`: name and datacenter of the instances that should be there. `down`: those whose process is not
    there. `remark`: the last thing that happened, or what is wrong. `hint`: how to use the command line
    against this.
    """

    snapshot: Snapshot
    places: Mapping[str, str]
    down: frozenset[str] = frozenset()
    failovers: Sequence[Failover] = ()
    remark: str = ""
    hint: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """How many rows each list may take."""

    running: int
    latest: int
    upcoming: int


def fit(scene: Scene, *, height: int, wide: bool) -> Rows:
    """Share the terminal's lines, by its size only: nothing jumps when more or less is running."""
    head = HEAD_LINES + len(_names(scene))
    headings = 2 if wide else 3
    free = max(height - head - headings, 3)
    if wide:
        side = max(min(MOST_RUNNING, free * 9 // 20), 1)
        return Rows(running=side, upcoming=side, latest=free - side)
    upcoming = max(min(MOST_NEXT, free // 4), 1)
    running = max(min(MOST_RUNNING, free // 3), 1)
    return Rows(running=running, upcoming=upcoming, latest=free - upcoming - running)


def draw(scene: Scene, *, width: int, height: int) -> RenderableType:
    """Return the whole view for a terminal of `width` columns and `height` lines."""
    wide = width >= WIDE
    rows = fit(scene, height=height, wide=wide)
    running = _section("running", len(scene.snapshot.running), _running(scene, rows.running))
    upcoming = _section(f"next of {scene.snapshot.jobs} jobs", None, _upcoming(scene, rows.upcoming))
    if wide:
        middle = Table.grid(expand=True, padding=(0, 2, 0, 0))
        middle.add_column(ratio=13)
        middle.add_column(ratio=7)
        middle.add_row(running, upcoming)
        parts: list[RenderableType] = [middle, _latest(scene, rows.latest, wide=wide)]
    else:
        parts = [running, _latest(scene, rows.latest, wide=wide), upcoming]
    return Group(*_head(scene), _instances(scene), *parts, _foot(scene))


def _head(scene: Scene) -> list[RenderableType]:
    term = scene.snapshot.term
    holder = _line(
        ("baton ", "bold"),
        (term.holder_name or "nobody", "bold green" if _is_held(scene) else "bold red"),
        (f" ({term.datacenter})" if term.datacenter else "", ""),
        (f"  epoch {term.epoch}", ""),
        (f"  for {_length(term.read_at - term.since_at)}" if term.since_at else "", ""),
        ("  lag ", ""),
        (seconds_text(max(term.lag.total_seconds(), 0)), "default" if term.lag < LAG_FINE else "bold red"),
        (f"  failovers {len(scene.failovers)}{_last_took(scene.failovers)}", ""),
    )
    remark = _line((scene.remark, "yellow"))
    return [holder, _minute(scene.snapshot.totals), remark]


def _is_held(scene: Scene) -> bool:
    holder = scene.snapshot.term.holder_name
    return holder is not None and holder not in scene.down


def _last_took(failovers: Sequence[Failover]) -> str:
    timed = [failover.took for failover in failovers if failover.took is not None]
    return f", last {seconds_text(timed[-1].total_seconds())}" if timed else ""


def _minute(totals: Totals) -> Text:
    window = (
        "last minute" if totals.of >= timedelta(seconds=59) else f"last {totals.of.total_seconds():.0f} s"
    )
    late = [
        (f"  late p50 {seconds_text(totals.late_p50)}, p99 {seconds_text(totals.late_p99)}", "")
        for _ in range(totals.late_p50 is not None)
    ]
    return _line(
        (f"{window}: ", "bold"),
        (f"{totals.due} due", ""),
        (f", {totals.run} run", "green" if totals.run else ""),
        (f", {totals.skipped} skipped", "yellow" if totals.skipped else ""),
        (f", {totals.failed} failed", "red" if totals.failed else ""),
        (f", {totals.abandoned} abandoned" if totals.abandoned else "", "red"),
        *late,
    )


def _instances(scene: Scene) -> RenderableType:
    table = _table(
        ("name", 10, None),
        ("datacenter", 10, None),
        ("state", 9, None),
        ("running", 7, "right"),
        ("heartbeat", 11, None),
    )
    records = {record.executor.name: record for record in scene.snapshot.instances}
    for name in _names(scene):
        record = records.get(name)
        state = _state(scene, name, record)
        alive = record if state != "down" else None
        table.add_row(
            Text(name, "bold" if state == "holder" else ""),
            scene.places.get(name) or (record.executor.datacenter if record else ""),
            Text(state, INSTANCE_STATES.get(state, "")),
            str(alive.running) if alive else "-",
            _beat(scene.snapshot.term.read_at, alive),
        )
    return Group(_heading("instances"), table)


def _names(scene: Scene) -> list[str]:
    others = {record.executor.name for record in scene.snapshot.instances} - scene.places.keys()
    return [*scene.places, *sorted(others)]


def _state(scene: Scene, name: str, record: InstanceRecord | None) -> str:
    """Return what an instance is doing; the term knows first who holds."""
    if name in scene.down:
        return "down"
    if record is None:
        return "starting"
    if scene.snapshot.term.holder_id == record.executor.id:
        return "holder"
    return "standby" if record.state == "holder" else record.state


def _beat(now: datetime, record: InstanceRecord | None) -> Text:
    if record is None:
        return Text("-")
    age = max(now - record.beat_at, timedelta())
    return Text(f"{age.total_seconds():.0f} s ago", "" if age < BEAT_FINE else "bold red")


def _running(scene: Scene, rows: int) -> Table:
    table = Table.grid(expand=True, padding=(0, 1, 0, 0))
    table.add_column(ratio=3, no_wrap=True, overflow="ellipsis")
    table.add_column(width=6, no_wrap=True)
    table.add_column(width=BAR_WIDTH, no_wrap=True)
    table.add_column(width=5, no_wrap=True, justify="right")
    table.add_column(ratio=2, no_wrap=True, overflow="ellipsis", style="dim")
    present = {
        record.executor.id for record in scene.snapshot.instances if record.executor.name not in scene.down
    }
    runs = sorted(scene.snapshot.running, key=lambda run: _is_lost(run, present))
    shown = runs if len(runs) <= rows else runs[: rows - 1]
    for run in shown:
        table.add_row(*_running_row(run, scene.snapshot.term.read_at, lost=_is_lost(run, present)))
    if len(shown) < len(runs):
        table.add_row(Text(f"and {len(runs) - len(shown)} more", "dim"))
    return _padded(table, len(shown) + (len(shown) < len(runs)), rows)


def _is_lost(run: Run, present: set[str]) -> bool:
    """Whether the instance that executes it is not there any more; the holder will abandon it."""
    return run.executor is not None and run.executor.id not in present


def _running_row(run: Run, now: datetime, *, lost: bool) -> tuple[RenderableType, ...]:
    where = Text(run.executor.name if run.executor else "", "dim" if lost else "")
    since = seconds_text(max((now - run.started_at).total_seconds(), 0)) if run.started_at else ""
    progress = run.progress
    if lost:
        return Text(run.job, "dim"), where, Text("its instance died", "red"), "", ""
    if progress is None:
        return run.job, where, Text(f"for {since}", "dim"), "", ""
    if not progress.total:
        return run.job, where, Text(f"{progress.done:g}", "cyan"), "", Text(f"{since} {progress.message}")
    share = min(max(progress.done / progress.total, 0), 1)
    bar = ProgressBar(
        total=1.0, completed=share, width=BAR_WIDTH, complete_style="cyan", finished_style="green"
    )
    return run.job, where, bar, f"{share:.0%}", Text(progress.message)


def _latest(scene: Scene, rows: int, *, wide: bool) -> RenderableType:
    columns: list[tuple[str, int | None, str | None]] = [
        ("slot", 8, None),
        ("last runs", None, None),
        ("kind", 7, None),
        ("outcome", 9, None),
        ("late", 7, "right"),
        ("took", 7, "right"),
        ("on", 6, None),
    ]
    table = _table(*columns, *([("", None, None)] if wide else []), header=True)
    runs = scene.snapshot.latest[:rows]
    for run in runs:
        table.add_row(*_latest_row(run, scene.snapshot.kinds or {}), *([_detail(run)] if wide else []))
    return _padded(table, len(runs), rows)


def _latest_row(run: Run, kinds: Mapping[str, str]) -> tuple[RenderableType, ...]:
    kind = kinds.get(run.job, "")
    return (
        f"{run.slot:%H:%M:%S}",
        run.job,
        Text(KINDS.get(kind, kind), "dim"),
        Text(run.state.value, STATES.get(run.state, "")),
        seconds_text(run.lateness_s),
        seconds_text(run.duration_s),
        Text(run.executor.name if run.executor else ""),
    )


def _detail(run: Run) -> Text:
    outcome = run.outcome
    said = run.reason or (outcome and (outcome.error or outcome.reason)) or ""
    if not said and outcome and outcome.output:
        said = outcome.output.head.partition("\n")[0]
    return Text(said.partition("\n")[0], "dim", no_wrap=True, overflow="ellipsis")


def _upcoming(scene: Scene, rows: int) -> Table:
    table = Table.grid(expand=True, padding=(0, 1, 0, 0))
    table.add_column(width=8, no_wrap=True)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column(width=8, no_wrap=True, justify="right", style="dim")
    now = scene.snapshot.term.read_at
    upcoming = scene.snapshot.upcoming[:rows]
    for each in upcoming:
        table.add_row(f"{each.slot:%H:%M:%S}", each.job, f"in {_length(each.slot - now)}")
    return _padded(table, len(upcoming), rows)


def _foot(scene: Scene) -> Text:
    return _line(("Ctrl-C stops everything.", "bold"), (f" {scene.hint}" if scene.hint else "", "dim"))


def _section(title: str, count: int | None, content: RenderableType) -> Group:
    return Group(_heading(title if not count else f"{title} ({count})"), content)


def _heading(title: str) -> Rule:
    return Rule(Text(title, "bold"), align="left", style=Style(dim=True))


def _table(*columns: tuple[str, int | None, str | None], header: bool = False) -> Table:
    table = Table(
        box=None, expand=header, show_header=header, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold"
    )
    for title, width, justify in columns:
        table.add_column(
            title,
            width=width,
            ratio=None if width else 1,
            justify="right" if justify == "right" else "left",
            no_wrap=True,
            overflow="ellipsis",
        )
    return table


def _padded(table: Table, used: int, rows: int) -> Table:
    """Fill up to `rows`, so that what stands below does not jump."""
    for _ in range(rows - used):
        table.add_row("")
    return table


def _line(*parts: tuple[str, str]) -> Text:
    text = Text.assemble(*(part for part in parts if part[0]))
    text.no_wrap = True
    text.overflow = "ellipsis"
    return text


def seconds_text(seconds: float | None) -> str:
    """Return a short length: 8 ms, 1.24 s, 75 s."""
    if seconds is None:
        return ""
    if abs(seconds) < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.2f} s" if abs(seconds) < 10 else f"{seconds:.0f} s"  # noqa: PLR2004  digits, not a policy


def _length(length: timedelta) -> str:
    """Return a length for people: 12 s, 3 min 20 s, 2 h 5 min."""
    seconds = max(int(length.total_seconds()), 0)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} m" if minutes else f"{hours} h"
    return f"{minutes} m {seconds} s" if minutes else f"{seconds} s"
