"""What every store promises of runs that are tried again: one write, once, and the former attempt is kept."""

from datetime import timedelta

import pytest
from stores import ANNA, begin, entry, slot_at, write

from cronexec.domain.ledger import Requeue
from cronexec.domain.run import AttemptRecord, Outcome, Run, RunState
from cronexec.domain.term import Term
from cronexec.ports import Finish, Settle, Start, Store

TOKEN, NEXT = "t1", "t2"
START = Start(token=TOKEN, executor=ANNA, at=slot_at(2))
FAILED = Outcome(state=RunState.FAILED, error="no: $state is {'$set': 1}", exit_code=3)
ABANDONED = Outcome(state=RunState.ABANDONED, reason="instance_lost")
AGAIN_AT = slot_at(60)


def ending(run: Run, outcome: Outcome = FAILED, **fields: object) -> Finish:
    given: dict[str, object] = {"run_id": run.id, "attempt": 1, "token": TOKEN, "outcome": outcome}
    return Finish(**(given | {"started_at": slot_at(3), "finished_at": slot_at(4)} | fields))  # type: ignore[arg-type]


async def started(store: Store, *runs: Run) -> Term:
    term = await write(store, await begin(store), entries=runs)
    assert await store.runs.start(runs, START) == [run.id for run in runs]
    return term


async def found(store: Store, run: Run) -> Run:
    answer = await store.runs.get(run.id)
    assert answer is not None
    return answer


async def test_an_attempt_that_is_followed_by_another_is_queued_again_in_one_write(store: Store) -> None:
    run = entry("a")
    await started(store, run)
    assert await store.runs.finish([ending(run, again_at=AGAIN_AT)]) == []
    again = await found(store, run)
    assert (again.state, again.attempt, again.not_before) == (RunState.QUEUED, 2, AGAIN_AT)
    assert (again.token, again.executor, again.started_at, again.finished_at) == (None, None, None, None)
    assert (again.outcome, again.reason) == (None, "retry")
    former = AttemptRecord(
        attempt=1, outcome=FAILED, started_at=slot_at(3), finished_at=slot_at(4), executor=ANNA, token=TOKEN
    )
    assert again.attempts == (former,)
    assert [each.id for each in await store.runs.unsettled()] == [run.id]


async def test_an_outcome_whose_answer_was_lost_queues_the_run_again_once(store: Store) -> None:
    run = entry("a")
    term = await started(store, run)
    assert await store.runs.finish([ending(run, again_at=AGAIN_AT)]) == []
    assert await store.runs.finish([ending(run, again_at=AGAIN_AT)]) == []
    assert (await found(store, run)).attempt == 2
    second = await found(store, run)
    assert second.epoch == term.epoch
    assert await store.runs.start([second], Start(token=NEXT, executor=ANNA, at=slot_at(70))) == [run.id]
    assert await store.runs.finish([ending(run, again_at=AGAIN_AT)]) == []
    assert (await found(store, run)).state is RunState.RUNNING


async def test_the_next_attempt_ends_the_run_and_the_former_one_stays(store: Store) -> None:
    run = entry("a")
    await started(store, run)
    await store.runs.finish([ending(run, again_at=AGAIN_AT)])
    await store.runs.start([await found(store, run)], Start(token=NEXT, executor=ANNA, at=slot_at(70)))
    done = Outcome(state=RunState.SUCCEEDED)
    assert await store.runs.finish([ending(run, done, attempt=2, token=NEXT)]) == []
    ended = await found(store, run)
    assert (ended.state, ended.attempt, len(ended.attempts)) == (RunState.SUCCEEDED, 2, 1)
    assert await store.runs.unsettled() == []


