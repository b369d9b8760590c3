"""What handlers are given, and what becomes of what they return or raise."""

import os
from collections.abc import Callable
from typing import Any

import pytest
from handler_runs import outcome_of, run_of
from target_runs import SLOT

from cronexec.domain.run import RunState
from cronexec.domain.targets import HandlerTarget as Document
from cronexec.errors import SettingsError
from cronexec.targets.handler import Handlers, HandlerTarget
from cronexec.targets.handler_outcome import MOST_TRACEBACK
from cronexec.targets.handler_run import Run


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


async def test_an_error_whose_words_are_no_text_can_be_stored(
    target: HandlerTarget, handlers: Handlers
) -> None:
    def handler(_run: Run) -> None:
        raise ValueError(os.fsdecode(b"caf\xe9"))

    outcome, output = await outcome_of(target, handlers, handler)
    assert outcome.error == "ValueError: caf?"
    assert "caf?" in output


@pytest.mark.parametrize("before", range(0, 24, 4))
async def test_no_password_is_cut_in_two_where_a_traceback_is_too_long(
    before: int, target: HandlerTarget, handlers: Handlers
) -> None:
    url = "amqp://user:hidden-hidden@broker/"

    def handler(_run: Run) -> None:
        raise ValueError(url + "\n" + "x" * (MOST_TRACEBACK - len("@broker/\n\n") - before))

    _, output = await outcome_of(target, handlers, handler)
    assert len(output) == MOST_TRACEBACK
    assert "hid" not in output
    assert "den" not in output
