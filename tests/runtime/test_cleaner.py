"""The cleaner: jobs with a single instant are deleted once they are done, by a command like any other."""

from typing import Any

import pytest
from bench import Bench, at, document, pass_time, slot_id, until

from cronexec.domain.run import RunState
from cronexec.runtime import holder
from cronexec.runtime.cleaner import Cleaner

pytestmark = pytest.mark.virtual_time

ONCE = {"at": at(2).isoformat()}


def is_deleted(bench: Bench) -> bool:
    return bench.database.jobs["once"].deleted_at is not None


async def test_a_one_shot_is_deleted_so_long_after_its_run(bench: Bench) -> None:
    await bench.holder()
    await bench.put(document("once", ONCE, delete_after="1m"))
    await bench.reaches(slot_id("once", 2), RunState.SUCCEEDED)
    await pass_time(55)
    assert not is_deleted(bench)
    await pass_time(15)
    assert is_deleted(bench)
    [deletion] = [each for each in bench.database.commands.values() if each.type == "job.delete"]
    assert deletion.issued_by == "cronexec"
    assert bench.state(slot_id("once", 2)) is RunState.SUCCEEDED


async def test_one_that_says_nothing_stays(bench: Bench) -> None:
    await bench.holder()
    await bench.put(document("once", ONCE))
    await pass_time(300)
    assert not is_deleted(bench)


async def test_a_one_shot_stays_while_a_run_of_it_is_under_way(bench: Bench) -> None:
    anna = await bench.holder()
    await bench.put(document("once", ONCE, delete_after="10s"))
    await bench.reaches(slot_id("once", 2), RunState.SUCCEEDED)
    held = anna.faults.hold("runs.finish")
    run = (await bench.request("job.trigger", name="once"))["result"]["run"]
    await held.arrived()
    await pass_time(60)
    assert not is_deleted(bench)
    held.release()
    await bench.reaches(run, RunState.SUCCEEDED)
    await until(lambda: is_deleted(bench), lambda: bench.database.jobs["once"])


async def test_a_one_shot_that_was_given_another_instant_stays(bench: Bench) -> None:
    await bench.holder()
    await bench.put(document("once", ONCE, delete_after="10s"))
    await bench.reaches(slot_id("once", 2), RunState.SUCCEEDED)
    await bench.put(document("once", {"at": at(300).isoformat()}, delete_after="10s"))
    await pass_time(100)
    assert not is_deleted(bench)
    await pass_time(300)
    assert is_deleted(bench)


async def test_the_next_holder_deletes_what_is_left(bench: Bench) -> None:
    await bench.holder()
    await bench.put(document("once", ONCE, delete_after="1m"))
    await bench.reaches(slot_id("once", 2), RunState.SUCCEEDED)
    await bench.request("baton.release")
    await pass_time(70)
    assert is_deleted(bench)
    assert [each.type for each in bench.database.commands.values()].count("job.delete") == 1


async def test_what_was_deleted_is_not_remembered_for_the_rest_of_the_term(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Cleaner] = []

    class Seen(Cleaner):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            made.append(self)

    monkeypatch.setattr(holder, "Cleaner", Seen)
    await bench.holder()
    await bench.put(*(document(f"once-{number}", ONCE, delete_after="1s") for number in range(20)))
    await pass_time(30)
    assert all(job.deleted_at is not None for job in bench.database.jobs.values())
    assert not made[0]._sent
