"""The plan: what is due, when, and that nothing is forgotten while jobs change (I1)."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sample_jobs import MINUTE, NOON, SECOND, at, job

from cronexec.domain.job import Job, Pause
from cronexec.domain.plan import Due, Plan
from cronexec.domain.schedule import Schedule

PAUSED = Pause(since_at=NOON, issued_by=None, range_id="")


def planned(*jobs: Job, after: datetime = NOON) -> Plan:
    plan = Plan()
    for each in jobs:
        plan.put(each, after=after)
    complete(plan)
    return plan


def complete(plan: Plan) -> None:
    while plan.compute(7):
        pass


def told(taken: list[Due]) -> list[str]:
    return [f"{due.job.name} {due.first:%H:%M:%S}" for due in taken]


def test_due_jobs_come_in_the_order_of_their_first_slots() -> None:
    plan = planned(
        job({"every": "1h"}, name="hourly"), job({"every": "10s"}, name="often"), job(name="minutely")
    )
    assert plan.next_at() == at("12:00:10")
    assert told(plan.due(at("12:30"))) == ["often 12:00:10", "minutely 12:01:00"]
    assert plan.next_at() == at("13:00")


def test_jobs_with_the_same_slot_are_all_due_in_the_order_they_came() -> None:
    names = [f"job-{number}" for number in range(50)]
    plan = planned(*(job(name=name) for name in names))
    assert told(plan.due(at("12:01"))) == [f"{name} 12:01:00" for name in names]


def test_a_slot_is_due_at_its_instant_and_not_before() -> None:
    plan = planned(job())
    assert plan.due(at("12:00:59.999")) == []
    assert told(plan.due(at("12:01"))) == ["backup 12:01:00"]


def test_due_says_from_where_the_slots_count() -> None:
    plan = planned(job(), after=at("11:30:10"))
    (due,) = plan.due(NOON)
    assert (due.first, due.after) == (at("11:31"), at("11:30:10"))


def test_the_plan_never_answers_while_a_next_slot_is_unknown() -> None:
    plan = planned(job(name="known"))
    plan.put(job(name="unknown"), after=NOON)
    assert not plan.is_complete()
    with pytest.raises(AssertionError, match="every next slot"):
        plan.due(at("12:05"))


def test_computing_is_cut_into_slices() -> None:
    plan = Plan()
    for number in range(5):
        plan.put(job(name=f"job-{number}"), after=NOON)
    assert [plan.compute(2), plan.compute(2), plan.compute(2)] == [True, True, False]
    assert plan.is_complete()


def test_a_job_that_was_taken_is_not_due_again_until_it_is_resumed() -> None:
    plan = planned(job())
    taken = plan.due(at("12:01:30"))
    assert plan.due(at("13:00")) == []
    plan.resume(taken, after=at("12:05:30"))
    complete(plan)
    assert told(plan.due(at("13:00"))) == ["backup 12:06:00"]


def test_resuming_twice_plans_a_job_once() -> None:
    plan = planned(job())
    taken = plan.due(at("12:01"))
    plan.resume(taken, after=at("12:01"))
    plan.resume(taken, after=at("12:01"))
    complete(plan)
    assert told(plan.due(at("12:10"))) == ["backup 12:02:00"]


def test_a_job_replaced_while_it_is_taken_goes_on_as_its_new_version() -> None:
    plan = planned(job())
    taken = plan.due(at("12:01:30"))
    plan.put(job({"every": "1h"}, version=2), after=at("12:01:30"))
    plan.resume(taken, after=at("12:01:30"))
    complete(plan)
    assert told(plan.due(at("13:30"))) == ["backup 13:00:00"]


def test_the_very_same_job_put_while_it_is_taken_is_planned_once() -> None:
    minutely = job()
    plan = planned(minutely)
    taken = plan.due(at("12:01"))
    plan.put(minutely, after=at("12:03"))
    plan.resume(taken, after=at("12:01"))
    complete(plan)
    assert told(plan.due(at("12:10"))) == ["backup 12:04:00"]


def test_a_job_removed_while_it_is_taken_does_not_come_back() -> None:
    plan = planned(job())
    taken = plan.due(at("12:01"))
    plan.remove("backup")
    plan.resume(taken, after=at("12:01"))
    complete(plan)
    assert (len(plan), plan.next_at(), plan.due(at("13:00"))) == (0, None, [])


def test_what_is_restored_is_due_again_from_where_it_was_and_what_was_resumed_is_not() -> None:
    plan = planned(job(name="decided"), job(name="undecided"), job(name="removed"))
    taken = {due.job.name: due for due in plan.due(at("12:02"))}
    plan.resume([taken["decided"]], after=at("12:02"))
    plan.remove("removed")
    plan.restore()
    complete(plan)
    (again,) = plan.due(at("12:02"))
    assert again == taken["undecided"]
    plan.restore()
    plan.restore()
    complete(plan)
    assert told(plan.due(at("12:03"))) == ["undecided 12:01:00", "decided 12:03:00"]


def test_a_job_removed_or_replaced_in_the_heap_is_not_due_any_more() -> None:
    plan = planned(job(name="goes"), job(name="changes"), job(name="stays"))
    plan.remove("goes")
    plan.put(job({"every": "1h"}, name="changes", version=2), after=NOON)
    complete(plan)
    assert told(plan.due(at("12:30"))) == ["stays 12:01:00"]


def test_a_job_replaced_before_its_slot_was_computed_is_computed_as_the_new_one() -> None:
    plan = Plan()
    plan.put(job(), after=NOON)
    plan.put(job({"every": "1h"}, version=2), after=NOON)
    complete(plan)
    assert told(plan.due(at("13:00"))) == ["backup 13:00:00"]


def test_removing_what_is_not_there_does_nothing() -> None:
    plan = planned(job())
    plan.remove("nobody")
    assert len(plan) == 1


@pytest.mark.parametrize("change", [{"paused": PAUSED}, {"deleted_at": NOON}])
def test_paused_and_deleted_jobs_are_out_of_the_plan(change: dict[str, object]) -> None:
    plan = planned(job())
    plan.put(replace(job(), **change), after=NOON)
    complete(plan)
    assert (len(plan), plan.due(at("13:00"))) == (0, [])


def test_a_job_counts_from_its_own_beginning_where_that_is_later() -> None:
    plan = planned(job(from_at=at("12:10:30")))
    (due,) = plan.due(at("13:00"))
    assert (due.first, due.after) == (at("12:11"), at("12:10:30"))


def test_a_job_with_no_slot_to_come_stays_without_ever_being_due() -> None:
    plan = planned(job({"at": "2026-03-02T11:00:00Z"}))
    assert (len(plan), plan.is_complete(), plan.next_at()) == (1, True, None)


def test_following_a_watermark_passes_over_what_was_decided_elsewhere() -> None:
    plan = planned(job(), job({"every": "1h"}, name="hourly"))
    plan.resume(plan.due(at("12:30:00.250")), after=at("12:30:00.250"))
    complete(plan)
    assert plan.upcoming(5) == [(at("12:31"), "backup"), (at("13:00"), "hourly")]


def test_due_jobs_are_taken_a_few_at_a_time() -> None:
    plan = planned(*(job(name=name) for name in "abcde"), job({"every": "1h"}, name="hourly"))
    taken = [plan.due(at("12:01"), 2) for _ in range(4)]
    assert [[due.job.name for due in some] for some in taken] == [["a", "b"], ["c", "d"], ["e"], []]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Schedule:
    """A schedule whose next slot cannot be computed."""
    schedule, next_after = job({"every": "7s"}).schedule, Schedule.next_after

    def crash(self: Schedule, after: datetime) -> datetime | None:
        if self == schedule:
            raise ZeroDivisionError("seven")
        return next_after(self, after)

    monkeypatch.setattr(Schedule, "next_after", crash)
    return schedule


@pytest.mark.usefixtures("broken")
def test_a_job_whose_next_slot_cannot_be_computed_stops_no_other() -> None:
    plan = planned(job({"every": "7s"}, name="broken"), job())
    assert plan.is_complete()
    assert told(plan.due(at("12:01"))) == ["backup 12:01:00"]
    (failed,) = plan.failed()
    assert (failed.job.name, failed.after) == ("broken", NOON)
    assert failed.why == "its next slot could not be computed: ZeroDivisionError: seven"


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize("mended", [True, False])
def test_a_job_that_could_not_be_computed_is_forgotten_when_it_changes(mended: bool) -> None:
    plan = planned(job({"every": "7s"}))
    if mended:
        plan.put(job(), after=NOON)
    else:
        plan.remove("backup")
    complete(plan)
    assert plan.failed() == []
    assert plan.next_at() == (at("12:01") if mended else None)


def test_what_comes_next_is_told_in_order_without_taking_it() -> None:
    plan = planned(job(name="b"), job({"every": "30s"}, name="a"), job({"every": "1h"}, name="c"))
    plan.remove("b")
    assert plan.upcoming(1) == [(at("12:00:30"), "a")]
    assert plan.upcoming(9) == [(at("12:00:30"), "a"), (at("13:00"), "c")]
    assert told(plan.due(at("12:00:30"))) == ["a 12:00:30"]


class CountedMinutes:
    """Minutes, and how often they were asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def next_after(self, instant: int) -> int:
        self.asked.append(instant)
        return instant + 60 - instant % 60


