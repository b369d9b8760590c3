"""The holder cut off: from MongoDB, from RabbitMQ, from both; in both directions, in one, or only slow."""

import pytest
from cuts import CUTS
from stage import FULL, Stage
from trial import seconds

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

LINKS = {"mongodb": "MongoDB", "rabbitmq": "RabbitMQ", "both": "both"}
EVERY = [(link, way) for way in CUTS for link in LINKS]
SOME = [
    ("mongodb", "reset"),
    ("rabbitmq", "nothing passes"),
    ("both", "nothing passes"),
    ("mongodb", "nothing comes back"),
    ("rabbitmq", "nothing comes back"),
    ("rabbitmq", "nothing reaches the server"),
]
ROUND_TRIPS = (0.5, 1.0) if FULL else (0.5,)
SLOW_FOR = 30.0 if FULL else 3.0


@pytest.mark.parametrize(("link", "way"), EVERY if FULL else SOME)
async def test_a_holder_that_is_cut_off_is_replaced_and_comes_back_as_a_standby(
    stage: Stage, link: str, way: str
) -> None:
    async with stage.trial(f"holder cut off from {LINKS[link]}: {way}", "network") as trial:
        member = await stage.holding()
        trial.began(member)
        for route in stage.seat_of(member).routes(link):
            CUTS[way](route)
        await trial.next_term()
        await trial.runs_again()
        ended = await trial.sees("term.ended", by=member)
        assert ended["epoch"] == trial.epoch
        assert trial.acted_as_former_holder(member, trial.first_commits()[0].at) == []
        await seconds(1)
        for route in stage.seat_of(member).routes(link):
            route.heal()
        healed_at = trial.healed()
        await stage.event("candidate.standing_by", since=healed_at - 1, by=member, timeout=60)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("round_trip", ROUND_TRIPS)
async def test_a_slow_network_makes_slots_late_and_nothing_else(
    stage: Stage, link: str, round_trip: float
) -> None:
    """A holder whose writes take longer than its lease gives way to one that is not slow."""
    async with stage.trial(f"{round_trip * 1000:g} ms to {LINKS[link]} and back", "network") as trial:
        member = await stage.holding()
        trial.began(member)
        for route in stage.seat_of(member).routes(link):
            route.delay(round_trip / 2)
        await seconds(SLOW_FOR)
        await stage.slots_run(3)
        for route in stage.seat_of(member).routes(link):
            route.heal()
        trial.healed()
        if link != "rabbitmq" and not FULL:  # a write has three round trips, a third of the lease is 1 s
            await trial.sees("term.slow_commit", by=member)
        ended = stage.events("term.ended", since=trial.began_at, by=member)
        trial.row.notes.extend(f"term.ended reason={entry['reason']}" for entry in ended)
        if link == "rabbitmq":
            assert ended == [], "a slow broker is no reason to end a term"
