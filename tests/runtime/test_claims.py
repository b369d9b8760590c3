"""Claims that take long: they stop for a write now and then, and go on where they were."""

from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from bench import NOON, document

from cronexec.domain.job import Job
from cronexec.domain.ledger import Claiming
from cronexec.domain.occupancy import Occupancy
from cronexec.domain.plan import Due
from cronexec.log import get_logger
from cronexec.runtime.claims import LONGEST, Claims
from cronexec.runtime.decision import Decision
from cronexec.runtime.service import Breather

SECOND = timedelta(seconds=1)
TWO_HOURS_AGO = NOON - timedelta(hours=2)
EVERY_OTHER_SECOND = [{"cron": "*/2 * * * * *"}]


class Slow:
    """A clock on which every look takes a hundredth of a second."""

    def __init__(self) -> None:
        self._looks = count()
        self.now = 0.0

    def monotonic(self) -> float:
        self.now = next(self._looks) / 100
        return self.now


def waiting(schedule: dict[str, Any], **fields: Any) -> Claims:
    """Return the claims of a job that nobody has looked at for two hours."""
    planned = Job(
        document=document("backup", schedule, **fields),
        version=1,
        revision=1,
        from_at=TWO_HOURS_AGO,
        updated_at=TWO_HOURS_AGO,
    )
    first = planned.schedule.next_after(TWO_HOURS_AGO)
    assert first is not None
    claims = Claims(Occupancy(), unavailable=lambda _: None, log=get_logger())
    due = Due(job=planned, first=first, after=TWO_HOURS_AGO)
    claims.add([due], Claiming(epoch=1, until=NOON, judged_at=NOON))
    return claims


async def decisions(claims: Claims, clock: Slow) -> list[tuple[Decision, float]]:
    """Let everything be decided; returns each decision with how long it took."""
    made: list[tuple[Decision, float]] = []
    while claims.are_waiting:
        began_at = clock.now
        decision = Decision(epoch=1, until=NOON, watermark=NOON, revision=0)
        await claims.fill(decision, 500, Breather(clock.monotonic))
        made.append((decision, clock.now - began_at))
    return made


@pytest.mark.parametrize(
    ("schedule", "fields", "reasons"),
    [
        ({"every": "2s", "exclude": EVERY_OTHER_SECOND}, {}, ["excluded"]),
        (
            {"every": "1s"},
            {"overlap": "skip", "misfire": {"policy": "all", "limit": 7_000, "grace": "0s"}},
            ["misfire", None, "overlap"],
        ),
    ],
)
async def test_a_decision_that_takes_long_is_written_in_parts(
    schedule: dict[str, Any], fields: dict[str, Any], reasons: list[str | None]
) -> None:
    """A holder that writes nothing for as long as its lease loses its term, and so would every next one."""
    claims, clock = waiting(schedule, **fields), Slow()
    made = await decisions(claims, clock)
    assert len(made) > 10
    assert max(took for _, took in made) < LONGEST + 0.5
    claimed = [entry for decision, _ in made for entry in decision.entries.values()]
    assert [entry.reason for entry in claimed] == reasons
    assert claimed[-1].until == NOON
    assert sum(len(decision.due.get(NOON, ())) for decision, _ in made) == 1
