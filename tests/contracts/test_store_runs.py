"""What every `RunStore` promises: each move is a compare-and-set and says whether it happened."""

from dataclasses import replace
from datetime import timedelta

import pytest
from stores import ANNA, BERT, SECOND, begin, entry, skip, slot_at, succeeded, write

from cronexec.domain.run import Cause, Outcome, Output, Progress, Run, RunState
from cronexec.domain.term import Term
from cronexec.ports import CloseRange, Finish, Reach, RunFilter, Settle, Start, Store

FIRST, AGAIN, OTHER = "t1", "t2", "t3"
START = Start(token=FIRST, executor=ANNA, at=slot_at(2))
ABANDONED = Outcome(state=RunState.ABANDONED, reason="instance_lost")
PAUSED = skip("p", 60, open_ended=True)


async def claimed(store: Store, *entries: Run) -> Term:
    return await write(store, await begin(store), entries=entries)


async def started(store: Store, *entries: Run) -> Term:
    term = await claimed(store, *entries)
    assert await store.runs.start(entries, START) == [run.id for run in entries]
    return term


async def found(store: Store, run: Run) -> Run:
    answer = await store.runs.get(run.id)
    assert answer is not None
    return answer


def finish(run: Run, outcome: Outcome | None = None, *, token: str = FIRST, attempt: int = 1) -> Finish:
    return Finish(
        run_id=run.id,
        attempt=attempt,
        token=token,
        outcome=outcome or succeeded(),
        started_at=slot_at(3),
        finished_at=slot_at(4),
    )


def settle(run: Run, expected: RunState, outcome: Outcome, *, attempt: int = 1) -> Settle:
    return Settle(run_id=run.id, attempt=attempt, expected=expected, outcome=outcome, at=slot_at(9))


async def test_an_entry_comes_back_as_it_was_written(store: Store) -> None:
    full = entry(
        "full",
        version=3,
        attempt=2,
        cause=Cause.TRIGGER,
        reason="target_unavailable",
        catch_up=True,
        params={"league": 7, "a.b": {"$each": [1, None, {"": 2.5}]}},
        issued_by="eve",
    )
    entries = [full, entry("plain"), skip("one"), skip("range", until=slot_at(60)), PAUSED]
    await claimed(store, *entries)
    assert await store.runs.get_many([run.id for run in entries]) == {run.id: run for run in entries}


async def test_ids_that_are_not_there_are_left_out(store: Store) -> None:
    await claimed(store, entry("a"))
    ids = [entry("a").id, "nothing"]
    assert await store.runs.get("nothing") is None
    assert await store.runs.states(ids) == {ids[0]: RunState.QUEUED}
    assert list(await store.runs.get_many(ids)) == [ids[0]]


async def test_unsettled_runs_are_the_queued_and_running_ones_by_slot(store: Store) -> None:
    late, early, running, done = entry("a", 5), entry("b", 1), entry("c", 3), entry("d")
    await claimed(store, late, early, running, done, skip("e"), PAUSED)
    await store.runs.start([running, done], START)
    await store.runs.finish([finish(done)])
    assert [run.job for run in await store.runs.unsettled()] == ["b", "c", "a"]


async def test_entries_beyond_the_watermark_are_found(store: Store) -> None:
    trigger = replace(entry("t", 90), id="t#key", cause=Cause.TRIGGER)
    across = skip("range", 0, until=slot_at(90))
    before = [entry("a", 59), skip("b", 60), skip("c", 0, until=slot_at(60))]
    await claimed(store, entry("d", 61), across, trigger, *before, PAUSED)
    assert await store.runs.beyond(slot_at(60)) == [
        Reach(job="range", slot=slot_at(0), until=slot_at(90)),
        Reach(job="p", slot=PAUSED.slot),
        Reach(job="d", slot=slot_at(61)),
    ]


async def test_a_start_moves_queued_runs_of_its_term_and_attempt(store: Store) -> None:
    good, other_epoch, other_attempt = entry("a"), entry("b"), entry("c")
    await claimed(store, good, other_epoch, other_attempt, skip("d"))
    wanted = [replace(other_epoch, epoch=9), good, replace(other_attempt, attempt=2), skip("d")]
    assert await store.runs.start(wanted, START) == [good.id]
    run = await found(store, good)
    assert (run.state, run.token, run.executor, run.started_at) == (RunState.RUNNING, "t1", ANNA, slot_at(2))
    assert (await found(store, other_epoch)).state is RunState.QUEUED