async def test_a_run_that_was_abandoned_meanwhile_is_not_queued_again_by_its_executor(store: Store) -> None:
    run = entry("a")
    term = await started(store, run)
    gone = Settle(
        run_id=run.id, attempt=1, expected=RunState.RUNNING, outcome=ABANDONED, at=slot_at(5), token=TOKEN
    )
    await write(store, term, settles=[gone])
    assert await store.runs.finish([ending(run, again_at=AGAIN_AT)]) == [run.id]
    assert (await found(store, run)).state is RunState.ABANDONED
    assert await store.runs.finish([ending(run)]) == []
    assert (await found(store, run)).state is RunState.FAILED


async def test_a_term_queues_a_running_run_again_with_the_outcome_that_it_says(store: Store) -> None:
    run = entry("a")
    term = await started(store, run)
    again = Requeue(
        run_id=run.id,
        attempt=1,
        expected=RunState.RUNNING,
        at=slot_at(9),
        reason="instance_lost",
        outcome=ABANDONED,
        token=TOKEN,
    )
    await write(store, term, requeues=[again])
    queued = await found(store, run)
    assert (queued.state, queued.attempt, queued.epoch) == (RunState.QUEUED, 2, term.epoch)
    assert [(each.outcome, each.finished_at) for each in queued.attempts] == [(ABANDONED, slot_at(9))]
    assert await store.runs.finish([ending(run)]) == [run.id], (
        "the former attempt has nothing to say any more"
    )


async def test_a_settled_run_is_queued_again_by_hand_and_forgets_who_cancelled_it(store: Store) -> None:
    run = entry("a")
    term = await started(store, run)
    term = await write(store, term, cancels={run.id: "eve"})
    cancelled = Outcome(state=RunState.CANCELLED, reason="cancelled by eve")
    await store.runs.finish([ending(run, cancelled)])
    again = Requeue(
        run_id=run.id, attempt=1, expected=RunState.CANCELLED, at=slot_at(9), reason="retried by eve"
    )
    await write(store, term, requeues=[again])
    queued = await found(store, run)
    assert (queued.state, queued.cancel_requested_by, queued.not_before) == (RunState.QUEUED, None, None)
    assert [(each.outcome, each.finished_at) for each in queued.attempts] == [(cancelled, slot_at(4))]


@pytest.mark.parametrize(
    "wrong", [{"attempt": 2}, {"expected": RunState.FAILED}, {"token": "other"}], ids=str
)
async def test_a_requeue_that_does_not_match_has_no_effect(store: Store, wrong: dict[str, object]) -> None:
    run = entry("a")
    term = await started(store, run)
    given: dict[str, object] = {"run_id": run.id, "attempt": 1, "expected": RunState.RUNNING}
    fields = given | {"at": slot_at(9), "reason": "retry"} | wrong
    before = await found(store, run)
    await write(store, term, requeues=[Requeue(**fields)])  # type: ignore[arg-type]
    assert await found(store, run) == before


async def test_an_undecided_run_is_unsettled_until_it_is_decided(store: Store) -> None:
    run, other = entry("a"), entry("b")
    term = await started(store, run, other)
    gone = Settle(
        run_id=run.id,
        attempt=1,
        expected=RunState.RUNNING,
        outcome=ABANDONED,
        at=slot_at(5),
        token=TOKEN,
        undecided=True,
    )
    term = await write(store, term, settles=[gone])
    assert await store.runs.finish([ending(other, ABANDONED, undecided=True)]) == []
    assert [(each.id, each.undecided) for each in await store.runs.unsettled()] == [
        (run.id, True),
        (other.id, True),
    ]
    decided = Settle(run_id=run.id, attempt=1, expected=RunState.ABANDONED, outcome=FAILED, at=slot_at(9))
    await write(store, term, settles=[decided])
    assert not (await found(store, run)).undecided
    late = ending(other, Outcome(state=RunState.SUCCEEDED), finished_at=slot_at(4) + timedelta(seconds=1))
    assert await store.runs.finish([late]) == []
    assert await store.runs.unsettled() == []
    assert not (await found(store, other)).undecided
