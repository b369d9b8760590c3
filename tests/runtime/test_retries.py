"""Retries, repeats of abandoned runs, and runs that wait for a person: in made-up time, over handovers."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from bench import SUCCEEDED, Bench, Member, document, pass_time, slot_id, vanish
from faults import away, fails

from cronexec.domain.run import Outcome, RunState
from cronexec.ports import Execution

pytestmark = pytest.mark.virtual_time

TEN, TWENTY = slot_id("job", 10), slot_id("job", 20)
FAILED = Outcome(state=RunState.FAILED, error="no")
RETRY = {"max_attempts": 3, "initial_delay": "4s", "max_delay": "8s"}
ONCE = {"at": "2026-11-20T12:00:10Z"}


def fails_until(member: Member, attempt: int, outcome: Outcome = FAILED, job: str = "job") -> None:
    """Have the job's attempts fail here before that one."""

    async def script(execution: Execution) -> Outcome:
        return outcome if execution.run.attempt < attempt else SUCCEEDED

    member.targets.scripts[job] = script


def cut_off(member: Member) -> None:
    """Let the database not answer this instance any more."""
    for call in ("terms.commit", "terms.ping", "terms.read", "instances.beat", "runs.finish"):
        member.faults.always(call, fails(away()))


def attempts(bench: Bench, run_id: str) -> list[tuple[int, str]]:
    return [(line.attempt, line.instance) for line in bench.evidence if line.run == run_id]


async def begun(
    bench: Bench, name: str = "anna", *, schedule: Mapping[str, Any] = ONCE, **fields: Any
) -> Member:
    """Return a holder with one job."""
    member = await bench.holder(name)
    await bench.put(document("job", schedule, **fields))
    return member


Begin = Callable[..., Awaitable[tuple[Member, Member]]]


@pytest.fixture
def begin(bench: Bench) -> Begin:
    """Begin with a holder that runs a job's first slot, which does not end by itself, and a standby."""

    async def begin(**fields: Any) -> tuple[Member, Member]:
        anna = await begun(bench, **fields)
        bert = bench.start("bert")
        anna.targets.held.add("job")
        await anna.targets.began(TEN)
        return anna, bert

    return begin


async def test_a_failed_run_is_tried_again_until_it_succeeds(bench: Bench) -> None:
    anna = await begun(bench, retry=RETRY)
    fails_until(anna, 3)
    run = await bench.reaches(TEN, RunState.SUCCEEDED)
    assert attempts(bench, TEN) == [(1, "anna"), (2, "anna"), (3, "anna")]
    assert [(former.attempt, former.outcome.state) for former in run.attempts] == [
        (1, RunState.FAILED),
        (2, RunState.FAILED),
    ]
    told = [(said["attempt"], said["level"]) for said in anna.said("run.retrying")]
    assert told == [(2, "info"), (3, "info")]  # of the job, not of this instance: its ledger has it


async def test_the_last_attempt_decides(bench: Bench) -> None:
    anna = await begun(bench, retry=RETRY)
    fails_until(anna, 9)
    run = await bench.reaches(TEN, RunState.FAILED)
    assert (run.attempt, len(run.attempts)) == (3, 2)


async def test_an_attempt_waits_for_its_delay_and_no_longer(bench: Bench) -> None:
    anna = await begun(bench, retry={"max_attempts": 2, "initial_delay": "8s", "max_delay": "8s"})
    fails_until(anna, 2)
    await bench.reaches(TEN, RunState.SUCCEEDED)
    first, second = (line.at for line in bench.evidence if line.run == TEN)
    former = bench.run(TEN).attempts[0]
    waited = bench.run(TEN).not_before
    assert former.finished_at is not None
    assert waited is not None
    assert 0 <= (second - waited).total_seconds() < 0.1
    assert first <= former.finished_at <= waited


async def test_a_run_that_waits_for_its_retry_keeps_its_place(bench: Bench) -> None:
    anna = await begun(bench, schedule={"every": "10s"}, retry=RETRY | {"initial_delay": "8s"})

    async def script(execution: Execution) -> Outcome:
        return FAILED if execution.run.id == TEN and execution.run.attempt == 1 else SUCCEEDED

    anna.targets.scripts["job"] = script
    await bench.reaches(TWENTY, RunState.SUCCEEDED)
    order = [(line.run, line.attempt) for line in bench.evidence]
    assert order[:3] == [(TEN, 1), (TEN, 2), (TWENTY, 1)]


async def test_the_next_holder_carries_on_with_a_waiting_retry(bench: Bench) -> None:
    anna = await begun(bench, retry={"max_attempts": 2, "initial_delay": "40s", "max_delay": "40s"})
    fails_until(anna, 2)
    bert = bench.start("bert")
    run = await bench.reaches(TEN, RunState.QUEUED)
    while run.attempt == 1:
        await pass_time(0.1)
        run = bench.run(TEN)
    vanish(anna)
    await bert.holding()
    done = await bench.reaches(TEN, RunState.SUCCEEDED)
    assert attempts(bench, TEN) == [(1, "anna"), (2, "bert")]
    assert done.not_before == run.not_before