async def test_a_run_starts_once_and_the_same_start_may_be_repeated(store: Store) -> None:
    runs = [entry("a"), entry("b", reason="target_unavailable")]
    await claimed(store, *runs)
    assert await store.runs.start(runs[1:], START) == [runs[1].id]
    assert (await found(store, runs[1])).reason is None
    assert await store.runs.start(runs, START) == [runs[0].id, runs[1].id]
    assert await store.runs.start(runs, Start(token=AGAIN, executor=BERT, at=slot_at(3))) == []
    assert (await found(store, runs[0])).executor == ANNA


async def test_a_run_that_never_began_is_given_back(store: Store) -> None:
    mine, others = entry("a"), entry("b")
    await started(store, mine, others)
    await store.runs.give_back([mine.id], "t1")
    await store.runs.give_back([others.id], "another token")
    assert await store.runs.get(mine.id) == mine
    assert (await found(store, others)).state is RunState.RUNNING
    assert await store.runs.start([mine], Start(token=AGAIN, executor=BERT, at=slot_at(3))) == [mine.id]


async def test_a_start_that_arrives_after_its_runs_were_given_back_moves_nothing(store: Store) -> None:
    """Its first copy went unanswered, so the instance gave back what it may have started."""
    queued, started_before = entry("a"), entry("b")
    await claimed(store, queued, started_before)
    await store.runs.start([started_before], START)
    await store.runs.give_back([queued.id, started_before.id, "nothing"], START.token)
    assert await store.runs.start([queued, started_before], START) == []
    assert await store.runs.get(queued.id) == queued
    assert await store.runs.get(started_before.id) == started_before


async def test_what_was_given_back_starts_with_another_token(store: Store) -> None:
    run = entry("a")
    await claimed(store, run)
    await store.runs.give_back([run.id], START.token)
    assert await store.runs.start([run], Start(token=AGAIN, executor=BERT, at=slot_at(3))) == [run.id]
    await store.runs.give_back([run.id], START.token)
    assert ((await found(store, run)).state, (await found(store, run)).token) == (RunState.RUNNING, AGAIN)


async def test_an_outcome_is_recorded_with_its_output(store: Store) -> None:
    run = entry("a")
    await started(store, run)
    outcome = Outcome(
        state=RunState.FAILED,
        reason="exit",
        error="it failed",
        exit_code=-9,
        status=503,
        output=Output(head="ü", tail="z", dropped=5),
    )
    assert await store.runs.finish([finish(run, outcome)]) == []
    ended = await found(store, run)
    assert (ended.state, ended.outcome, ended.finished_at) == (RunState.FAILED, outcome, slot_at(4))
    assert (ended.started_at, ended.token, ended.duration_s) == (slot_at(3), "t1", 1.0)


async def test_recording_the_same_outcome_again_is_recorded(store: Store) -> None:
    run, other = entry("a"), entry("b")
    await started(store, run, other)
    await store.runs.finish([finish(run)])
    assert await store.runs.finish([finish(run), finish(other)]) == []
    failed = Outcome(state=RunState.FAILED)
    assert await store.runs.finish([finish(run, failed)]) == [run.id]
    assert (await found(store, run)).state is RunState.SUCCEEDED


async def test_an_outcome_needs_attempt_token_and_a_started_run(store: Store) -> None:
    run, queued = entry("a"), entry("q")
    term = await started(store, run)
    await write(store, term, entries=[queued])
    wrong = [finish(run, attempt=2), finish(queued), replace(finish(run), run_id="nothing")]
    assert await store.runs.finish(wrong) == [run.id, queued.id, "nothing"]
    assert await store.runs.finish([finish(run, token=AGAIN)]) == [run.id]
    assert await store.runs.states([run.id, queued.id]) == {
        run.id: RunState.RUNNING,
        queued.id: RunState.QUEUED,
    }


