"""What the watcher makes of a begin: judged by the last look that an instance could take."""

from dataclasses import replace

import pytest
from account import SECOND, Account
from effects import Effects
from exclusions import excluded_by
from history import History
from simulated_clock import NOON, ServerClock

from cronexec.adapters.memory_store import MemoryDatabase
from cronexec.domain.run import Executor, Outcome, Run, RunState
from cronexec.domain.schedule import Schedule

HERE = Executor(id="i-1", name="m1", datacenter="east")
ELSEWHERE = Executor(id="i-2", name="m2", datacenter="east")
LOST = Outcome(state=RunState.ABANDONED, reason="instance_lost")
RUN = Run(
    id="a@2026-11-20T12:00:00Z",
    job="a",
    version=1,
    slot=NOON,
    state=RunState.RUNNING,
    epoch=1,
    executor=HERE,
    started_at=NOON,
)
GIVEN_UP = replace(RUN, state=RunState.ABANDONED, outcome=LOST)
TRIED_AGAIN = GIVEN_UP.queued_again(None, ended_at=NOON, not_before=None, reason="instance_lost")


def broken(
    there: Run | None, *, stood_still: bool = False, lease_left: float = 1.0, run: Run = RUN
) -> str | None:
    """Return the rule that a begin of `run` breaks, with `there` in the ledger."""
    history = History(lambda: 0.0)
    database = MemoryDatabase(ServerClock(lambda: 0.0))
    if there is not None:
        database.runs[there.id] = there
    effects = Effects(Account(history=history, database=database))
    effects.begins(run, HERE, lease_left=lease_left, stood_still=stood_still)
    return history.violation.rule if history.violation else None


@pytest.mark.parametrize(
    ("there", "awake", "frozen"),
    [
        (RUN, None, None),
        (None, "I5", "I5"),
        (replace(RUN, executor=ELSEWHERE), "I5", "I5"),
        (replace(RUN, state=RunState.QUEUED, executor=None), "I5", "I5"),
        (GIVEN_UP, "I5", None),
        (TRIED_AGAIN, "I5", None),
        (replace(TRIED_AGAIN, state=RunState.RUNNING, executor=ELSEWHERE), "I5", None),
        (replace(GIVEN_UP, executor=ELSEWHERE), "I5", "I5"),
        (replace(GIVEN_UP, outcome=Outcome(state=RunState.ABANDONED, reason="shutdown")), "I5", "I5"),
        (replace(RUN, state=RunState.CANCELLED, outcome=Outcome(state=RunState.CANCELLED)), "I5", "I5"),
    ],
)
def test_only_who_stood_still_after_its_last_look_may_begin_what_was_given_up(
    there: Run | None, awake: str | None, frozen: str | None
) -> None:
    assert (broken(there), broken(there, stood_still=True)) == (awake, frozen)


def test_nobody_begins_after_its_lease_or_before_its_instant() -> None:
    assert broken(RUN, lease_left=0.0) == "I5"
    assert broken(RUN, lease_left=0.0, stood_still=True) == "I5"
    assert broken(RUN, run=replace(RUN, not_before=NOON + 2 * SECOND)) == "retry"


def test_the_watchers_own_reading_of_exclusions_agrees_with_the_domains() -> None:
    stretch = "2026-11-20T12:00:03Z/2026-11-20T12:00:05Z"
    schedule = Schedule.from_document(
        {"every": "1s", "exclude": [{"cron": "*/4 * * * * *"}, stretch, "2026-11-20T12:00:09Z"]}, name="a"
    )
    slots = [NOON + number * SECOND for number in range(12)]
    told = [excluded_by(schedule.to_document(), slot) for slot in slots]
    every = "*/4 * * * * *"
    assert told == [
        every,
        None,
        None,
        stretch,
        every,
        stretch,
        None,
        None,
        every,
        "2026-11-20T12:00:09Z",
        None,
        None,
    ]
    assert told == [schedule.excluded(slot) for slot in slots]
