"""Jobs, instants and ranges that the tests of the pure decisions share."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, TypeVar

from hypothesis import strategies as st

from cronexec.domain.job import Job, JobDocument
from cronexec.domain.ledger import Claiming, claim
from cronexec.domain.occupancy import Occupancy
from cronexec.domain.plan import Due
from cronexec.domain.run import Run, RunState
from cronexec.domain.schedule import Schedule

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
MINUTELY = {"every": "1m"}
_Decided = TypeVar("_Decided")


def at(clock: str) -> datetime:
    """Return an instant of the day of `NOON`: `12:00` or `12:00:01.250`."""
    return datetime.fromisoformat(f"2026-03-02T{clock}+00:00")


def document(
    schedule: Mapping[str, Any] | Schedule = MINUTELY, *, name: str = "backup", **fields: Any
) -> JobDocument:
    target = {"type": "handler", "name": "save"}
    return JobDocument.parse({"name": name, "schedule": schedule, "target": target, **fields})


def job(
    schedule: Mapping[str, Any] | Schedule = MINUTELY,
    *,
    name: str = "backup",
    from_at: datetime = NOON - timedelta(days=1),
    version: int = 1,
    **fields: Any,
) -> Job:
    return Job(
        document=document(schedule, name=name, **fields),
        version=version,
        revision=version,
        from_at=from_at,
        updated_at=from_at,
    )


def queued(run_id: str, *, job: str = "backup", slot: datetime = NOON, **fields: Any) -> Run:
    return Run(id=run_id, job=job, version=1, slot=slot, epoch=1, **{"state": RunState.QUEUED, **fields})


def claim_all(
    planned: Job,
    after: datetime,
    until: datetime,
    *,
    occupancy: Occupancy | None = None,
    judged_at: datetime | None = None,
) -> list[Run]:
    """Claim every slot in (after, until], as the scheduler does."""
    first = planned.schedule.next_after(after)
    if first is None or first > until:
        return []
    claiming = Claiming(epoch=1, until=until, judged_at=judged_at or until)
    return decided(claim(Due(job=planned, first=first, after=after), claiming, occupancy or Occupancy()))


def decided(steps: Iterable[_Decided | None]) -> list[_Decided]:
    """Return what is decided, without the steps in between."""
    return [step for step in steps if step is not None]


def covering(entries: Iterable[Run], slots: Iterable[datetime]) -> Iterator[int]:
    """Yield for each slot how many entries account for it."""
    known = list(entries)
    for slot in slots:
        yield sum(entry.covers(slot) for entry in known)


CRONS = ("* * * * *", "*/7 * * * *", "30 2 * * *", "*/20 1-3 * * *", "*/10 * * * * *", "0,45 */2 * * *")
ZONES = ("UTC", "Europe/Amsterdam", "Australia/Lord_Howe")
AROUND = (-MILLISECOND, timedelta(), MILLISECOND, SECOND, SECOND + MILLISECOND)
NIGHTS = ("2026-03-29T00:00+00:00", "2026-10-25T00:00+00:00", "2026-04-04T14:00+00:00")

schedules = st.one_of(
    st.builds(lambda seconds: {"every": seconds}, st.just(1) | st.integers(1, 2_000)),
    st.builds(
        lambda cron, zone: {"cron": cron, "timezone": zone}, st.sampled_from(CRONS), st.sampled_from(ZONES)
    ),
)
instants = st.builds(
    lambda night, away: datetime.fromisoformat(night) + timedelta(milliseconds=away),
    st.sampled_from(NIGHTS),
    st.integers(0, 3_600_000),
)
lengths = st.one_of(
    st.integers(1, 3_000).map(lambda count: timedelta(milliseconds=count)),
    st.integers(0, 300).map(lambda count: timedelta(seconds=count)),
    st.integers(300_000, 3_000_000).map(lambda count: timedelta(milliseconds=count)),
)
overlaps = st.sampled_from(
    [
        "queue",
        "skip",
        "allow",
        "replace",
        {"queue_limit": 3},
        {"queue_limit": 0},
        {"policy": "allow", "max_running": 2},
        {"policy": "allow", "max_running": 3, "queue_limit": 0},
    ]
)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A job whose slots in (after, until] are to be decided: `slots`, one at least."""

    job: Job
    after: datetime
    until: datetime
    judged_at: datetime
    slots: list[datetime]


@st.composite
def decisions(draw: st.DrawFn) -> Decision:
    """Draw up to 30 slots, and a grace that parts them anywhere: between two, at one, before or after all."""
    schedule = job(draw(schedules)).schedule
    after = draw(instants)
    following = islice(schedule.slots(after, after + timedelta(days=60)), draw(st.integers(2, 31)))
    *slots, beyond = following
    until = min(slots[-1] + draw(st.sampled_from([*AROUND[1:], MINUTE])), beyond - MILLISECOND)
    judged_at = until + draw(st.just(timedelta()) | lengths)
    parted_at = draw(st.sampled_from([after - MINUTE, *slots])) + draw(st.sampled_from(AROUND))
    grace = max(judged_at - parted_at, timedelta()) // MILLISECOND
    misfire = {
        "policy": draw(st.sampled_from(["latest", "all", "skip"])),
        "grace": f"{grace}ms",
        "limit": draw(st.integers(1, 12)),
    }
    planned = job(schedule, misfire=misfire, overlap=draw(overlaps))
    return Decision(job=planned, after=after, until=until, judged_at=judged_at, slots=slots)