async def test_a_late_outcome_replaces_abandoned(store: Store) -> None:
    run = entry("a")
    term = await started(store, run)
    await write(store, term, settles=[settle(run, RunState.RUNNING, ABANDONED)])
    abandoned = await found(store, run)
    assert (abandoned.state, abandoned.outcome) == (RunState.ABANDONED, ABANDONED)
    assert await store.runs.finish([finish(run, ABANDONED)]) == [run.id]
    assert await store.runs.finish([finish(run)]) == []
    late = await found(store, run)
    assert (late.state, late.outcome, late.finished_at) == (RunState.SUCCEEDED, succeeded(), slot_at(4))


async def test_a_settlement_needs_the_expected_state_and_attempt(store: Store) -> None:
    done, queued, running = entry("a"), entry("b"), entry("c")
    term = await started(store, done, running)
    term = await write(store, term, entries=[queued])
    await store.runs.finish([finish(done)])
    cancelled = Outcome(state=RunState.CANCELLED, reason="deleted")
    await write(
        store,
        term,
        settles=[
            settle(done, RunState.RUNNING, ABANDONED),
            settle(queued, RunState.QUEUED, cancelled),
            settle(running, RunState.RUNNING, ABANDONED, attempt=2),
            replace(settle(running, RunState.RUNNING, ABANDONED), token=OTHER),
        ],
    )
    assert await store.runs.states([done.id, queued.id, running.id]) == {
        done.id: RunState.SUCCEEDED,
        queued.id: RunState.CANCELLED,
        running.id: RunState.RUNNING,
    }
    settled = await found(store, queued)
    assert (settled.outcome, settled.finished_at) == (cancelled, slot_at(9))


@pytest.mark.parametrize(("until", "covers"), [(59, None), (60, 60), (120, 120)])
async def test_an_open_range_is_closed_or_removed(store: Store, until: int, covers: int | None) -> None:
    term = await claimed(store, PAUSED)
    await write(store, term, closes=[CloseRange(run_id=PAUSED.id, until=slot_at(until))])
    closed = await store.runs.get(PAUSED.id)
    if covers is None:
        assert closed is None
    else:
        assert closed == replace(PAUSED, open_ended=False, until=slot_at(covers))


async def test_ranges_of_several_instants_are_closed_by_one_write(store: Store) -> None:
    ranges = [replace(PAUSED, id=f"p{number}@x", job=f"p{number}") for number in range(4)]
    term = await claimed(store, *ranges)
    ends = [slot_at(90), slot_at(59), slot_at(90), slot_at(70)]
    closes = [CloseRange(run_id=each.id, until=until) for each, until in zip(ranges, ends, strict=True)]
    await write(store, term, closes=closes)
    found = await store.runs.get_many([each.id for each in ranges])
    assert {run_id: run.until for run_id, run in found.items()} == {
        "p0@x": slot_at(90),
        "p2@x": slot_at(90),
        "p3@x": slot_at(70),
    }
    assert not any(run.open_ended for run in found.values())


async def test_a_closed_range_stays_as_it_is(store: Store) -> None:
    term = await claimed(store, PAUSED)
    term = await write(store, term, closes=[CloseRange(run_id=PAUSED.id, until=slot_at(90))])
    await write(store, term, closes=[CloseRange(run_id=PAUSED.id, until=slot_at(10))])
    assert (await found(store, PAUSED)).until == slot_at(90)


async def test_a_range_may_be_opened_and_closed_by_one_write(store: Store) -> None:
    await write(
        store, await begin(store), entries=[PAUSED], closes=[CloseRange(run_id=PAUSED.id, until=slot_at(70))]
    )
    assert (await found(store, PAUSED)).until == slot_at(70)


async def test_the_last_progress_is_recorded_with_the_outcome_and_an_earlier_one_stays(store: Store) -> None:
    run, other = entry("a"), entry("b")
    await started(store, run, other)
    half, whole = (Progress(done=done, total=10, at=slot_at(5)) for done in (5, 10))
    await store.runs.progress({(run.id, "t1"): half, (other.id, "t1"): half})
    assert await store.runs.finish([replace(finish(run), progress=whole), finish(other)]) == []
    assert (await found(store, run)).progress == whole
    assert (await found(store, other)).progress == half


