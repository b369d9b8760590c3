"""An application that drains the instance in itself, as before a deploy."""

import asyncio
import threading

import pytest
from applications import Namespace, wait_for
from embedded import Embed, holding

from cronexec import AsyncCronexec, Run


def test_a_drained_instance_finishes_what_it_runs_and_takes_nothing_new(embed: Embed) -> None:
    anna, bert = embed(instance="anna"), embed(instance="bert")
    go = threading.Event()

    def wait(run: Run) -> None:
        go.wait(30)
        run.print("done")

    for cron in (anna, bert):
        cron.handler("long")(wait)
    holding(anna)
    bert.start()
    anna.jobs.put(
        {"name": "long", "schedule": {"every": "1h"}, "target": {"type": "handler", "name": "long"}}
    )
    run = anna.jobs.trigger("long")["run"]
    wait_for(lambda: anna.health().running == 1, "the run")
    anna.drain()
    assert anna.health().state == "draining"
    wait_for(lambda: bert.health().state == "holder", "bert to hold")
    go.set()
    wait_for(lambda: anna.health().state == "drained", "anna to be drained")
    found = anna.runs.get(run)
    assert found is not None
    assert found.state.value == "succeeded"
    anna.drain()  # twice is once
    anna.undrain()
    wait_for(lambda: anna.health().state == "standby", "anna to stand by")


async def test_an_asynchronous_application_awaits_it(ns: Namespace) -> None:
    async with AsyncCronexec(ns.settings()) as cron:
        async with asyncio.timeout(30):
            while cron.health().state != "holder":  # noqa: ASYNC110  health tells nobody when it changes
                await asyncio.sleep(0.02)
            await cron.drain()
            while cron.health().state != "drained":  # noqa: ASYNC110  as above
                await asyncio.sleep(0.02)
            await cron.undrain()
            while cron.health().state != "holder":  # noqa: ASYNC110  as above
                await asyncio.sleep(0.02)


def test_it_needs_to_be_started(embed: Embed) -> None:
    with pytest.raises(RuntimeError, match="not started"):
        embed().drain()