def test_equal_schedules_that_go_on_from_one_instant_are_computed_once() -> None:
    minutes = CountedMinutes()
    schedules = [Schedule(minutes, None, None) for _ in range(100)]
    plan = planned(*(job(each, name=f"job-{number}") for number, each in enumerate(schedules)))
    assert len(plan.due(at("12:01"))) == 100
    assert minutes.asked == [NOON.timestamp()]


def test_equal_schedules_that_go_on_from_different_instants_are_computed_apart() -> None:
    plan = Plan()
    plan.put(job(name="a"), after=NOON)
    plan.put(job(name="b"), after=at("13:00"))
    complete(plan)
    assert plan.upcoming(2) == [(at("12:01"), "a"), (at("13:01"), "b")]


def test_jobs_that_change_often_do_not_fill_the_heap() -> None:
    plan = planned(job(name="stays"))
    for version in range(1, 1_001):
        plan.put(job({"cron": "0 0 1 1 *"}, version=version), after=NOON)
        complete(plan)
    assert len(plan._heap) < 100
    assert plan.upcoming(9) == [
        (at("12:01"), "stays"),
        (datetime.fromisoformat("2027-01-01T00:00Z"), "backup"),
    ]


names = st.sampled_from(["a", "b", "c", "d"])
seconds = st.integers(0, 30)


