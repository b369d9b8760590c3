"""Recovery without a flood: catch-up runs start at a pace, live ones do not wait for them."""

from bisect import bisect_left

import pytest
from bench import Bench, at, document, pass_time, slot_id
from hypothesis import given
from hypothesis import strategies as st

from cronexec.domain.run import RunState
from cronexec.runtime.pace import Pace


def most_in_a_second(starts: list[float]) -> int:
    return max((bisect_left(starts, start + 1.0) - number for number, start in enumerate(starts)), default=0)


@given(
    rate=st.integers(1, 5_000),
    waits=st.lists(st.sampled_from([0.0, 0.001, 0.05, 0.3, 2.0, 60.0]), min_size=1, max_size=200),
)
def test_no_second_has_more_starts_than_the_rate_however_it_is_asked(rate: int, waits: list[float]) -> None:
    now = 100.0
    starts: list[float] = []
    pace = Pace(rate, lambda: now)
    for wait in waits:
        now += wait
        allowed = pace.allowed()
        pace.spend(allowed)
        starts.extend([now] * allowed)
    assert most_in_a_second(starts) <= rate


def test_who_waits_as_long_as_the_pace_says_may_start_another() -> None:
    now = 0.0
    pace = Pace(50, lambda: now)
    started = 0
    while now < 60.0:
        now += max(pace.pause(), 1e-6)
        started += (allowed := pace.allowed())
        assert allowed
        pace.spend(allowed)
    assert 30 * 60 < started <= 50 * 60


@pytest.mark.virtual_time
async def test_two_thousand_jobs_missed_for_an_hour_start_at_the_rate_and_live_slots_at_once(
    bench: Bench,
) -> None:
    jobs = [document(f"job-{number}", {"cron": "0 * * * *"}) for number in range(2_000)]
    await bench.seed(*jobs, document("live", {"every": "10s"}, misfire={"policy": "skip"}))
    await pass_time(3_600 + 90)
    began_at = bench.clock.now()
    await bench.holder(catch_up_rate=50)
    await pass_time(75)
    caught_up = [line.at.timestamp() for line in bench.evidence if line.run.startswith("job-")]
    assert len(caught_up) == 2_000
    assert most_in_a_second(caught_up) <= 50
    assert caught_up[-1] - began_at.timestamp() > 2_000 / 50
    live = [line.at - bench.run(line.run).slot for line in bench.evidence if line.run.startswith("live@")]
    assert sorted(live)[:7][-1].total_seconds() < 0.1  # the seven that came due meanwhile
    await bench.verified()


@pytest.mark.virtual_time
async def test_the_pace_outlives_a_failover(bench: Bench) -> None:
    misfire = {"policy": "all", "limit": 1_000, "grace": "1s"}
    await bench.seed(document("backup", {"every": "1s"}, misfire=misfire, overlap="allow"))
    await pass_time(900.5)
    anna = await bench.holder("anna", catch_up_rate=20)
    bert = bench.start("bert", catch_up_rate=20)
    for member in (anna, bert, anna):
        await pass_time(4)
        member.end_term()
        await pass_time(4)
    await bench.reaches(slot_id("backup", 899), RunState.SUCCEEDED, within=120)
    caught_up = [line.at.timestamp() for line in bench.evidence if bench.run(line.run).catch_up]
    assert len(caught_up) == 899
    assert most_in_a_second(caught_up) <= 20 + 20 // 5
    assert bench.evidence[0].at > at(900)
    await bench.verified()