async def test_progress_is_recorded_by_token_while_the_run_runs(store: Store) -> None:
    run, other, ended = entry("a"), entry("b"), entry("c")
    await started(store, run, other, ended)
    await store.runs.finish([finish(ended)])
    progress = Progress(done=0, total=10, message="matches", at=slot_at(5))
    await store.runs.progress(
        {(run.id, "t1"): progress, (other.id, "t9"): progress, (ended.id, "t1"): progress}
    )
    assert (await found(store, run)).progress == progress
    assert (await found(store, other)).progress is None
    assert (await found(store, ended)).progress is None
    await store.runs.progress({})
    assert await store.runs.finish([]) == []


async def test_cancel_requests_reach_the_executor_that_runs_it(store: Store) -> None:
    run, queued, others, ended = entry("a"), entry("b"), entry("c"), entry("d")
    term = await started(store, run, ended)
    term = await write(store, term, entries=[queued, others])
    await store.runs.start([others], Start(token=AGAIN, executor=BERT, at=slot_at(2)))
    await store.runs.finish([finish(ended)])
    await write(store, term, cancels=dict.fromkeys([run.id, queued.id, others.id, ended.id], "eve"))
    assert await store.runs.cancel_requests(ANNA.id) == [(run.id, "eve")]
    assert await store.runs.cancel_requests(BERT.id) == [(others.id, "eve")]
    assert (await found(store, queued)).cancel_requested_by == "eve"
    assert (await found(store, ended)).cancel_requested_by is None


async def test_why_a_queued_run_waits_is_said_and_taken_back_and_nothing_of_other_runs(store: Store) -> None:
    running, queued = entry("a"), entry("b")
    term = await started(store, running)
    term = await write(store, term, entries=[queued])
    term = await write(store, term, reasons={running.id: "why", queued.id: "why", "gone@slot": "why"})
    assert (await found(store, queued)).reason == "why"
    assert (await found(store, running)).reason is None
    await write(store, term, reasons={queued.id: None})
    assert (await found(store, queued)).reason is None


async def test_runs_are_listed_newest_first_and_filtered(store: Store) -> None:
    await claimed(store, *(entry("a", 10 * number) for number in range(4)), entry("b", 15), skip("a", 45))
    await store.runs.start([entry("a", 10)], START)

    async def listed(**fields: object) -> list[tuple[str, int]]:
        runs = await store.runs.list(RunFilter(**fields))  # type: ignore[arg-type]
        return [(run.job, (run.slot - slot_at()) // SECOND) for run in runs]

    assert await listed(limit=3) == [("a", 45), ("a", 30), ("a", 20)]
    assert await listed(job="b") == [("b", 15)]
    assert await listed(states=[RunState.RUNNING]) == [("a", 10)]
    assert await listed(states=[RunState.RUNNING, RunState.SKIPPED]) == [("a", 45), ("a", 10)]
    assert await listed(since=slot_at(15), until=slot_at(20)) == [("a", 20), ("b", 15)]


async def test_scheduled_entries_come_by_job_and_slot_without_triggers(store: Store) -> None:
    trigger = replace(entry("a", 1), id="a#key", cause=Cause.TRIGGER)
    first, across = entry("a", 0), skip("a", 5, until=slot_at(90))
    await claimed(store, entry("b", 0), across, first, trigger, PAUSED)
    assert [run.id async for run in store.runs.scheduled()] == [
        first.id,
        across.id,
        entry("b", 0).id,
        PAUSED.id,
    ]
    recent = [run.job async for run in store.runs.scheduled(slot_at(60))]
    assert recent == ["a", "p"]


async def test_a_thousand_outcomes_are_recorded_together(store: Store) -> None:
    runs = [entry(f"job{number}") for number in range(1_100)]
    await started(store, *runs)
    finishes = [finish(run) for run in runs]
    assert await store.runs.finish([*finishes[:700], replace(finishes[0], token=OTHER)]) == [runs[0].id]
    assert await store.runs.finish(finishes) == []
    assert await store.runs.unsettled() == []
    assert (await found(store, runs[-1])).lateness_s == timedelta(seconds=3).total_seconds()