async def test_an_attempt_that_fails_after_a_handover_is_retried_by_the_new_holder(
    bench: Bench, begin: Begin
) -> None:
    anna, bert = await begin(retry=RETRY)
    anna.end_term()
    await bert.holding()
    anna.targets.end(TEN, FAILED)
    await bench.reaches(TEN, RunState.SUCCEEDED)
    assert [number for number, _ in attempts(bench, TEN)] == [1, 2]
    assert (await bench.verified()).total.missing == 0


async def test_a_waiting_retry_is_cancelled_by_a_command(bench: Bench) -> None:
    anna = await begun(bench, retry=RETRY | {"initial_delay": "8s"})
    fails_until(anna, 9)
    await bench.reaches(TEN, RunState.QUEUED)
    while bench.run(TEN).attempt == 1:
        await pass_time(0.1)
    assert (await bench.request("run.cancel", run=TEN))["ok"]
    await pass_time(30)
    assert bench.state(TEN) is RunState.CANCELLED
    assert len(attempts(bench, TEN)) == 1


async def test_a_cancelled_attempt_is_not_followed_by_another(bench: Bench) -> None:
    anna = await begun(bench, retry=RETRY)
    anna.targets.held.add("job")
    await anna.targets.began(TEN)
    await bench.request("run.cancel", run=TEN)
    await bench.reaches(TEN, RunState.CANCELLED)
    await pass_time(30)
    assert len(attempts(bench, TEN)) == 1


async def test_a_run_is_tried_again_by_hand(bench: Bench) -> None:
    anna = await begun(bench)
    fails_until(anna, 2)
    await bench.reaches(TEN, RunState.FAILED)
    reply = await bench.request("run.retry", run=TEN, issued_by="eve")
    assert reply["result"] == {"run": TEN, "state": "queued", "attempt": 2}
    run = await bench.reaches(TEN, RunState.SUCCEEDED)
    assert len(run.attempts) == 1


@pytest.mark.parametrize(
    ("attempt", "code"), [(1, "already_settled"), (None, "not_found")], ids=["succeeded", "unknown"]
)
async def test_a_run_that_cannot_be_tried_again_is_refused(
    bench: Bench, attempt: int | None, code: str
) -> None:
    await begun(bench)
    await bench.reaches(TEN, RunState.SUCCEEDED)
    reply = await bench.request("run.retry", run=TEN if attempt else "job@2026-01-01T00:00:00Z")
    assert reply["error"]["code"] == code


async def test_a_run_that_is_repeatable_is_tried_again_when_its_instance_vanished(
    bench: Bench, begin: Begin
) -> None:
    anna, bert = await begin(abandoned="retry")
    vanish(anna)
    await bert.holding()
    run = await bench.reaches(TEN, RunState.SUCCEEDED, within=90)
    assert attempts(bench, TEN) == [(1, "anna"), (2, "bert")]
    assert [former.outcome.reason for former in run.attempts] == ["instance_lost"]


async def test_a_repeatable_run_is_ended_by_an_instance_that_cannot_beat_before_it_is_repeated(
    bench: Bench, begin: Begin
) -> None:
    anna, bert = await begin(abandoned="retry")
    cut_off(anna)
    await bert.holding()
    await bench.reaches(TEN, RunState.SUCCEEDED, within=120)
    assert anna.targets.cancelled == [TEN]
    first, second = bench.evidence
    assert (second.at - first.at).total_seconds() > 60, "no earlier than an instance counts as lost"


async def test_a_run_that_nobody_may_repeat_goes_on_where_its_instance_is_cut_off(begin: Begin) -> None:
    anna, _ = await begin()
    cut_off(anna)
    await pass_time(90)
    assert anna.targets.cancelled == []


async def test_a_run_whose_job_asks_stays_open_until_a_person_decides(bench: Bench, begin: Begin) -> None:
    anna, bert = await begin(schedule={"every": "10s"}, abandoned="ask")
    vanish(anna)
    await bert.holding()
    run = await bench.reaches(TEN, RunState.ABANDONED, within=90)
    assert run.undecided
    await pass_time(30)
    assert bench.state(TWENTY) is RunState.QUEUED, "the next run waits"
    reply = await bench.request("run.resolve", run=TEN, state="succeeded", issued_by="eve")
    assert reply["ok"]
    await bench.reaches(TWENTY, RunState.SUCCEEDED, within=5)
    assert bench.state(TEN) is RunState.SUCCEEDED


async def test_an_open_run_keeps_its_place_under_the_next_holder(bench: Bench, begin: Begin) -> None:
    anna, bert = await begin(schedule={"every": "10s"}, abandoned="ask")
    vanish(anna)
    await bert.holding()
    await bench.reaches(TEN, RunState.ABANDONED, within=90)
    carl = bench.start("carl")
    vanish(bert)
    await carl.holding()
    await pass_time(30)
    assert bench.state(TWENTY) is RunState.QUEUED
    assert (await bench.request("run.retry", run=TEN))["ok"]
    await bench.reaches(TEN, RunState.SUCCEEDED, within=5)
    await bench.reaches(TWENTY, RunState.SUCCEEDED, within=5)


async def test_what_a_stopping_instance_abandons_is_repeated_at_once_where_the_job_says_so(
    bench: Bench, begin: Begin
) -> None:
    anna, bert = await begin(abandoned="retry")
    await anna.stop(grace=0.5)
    await bert.holding()
    run = await bench.reaches(TEN, RunState.SUCCEEDED, within=10)
    assert [former.outcome.reason for former in run.attempts] == ["shutdown"]
