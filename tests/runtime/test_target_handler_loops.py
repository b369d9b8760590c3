"""Where handlers run: on loops and in threads that are not the engine's, which they cannot hold up."""

import asyncio
import contextvars
import threading
import time
from typing import Any

import pytest
from handler_runs import outcome_of, run_of
from patience import PATIENCE
from target_runs import wait_until

from cronexec.domain.run import Outcome, RunState
from cronexec.targets.handler import Handlers, HandlerTarget
from cronexec.targets.handler_run import Run


async def test_an_asynchronous_handler_runs_on_a_loop_that_is_not_the_engines(
    target: HandlerTarget, handlers: Handlers
) -> None:
    seen: list[Any] = []

    async def handler(run: Run) -> None:
        seen.append((asyncio.get_running_loop(), run.id))

    outcome, _ = await outcome_of(target, handlers, handler)
    assert outcome == Outcome(state=RunState.SUCCEEDED)
    ((loop, run_id),) = seen
    assert loop is not asyncio.get_running_loop()
    assert run_id == "close-league@2026-11-20T03:00:00Z"


async def test_other_handlers_run_in_a_thread(target: HandlerTarget, handlers: Handlers) -> None:
    seen: list[int] = []
    outcome, _ = await outcome_of(target, handlers, lambda _: seen.append(threading.get_ident()))
    assert outcome.state is RunState.SUCCEEDED
    assert seen != [threading.get_ident()]


async def test_context_variables_do_not_leak_from_one_run_into_the_next(
    target: HandlerTarget, handlers: Handlers
) -> None:
    variable = contextvars.ContextVar("variable", default=0)
    seen: list[int] = []

    async def handler(_run: Run) -> None:
        seen.append(variable.get())
        variable.set(1)

    handlers.register("h", handler)
    await target.execute(run_of("h"))
    await target.execute(run_of("h"))
    assert seen == [0, 0]


async def test_a_handler_that_blocks_its_loop_holds_neither_the_engine_nor_threads(
    target: HandlerTarget, handlers: Handlers
) -> None:
    begun, release = threading.Event(), threading.Event()

    async def block() -> None:
        begun.set()
        release.wait(PATIENCE)

    handlers.register("block", block)
    handlers.register("thread", lambda _: None)
    blocked = asyncio.create_task(target.execute(run_of("block")))
    await wait_until(begun.is_set, lambda: "not begun")
    outcome = await asyncio.wait_for(target.execute(run_of("thread")), PATIENCE / 2)
    assert outcome.state is RunState.SUCCEEDED
    assert not blocked.done()
    release.set()
    assert (await blocked).state is RunState.SUCCEEDED


async def test_the_applications_loop_is_used_where_it_is_given(handlers: Handlers) -> None:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    seen: list[asyncio.AbstractEventLoop] = []

    async def handler() -> None:
        seen.append(asyncio.get_running_loop())

    handlers.register("h", handler)
    target = HandlerTarget(handlers, loop=loop)
    outcome = await asyncio.wait_for(target.execute(run_of("h")), PATIENCE)
    await target.close()
    running = loop.is_running()
    loop.call_soon_threadsafe(loop.stop)
    thread.join(PATIENCE)
    loop.close()
    assert (outcome.state, seen, running) == (RunState.SUCCEEDED, [loop], True)
    assert (await target.execute(run_of("h"))).error == "the application's event loop is closed"


async def test_many_empty_handlers_cost_little(target: HandlerTarget, handlers: Handlers) -> None:
    async def handler() -> None:
        pass

    handlers.register("h", handler)
    executions = [run_of("h") for _ in range(10_000)]
    before = time.process_time()
    outcomes = await asyncio.gather(*(target.execute(execution) for execution in executions))
    each = (time.process_time() - before) / len(executions)
    assert {outcome.state for outcome in outcomes} == {RunState.SUCCEEDED}
    assert each < 400e-6, "seconds of CPU for each run; about 60e-6 on an idle machine"


async def test_where_no_thread_can_be_started_the_run_says_so_or_waits_for_another(
    target: HandlerTarget, handlers: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    ran, begun, release = [], threading.Event(), threading.Event()

    def block(_run: Run) -> None:
        begun.set()
        release.wait(PATIENCE)

    handlers.register("h", lambda run: ran.append(run.id))
    handlers.register("block", block)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        outcome = await target.execute(run_of("h"))
    assert outcome.error == "RuntimeError: can't start new thread"
    blocked = asyncio.create_task(target.execute(run_of("block")))
    await asyncio.to_thread(begun.wait, PATIENCE)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        waiting = asyncio.create_task(target.execute(run_of("h")))
        await asyncio.sleep(0)
    assert (ran, waiting.done()) == ([], False)
    release.set()
    assert (await waiting).state is (await blocked).state is RunState.SUCCEEDED
    assert len(ran) == 1
