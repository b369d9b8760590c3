import asyncio
import contextvars
import threading
import time
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE
from structlog.testing import capture_logs
from target_runs import SLOT, Reports, execution_of, printed, wait_until

from cronexec.domain.run import Outcome, RunState
from cronexec.domain.targets import HandlerTarget as Document
from cronexec.errors import SettingsError
from cronexec.ports import Execution
from cronexec.targets.handler import Handlers, HandlerTarget
from cronexec.targets.handler_run import Run


@pytest.fixture
async def handlers() -> Handlers:
    return Handlers()


@pytest.fixture
async def target(handlers: Handlers) -> AsyncIterator[HandlerTarget]:
    target = HandlerTarget(handlers, threads=2)
    yield target
    await target.close()


def run_of(name: str, **fields: Any) -> Execution:
    return execution_of(Document(name=name), **fields)


async def outcome_of(
    target: HandlerTarget, handlers: Handlers, function: Callable[..., Any]
) -> tuple[Outcome, str]:
    handlers.register("h", function)
    execution = run_of("h")
    outcome = await asyncio.wait_for(target.execute(execution), PATIENCE)
    return outcome, printed(execution)


async def cancelled(task: "asyncio.Task[Outcome]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.shield(task), PATIENCE)


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


async def test_a_run_says_what_it_is(target: HandlerTarget, handlers: Handlers) -> None:
    seen: list[Any] = []

    def handler(run: Run) -> None:
        run.params["added"] = 1
        seen.extend([run.job, run.slot, run.attempt, run.epoch, run.scheduled, run.params])

    handlers.register("h", handler)
    params = {"league": 7}
    await target.execute(run_of("h", params=params))
    assert seen == ["close-league", SLOT, 2, 7, True, {"league": 7, "added": 1}]
    assert params == {"league": 7}


async def test_a_handler_may_take_nothing(target: HandlerTarget, handlers: Handlers) -> None:
    async def handler() -> str:
        return "done"

    outcome, output = await outcome_of(target, handlers, handler)
    assert (outcome.state, output) == (RunState.SUCCEEDED, '"done"\n')


async def test_a_handler_that_takes_something_else_is_refused(handlers: Handlers) -> None:
    def handler(run: Run, more: int) -> None:  # noqa: ARG001  their number is what counts
        raise AssertionError

    with pytest.raises(
        SettingsError, match=r"the handler h has to take one argument, the run; it takes \(run"
    ):
        handlers.register("h", handler)


async def test_a_name_is_registered_once(handlers: Handlers) -> None:
    handlers.register("h", lambda _: None)
    with pytest.raises(SettingsError, match="a handler named h is registered already"):
        handlers.register("h", lambda _: None)


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_what_a_handler_returns_is_in_the_output(
    asynchronous: bool, target: HandlerTarget, handlers: Handlers
) -> None:
    async def handler(_run: Run) -> dict[str, Any]:
        return {"played": 3, "at": SLOT}

    function = handler if asynchronous else (lambda _: {"played": 3, "at": SLOT})
    outcome, output = await outcome_of(target, handlers, function)
    assert outcome.state is RunState.SUCCEEDED
    assert output == '{"played":3,"at":"2026-11-20 03:00:00+00:00"}\n'


def _fail(_run: Run) -> None:
    raise ValueError("no such league at amqp://user:hidden@broker/")


async def _fail_asynchronously(run: Run) -> None:
    _fail(run)


@pytest.mark.parametrize("function", [_fail, _fail_asynchronously])
async def test_an_exception_is_a_failure_and_its_traceback_is_in_the_output(
    function: Callable[[Run], Any], target: HandlerTarget, handlers: Handlers
) -> None:
    outcome, output = await outcome_of(target, handlers, function)
    assert outcome.state is RunState.FAILED
    assert outcome.error is not None
    assert outcome.error.startswith("ValueError: no such league at amqp:")
    assert "hidden" not in outcome.error
    assert output.startswith("Traceback")
    assert "in _fail" in output
    assert "hidden" not in output
    assert "handler_call" not in output
    assert "_perform" not in output


class NoSuchLeagueError(LookupError):
    pass


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_an_exceptions_class_and_bases_are_told_by_name(
    asynchronous: bool, target: HandlerTarget, handlers: Handlers
) -> None:
    def handler(_run: Run) -> None:
        raise NoSuchLeagueError

    async def handle(run: Run) -> None:
        handler(run)

    outcome, _ = await outcome_of(target, handlers, handle if asynchronous else handler)
    assert outcome.exceptions == ("test_target_handler.NoSuchLeagueError", "LookupError", "Exception")


@pytest.mark.parametrize("asynchronous", [True, False])
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
async def test_a_handler_that_exits_ends_only_its_run(
    error: BaseException, asynchronous: bool, target: HandlerTarget, handlers: Handlers
) -> None:
    def leave(_run: Run) -> None:
        raise error

    async def leave_asynchronously(run: Run) -> None:
        leave(run)

    async def nothing() -> None:
        pass

    function = leave_asynchronously if asynchronous else leave
    outcome, _ = await outcome_of(target, handlers, function)
    assert outcome.state is RunState.FAILED
    assert outcome.error is not None
    assert outcome.error.startswith(type(error).__name__)
    handlers.register("nothing", nothing)
    assert (await target.execute(run_of("nothing"))).state is RunState.SUCCEEDED
    assert (await target.execute(run_of("h"))).state is RunState.FAILED


async def test_a_coroutine_that_nobody_would_await_is_a_failure(
    target: HandlerTarget, handlers: Handlers
) -> None:
    async def inner() -> None:
        raise AssertionError

    outcome, _ = await outcome_of(target, handlers, lambda _: inner())
    assert outcome.error == "TypeError: the handler returned something to await: declare it with 'async def'"


async def test_a_missing_handler_comes_with_the_nearest_name(
    target: HandlerTarget, handlers: Handlers
) -> None:
    handlers.register("close_league", lambda _: None)
    sentence = "no handler named close_leage is registered on this instance; did you mean close_league?"
    assert target.unavailable(Document(name="close_leage")) == sentence
    assert target.unavailable(Document(name="close_league")) is None
    assert (await target.execute(run_of("close_leage"))).error == sentence


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_progress_reaches_the_engine_the_last_one_always(
    asynchronous: bool, target: HandlerTarget, handlers: Handlers
) -> None:
    async def handler(run: Run) -> None:
        for done in range(1000):
            await run.progress(done + 1, 1000, "matches")

    def handler_in_thread(run: Run) -> None:
        for done in range(1000):
            run.progress(done + 1, 1000, "matches")

    handlers.register("h", handler if asynchronous else handler_in_thread)
    execution = run_of("h")
    await target.execute(execution)
    assert isinstance(execution.report, Reports)
    assert execution.report.seen[-1] == (1000, 1000, "matches")
    assert len(execution.report.seen) < 50, "the engine was told more often than it wants to know"


@pytest.mark.parametrize(
    ("done", "total", "sentence"),
    [
        ("3", None, "TypeError: run.progress: done must be an int or a float, not str"),
        (True, None, "TypeError: run.progress: done must be an int or a float, not bool"),
        (None, None, "TypeError: run.progress: done must be an int or a float, not NoneType"),
        (1, Decimal(3), "TypeError: run.progress: total must be an int or a float, not Decimal"),
        (float("nan"), 3, "ValueError: run.progress: done must be a finite number, not nan"),
        (1, float("-inf"), "ValueError: run.progress: total must be a finite number, not -inf"),
        (2**63, None, "ValueError: run.progress: done must fit in 64 bits"),
    ],
)
async def test_progress_that_is_no_number_fails_the_handler_and_reaches_nobody(
    done: Any, total: Any, sentence: str, target: HandlerTarget, handlers: Handlers
) -> None:
    async def handler(run: Run) -> None:
        await run.progress(done, total)

    handlers.register("h", handler)
    execution = run_of("h")
    outcome = await target.execute(execution)
    assert outcome.state is RunState.FAILED
    assert sentence in (outcome.error or "")
    assert isinstance(execution.report, Reports)
    assert execution.report.seen == []


async def test_a_progress_message_may_be_anything_that_has_a_text(
    target: HandlerTarget, handlers: Handlers
) -> None:
    seen = []
    for name, message in enumerate((Path("a/b"), 7, "x" * 5000, "ü\ud800", "bye")):

        async def handler(run: Run, message: object = message) -> None:
            await run.progress(1, 2.5, message)

        handlers.register(f"h{name}", handler)
        execution = run_of(f"h{name}")
        await target.execute(execution)
        assert isinstance(execution.report, Reports)
        seen += execution.report.seen
    assert [message for _, _, message in seen] == ["a/b", "7", "x" * 1000, "ü?", "bye"]


async def test_what_a_run_logs_and_prints_is_in_its_output(target: HandlerTarget, handlers: Handlers) -> None:
    def handler(run: Run) -> None:
        run.print("begun")
        run.log.info("match.played", match=3)

    with capture_logs() as logged:
        _, output = await outcome_of(target, handlers, handler)
    assert output == "begun\ninfo match.played match=3\n"
    assert logged[0]["event"] == "match.played"
    assert logged[0]["run_id"] == "close-league@2026-11-20T03:00:00Z"


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
    before = time.monotonic()
    assert (await target.execute(run_of("thread"))).state is RunState.SUCCEEDED
    assert time.monotonic() - before < 1
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
