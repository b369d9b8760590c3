"""Occupancy against a model: lists of runs, and the words of the overlap policies."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sample_jobs import document, queued

from cronexec.domain.job import JobDocument, Overlap, OverlapPolicy
from cronexec.domain.occupancy import Occupancy
from cronexec.domain.places import Places
from cronexec.domain.run import Run, RunState

QUEUES = Overlap()
ALLOWS = Overlap(policy=OverlapPolicy.ALLOW)

JOBS: dict[str, JobDocument] = {
    "queues": document(name="queues", overlap="queue", misfire={"policy": "all", "limit": 3}),
    "latest": document(name="latest", overlap="queue"),
    "skips": document(name="skips", overlap="skip"),
    "allows": document(name="allows", overlap="allow"),
    "three": document(name="three", overlap={"policy": "queue", "queue_limit": 3}),
    "bounded": document(name="bounded", overlap={"policy": "allow", "max_running": 2, "queue_limit": 2}),
    "replaces": document(name="replaces", overlap="replace"),
}
names = st.sampled_from(sorted(JOBS))


class Lines(RuleBasedStateMachine):
    """Slots come due, runs settle in any order; the model keeps plain lists."""

    def __init__(self) -> None:
        super().__init__()
        self.occupancy = Occupancy()
        self.active: dict[str, list[str]] = {name: [] for name in JOBS}
        self.waiting: dict[str, list[tuple[bool, int, str]]] = {name: [] for name in JOBS}
        self.elsewhere: set[str] = set()
        self.count = 0

    def draw_run(self, name: str, *, catch_up: bool) -> Run:
        self.count += 1
        return queued(f"{name}#{self.count}", job=name, catch_up=catch_up)

    @rule(name=names, catch_up=st.booleans())
    def a_slot_comes_due(self, name: str, catch_up: bool) -> None:
        overlap = JOBS[name].overlap
        places = self.occupancy.places(name)
        if not places.take(JOBS[name], catch_up=catch_up):
            assert not self.has_place(name)
            return
        if overlap.replaces and not catch_up:
            self.all_that_wait_are_cancelled(name)
        run = self.draw_run(name, catch_up=catch_up)
        self.enter(name, run)
        assert places == self.occupancy.places(name)

    def has_place(self, name: str) -> bool:
        most = JOBS[name].overlap.most_active
        return most is None or len(self.active[name]) < most

    def enter(self, name: str, run: Run) -> None:
        starts = self.has_place(name)
        assert self.occupancy.enter(run, JOBS[name].overlap) == starts
        if starts:
            self.active[name].append(run.id)
        else:
            self.waiting[name].append((run.catch_up, self.count, run.id))

    def all_that_wait_are_cancelled(self, name: str) -> None:
        for _, _, run_id in self.waiting[name]:
            assert self.occupancy.settle(run_id) == ()
        self.waiting[name].clear()

    @rule(name=names)
    def somebody_triggers(self, name: str) -> None:
        self.enter(name, self.draw_run(name, catch_up=False))

    @rule(name=names)
    def a_run_goes_on_from_an_earlier_term(self, name: str) -> None:
        run = self.draw_run(name, catch_up=False)
        self.occupancy.occupy(run)
        self.active[name].append(run.id)
        self.elsewhere.add(run.id)

    @precondition(lambda self: any(self.active.values()))
    @rule(data=st.data())
    def an_active_run_settles(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([name for name in sorted(JOBS) if self.active[name]]))
        run_id = data.draw(st.sampled_from(self.active[name]))
        self.active[name].remove(run_id)
        expected: list[str] = []
        for entry in sorted(self.waiting[name]):
            if self.has_place(name):
                self.waiting[name].remove(entry)
                self.active[name].append(entry[2])
                expected.append(entry[2])
        assert [run.id for run in self.occupancy.settle(run_id)] == expected

    @precondition(lambda self: any(self.waiting.values()))
    @rule(data=st.data())
    def a_waiting_run_is_cancelled(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([name for name in sorted(JOBS) if self.waiting[name]]))
        entry = data.draw(st.sampled_from(self.waiting[name]))
        self.waiting[name].remove(entry)
        assert self.occupancy.settle(entry[2]) == ()

    @rule(name=names)
    def an_unknown_run_settles(self, name: str) -> None:
        assert self.occupancy.settle(f"{name}#unknown") == ()

    @invariant()
    def the_unsettled_runs_are_those_of_the_model_in_its_order(self) -> None:
        for name in JOBS:
            found = [run.id for run in self.occupancy.unsettled(name)]
            active = len(self.active[name])
            assert sorted(found[:active]) == sorted(self.active[name])
            assert found[active:] == [run_id for _, _, run_id in sorted(self.waiting[name])]

    @invariant()
    def no_more_runs_of_this_term_are_active_than_that_is_allowed(self) -> None:
        for name, written in JOBS.items():
            here = [run_id for run_id in self.active[name] if run_id not in self.elsewhere]
            assert written.overlap.most_active is None or len(here) <= written.overlap.most_active
            assert self.occupancy.active(name) == len(self.active[name])

    @invariant()
    def nothing_waits_for_nothing(self) -> None:
        assert all(self.active[name] for name in JOBS if self.waiting[name])
        assert self.occupancy.places("nobody") == Places()


Lines.TestCase.settings = settings(max_examples=60, stateful_step_count=40, derandomize=True, deadline=None)
TestLines = Lines.TestCase


def test_live_slots_go_before_those_of_a_catch_up_and_older_ones_first() -> None:
    occupancy = Occupancy()
    for run_id in ("running", "missed 1", "missed 2", "live 1", "live 2"):
        occupancy.enter(queued(run_id, catch_up=run_id.startswith("missed")), QUEUES)
    released, settled = [], "running"
    while runs := occupancy.settle(settled):
        (run,) = runs
        released.append(run.id)
        settled = run.id
    assert released == ["live 1", "live 2", "missed 1", "missed 2"]


def test_runs_that_were_allowed_to_overlap_all_settle_before_one_that_waits() -> None:
    occupancy = Occupancy()
    for run_id in ("first", "second"):
        occupancy.enter(queued(run_id), ALLOWS)
    assert not occupancy.enter(queued("waits"), QUEUES)
    assert occupancy.settle("first") == ()
    assert [run.id for run in occupancy.settle("second")] == ["waits"]


def test_a_run_that_settles_twice_releases_once() -> None:
    occupancy = Occupancy()
    for run_id in ("running", "next", "last"):
        occupancy.enter(queued(run_id), QUEUES)
    assert [run.id for run in occupancy.settle("running")] == ["next"]
    assert occupancy.settle("running") == ()
    assert [run.id for run in occupancy.unsettled("backup")] == ["next", "last"]


def test_a_run_that_comes_in_twice_has_one_place() -> None:
    occupancy = Occupancy()
    occupancy.enter(queued("running"), QUEUES)
    occupancy.enter(queued("waits"), QUEUES)
    assert occupancy.enter(queued("running"), QUEUES)
    assert not occupancy.enter(queued("waits"), QUEUES)
    occupancy.occupy(queued("running", state=RunState.RUNNING))
    assert occupancy.places("backup") == Places(active=1, live=1)


def test_a_run_that_is_queued_again_keeps_its_place() -> None:
    occupancy = Occupancy()
    for run_id in ("running", "waits"):
        occupancy.enter(queued(run_id), QUEUES)
    occupancy.occupy(queued("of another version", state=RunState.RUNNING))
    assert occupancy.enter(queued("running", attempt=2), QUEUES)
    *active, waits = [(run.id, run.attempt) for run in occupancy.unsettled("backup")]
    assert sorted(active) == [("of another version", 1), ("running", 2)]
    assert waits == ("waits", 1)


def test_several_that_wait_are_released_at_once_where_their_version_allows_it() -> None:
    occupancy = Occupancy()
    two = Overlap(policy=OverlapPolicy.ALLOW, max_running=2)
    for run_id in ("a", "b", "c"):
        occupancy.occupy(queued(run_id, state=RunState.RUNNING))
    assert not occupancy.enter(queued("queued before"), QUEUES)
    assert not occupancy.enter(queued("allowed"), two)
    assert [occupancy.settle(run_id) for run_id in ("a", "b")] == [(), ()]
    assert [run.id for run in occupancy.settle("c")] == ["queued before", "allowed"]


def test_jobs_do_not_wait_for_each_other() -> None:
    occupancy = Occupancy()
    assert occupancy.enter(queued("a", job="a"), QUEUES)
    assert occupancy.enter(queued("b", job="b"), QUEUES)
