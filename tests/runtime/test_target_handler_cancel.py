"""What becomes of a handler that is cancelled, and of its place."""

import asyncio
import threading

import pytest
from handler_runs import run_of
from patience import PATIENCE
from target_runs import cancelled, wait_until

from cronexec.targets.handler import Handlers, HandlerTarget
from cronexec.targets.handler_run import Run


async def test_a_cancelled_asynchronous_handler_cleans_up_and_keeps_no_place(
    target: HandlerTarget, handlers: Handlers
) -> None:
    begun, cleaned = threading.Event(), threading.Event()

    async def handler(run: Run) -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            assert run.cancelled
            cleaned.set()

    handlers.register("h", handler)
    execution = run_of("h")
    task = asyncio.create_task(target.execute(execution))
    await wait_until(begun.is_set, lambda: "not begun")
    await cancelled(task)
    assert cleaned.is_set()
    assert execution.kept_until is None


async def test_an_asynchronous_handler_that_swallows_its_cancellation_keeps_its_place(
    target: HandlerTarget, handlers: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cronexec.targets.handler.CANCEL_TIMEOUT", 0.05)
    begun, release = threading.Event(), threading.Event()

    async def handler(_run: Run) -> None:
        begun.set()
        while not release.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    handlers.register("h", handler)
    execution = run_of("h")
    task = asyncio.create_task(target.execute(execution))
    await wait_until(begun.is_set, lambda: "not begun")
    await cancelled(task)
    assert not execution.kept_until.done()
    release.set()
    await asyncio.wait_for(execution.kept_until, PATIENCE)
    assert execution.kept_until.done()


async def test_a_cancelled_thread_is_told_and_keeps_its_place_until_it_returns(
    target: HandlerTarget, handlers: Handlers
) -> None:
    begun, told, release = threading.Event(), threading.Event(), threading.Event()

    def handler(run: Run) -> None:
        begun.set()
        if run.cancelled.wait(PATIENCE):
            told.set()
        release.wait(PATIENCE)

    handlers.register("h", handler)
    execution = run_of("h")
    task = asyncio.create_task(target.execute(execution))
    await wait_until(begun.is_set, lambda: "not begun")
    await cancelled(task)
    await wait_until(told.is_set, lambda: "not told")
    assert not execution.kept_until.done()
    release.set()
    await asyncio.wait_for(execution.kept_until, PATIENCE)
    assert execution.kept_until.done()


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_a_handler_cancelled_before_it_began_never_begins(
    asynchronous: bool, target: HandlerTarget, handlers: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cronexec.targets.handler.CANCEL_TIMEOUT", 0.05)
    begun: list[str] = []
    blocked, release = threading.Semaphore(0), threading.Event()

    def block(_run: Run) -> None:
        blocked.release()
        release.wait(PATIENCE)

    async def block_the_loop(run: Run) -> None:
        block(run)

    async def handler(run: Run) -> None:
        begun.append(run.id)

    handlers.register("block", block_the_loop if asynchronous else block)
    handlers.register("h", handler if asynchronous else (lambda run: begun.append(run.id)))
    blockers = [asyncio.create_task(target.execute(run_of("block"))) for _ in range(1 if asynchronous else 2)]
    for _ in blockers:
        await asyncio.to_thread(blocked.acquire, timeout=PATIENCE)
    execution = run_of("h")
    task = asyncio.create_task(target.execute(execution))
    await asyncio.sleep(0)
    await cancelled(task)
    release.set()
    await asyncio.gather(*blockers)
    await asyncio.wait_for(execution.kept_until, PATIENCE)
    assert begun == []