class Planning(RuleBasedStateMachine):
    """Jobs come, change, are taken, go on and go; the model computes everything anew whenever it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.plan = Plan()
        self.now = NOON
        self.jobs: dict[str, tuple[Job, datetime]] = {}
        self.out: set[str] = set()
        self.taken: list[Due] = []
        self.version = 0

    @rule(name=names, every=st.integers(1, 20), back=seconds, begins=seconds)
    def put(self, name: str, every: int, back: int, begins: int) -> None:
        self.version += 1
        from_at = self.now + timedelta(seconds=begins - 20)
        new = job({"every": every}, name=name, from_at=from_at, version=self.version)
        after = self.now - timedelta(seconds=back)
        self.plan.put(new, after=after)
        self.jobs[name] = (new, max(after, from_at))
        self.out.discard(name)

    @rule(name=names, after=seconds)
    def put_again(self, name: str, after: int) -> None:
        if name in self.jobs:
            same, _ = self.jobs[name]
            self.plan.put(same, after=self.now + after * SECOND)
            self.jobs[name] = (same, max(self.now + after * SECOND, same.from_at))
            self.out.discard(name)

    @rule(name=names, paused=st.booleans())
    def put_paused_or_deleted(self, name: str, paused: bool) -> None:
        change = {"paused": PAUSED} if paused else {"deleted_at": self.now}
        self.plan.put(replace(job(name=name), **change), after=self.now)
        self.forget(name)

    @rule(name=names)
    def remove(self, name: str) -> None:
        self.plan.remove(name)
        self.forget(name)

    def forget(self, name: str) -> None:
        self.jobs.pop(name, None)
        self.out.discard(name)

    @rule(most=st.integers(1, 3))
    def compute(self, most: int) -> None:
        assert self.plan.compute(most) != self.plan.is_complete()

    def firsts(self) -> dict[str, datetime]:
        """Return the next slots of the jobs that are not taken."""
        found = {
            name: each.schedule.next_after(after)
            for name, (each, after) in self.jobs.items()
            if name not in self.out
        }
        return {name: first for name, first in found.items() if first is not None}

    @precondition(lambda self: not self.taken)
    @rule(length=seconds)
    def take(self, length: int) -> None:
        complete(self.plan)
        self.now += length * SECOND
        expected = {name: first for name, first in self.firsts().items() if first <= self.now}
        self.taken = self.plan.due(self.now)
        assert [due.first for due in self.taken] == sorted(expected.values())
        assert {due.job.name: due.first for due in self.taken} == expected
        assert all((due.job, due.after) == self.jobs[due.job.name] for due in self.taken)
        self.out |= set(expected)

    @precondition(lambda self: self.taken)
    @rule(part=st.integers(1, 4))
    def resume(self, part: int) -> None:
        decided, self.taken = self.taken[:part], self.taken[part:]
        self.plan.resume(decided, after=self.now)
        for due in decided:
            name = due.job.name
            if name in self.out and self.jobs[name][0] is due.job:
                self.jobs[name] = (due.job, self.now)
                self.out.discard(name)

    @precondition(lambda self: not self.taken and self.plan.is_complete())
    @rule(length=seconds)
    def advance(self, length: int) -> None:
        self.now += length * SECOND
        passed = [name for name, first in self.firsts().items() if first <= self.now]
        self.plan.resume(self.plan.due(self.now), after=self.now)
        for name in passed:
            self.jobs[name] = (self.jobs[name][0], self.now)

    @invariant()
    def the_plan_tells_what_the_model_computes(self) -> None:
        assert len(self.plan) == len(self.jobs)
        if self.plan.is_complete():
            expected = self.firsts()
            assert self.plan.next_at() == min(expected.values(), default=None)
            upcoming = self.plan.upcoming(10)
            assert [slot for slot, _ in upcoming] == sorted(expected.values())
            assert {name: slot for slot, name in upcoming} == expected


Planning.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, derandomize=True, deadline=None
)
TestPlanning = Planning.TestCase


def test_every_one_of_many_jobs_is_taken_and_resumed_minute_after_minute() -> None:
    plan = planned(*(job(name=f"job-{number}") for number in range(1_000)))
    for minute in range(1, 4):
        taken = plan.due(NOON + minute * MINUTE)
        assert len(taken) == 1_000
        plan.resume(taken, after=NOON + minute * MINUTE)
        complete(plan)
    assert len(plan._heap) == 1_000
