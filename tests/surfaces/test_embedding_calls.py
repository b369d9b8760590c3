"""The calls of an embedded instance, and that what its handlers do is not in their way."""

import asyncio
import threading
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from applications import Namespace, assert_no_slot_waited, receiver, wait_for, webhook_every_second
from embedded import HOURLY, Embed, holding, succeeded

from cronexec import AsyncCronexec, Cronexec, InvalidDocumentError, NotYetAppliedError, RefusedError


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_blocking_handler_costs_no_slot_of_others_and_not_the_baton(
    embed: Embed, asynchronous: bool
) -> None:
    cron = embed(lease="3s")

    def block_thread() -> None:
        time.sleep(8)

    async def block_loop() -> None:
        time.sleep(8)  # noqa: ASYNC251  the fault that is tested

    cron.job("block", every="1h")(block_loop if asynchronous else block_thread)
    holding(cron)
    epoch = cron.health().epoch
    wait_for(lambda: cron.jobs.get("block"), "the declared job")
    with receiver() as (url, slots):
        cron.jobs.put(webhook_every_second(url))
        wait_for(lambda: slots, "the webhook")
        run_id = cron.jobs.trigger("block")["run"]
        blocked = wait_for(lambda: succeeded(cron, run_id), "the blocking run to end")
        assert_no_slot_waited(cron, "hook", blocked.started_at, blocked.finished_at)
    assert set(slots.values()) == {1}
    assert cron.health().epoch == epoch


def test_every_call_works_from_any_thread_of_a_standby(embed: Embed) -> None:
    holder, standby = embed(instance="one"), embed(instance="two")
    for cron in (holder, standby):
        cron.handler("note")(lambda run: run.print(str(run.params)))
    holding(holder)
    standby.start()
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(use_every_call(standby)))
    thread.start()
    thread.join(30)
    assert results == ["done"]
    assert standby.health().state == "standby"


def use_every_call(cron: Cronexec) -> str:
    assert cron.jobs.put(HOURLY)["version"] == 1
    assert cron.jobs.put(HOURLY | {"params": {"a": 1}}, if_version=1)["version"] == 2
    assert [job.name for job in cron.jobs.list()] == ["hourly"]
    assert cron.jobs.pause("hourly")["paused"]
    assert not cron.jobs.resume("hourly")["paused"]
    tomorrow = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    paused = cron.jobs.pause("hourly", until=tomorrow, reason="holidays", owner="zoe")
    assert datetime.fromisoformat(paused["paused_until"]) == tomorrow < datetime.fromisoformat(paused["next"])
    cron.jobs.resume("hourly")
    assert len(cron.jobs.skip_next("hourly", 2, reason="quiet")["skipped"]) == 2
    assert cron.jobs.skip_next("hourly", 0)["skipped"] == []
    assert cron.jobs.black_out("hourly", end=tomorrow)["changed"]
    assert cron.jobs.lift_blackouts("hourly")["lifted"] == 1
    run_id = cron.jobs.trigger("hourly", params={"b": 2}, key="once")["run"]
    assert run_id == cron.jobs.trigger("hourly", key="once")["run"] == "hourly#once"
    wait_for(lambda: succeeded(cron, run_id), "the run")
    today = datetime.now(UTC).replace(hour=0)
    assert [run.id for run in cron.runs.list(job="hourly", states=["succeeded"], since=today, limit=1)] == [
        run_id
    ]
    with pytest.raises(RefusedError) as refused:
        cron.runs.cancel(run_id)
    assert refused.value.code == "already_settled"
    assert cron.jobs.delete("hourly", if_version=2)["deleted"]
    assert cron.jobs.get("hourly") is None
    return "done"


async def test_every_call_can_be_awaited_on_any_loop(ns: Namespace) -> None:
    async with AsyncCronexec(ns.settings()) as cron:
        cron.handler("note")(lambda _: None)
        assert await cron.jobs.put(HOURLY)
        assert (await cron.jobs.get("hourly")) == (await cron.jobs.list())[0]
        await cron.jobs.pause("hourly")
        await cron.jobs.resume("hourly")
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        assert (await cron.jobs.pause("hourly", until=tomorrow, reason="holidays", owner="zoe"))["paused"]
        await cron.jobs.resume("hourly")
        assert len((await cron.jobs.skip_next("hourly", 2))["skipped"]) == 2
        assert (await cron.jobs.black_out("hourly", end=tomorrow, reason="move"))["changed"]
        assert (await cron.jobs.lift_blackouts("hourly", reason="move"))["lifted"] == 1
        run_id = (await asyncio.to_thread(asyncio.run, cron.jobs.trigger("hourly", key="x")))["run"]
        async with asyncio.timeout(20):
            while not await cron.runs.list(job="hourly", states=["succeeded"]):  # noqa: ASYNC110  as above
                await asyncio.sleep(0.05)
        with pytest.raises(RefusedError):
            await cron.runs.cancel(run_id)
        assert (await cron.runs.get(run_id)) is not None
        assert await cron.jobs.delete("hourly")
    with pytest.raises(RuntimeError, match=r"call start\(\) first"):
        await cron.jobs.list()


def test_errors_arrive_as_themselves_with_a_traceback_that_is_the_callers(
    embed: Embed,
) -> None:
    cron = holding(embed())
    cases: list[tuple[type[Exception], Callable[[], object]]] = [
        (RefusedError, lambda: cron.jobs.trigger("nothing")),
        (RefusedError, lambda: cron.jobs.delete("nothing")),
        (InvalidDocumentError, lambda: cron.jobs.put({"name": "Wrong"})),
    ]
    for kind, call in cases:
        with pytest.raises(kind) as caught:
            call()
        assert type(caught.value) is kind
        text = "".join(traceback.format_exception(caught.value))
        assert text.count("Traceback") == 1
        assert "asyncio" not in text
        assert "concurrent" not in text


def test_a_command_that_nobody_answers_is_not_yet_applied(embed: Embed) -> None:
    cron = embed(candidate=False)
    cron.start()
    wait_for(lambda: cron.health().database == "ok", "the database")
    assert cron._assembly is not None
    cron._assembly.client.commands.wait = 0.5
    with pytest.raises(NotYetAppliedError) as caught:
        cron.jobs.put(HOURLY)
    assert caught.value.waited == 0.5
    holding(embed(instance="holder"))
    assert wait_for(lambda: cron.jobs.get("hourly"), "the job that was in the queue")
