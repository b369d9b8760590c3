"""Which functions another process can find, and what is said of the others."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import isolated_handlers as here
import pytest
from isolated_runs import executed, isolated, run_of
from target_runs import printed

from cronexec.declared import Declarations
from cronexec.domain.targets import HandlerTarget as Document
from cronexec.errors import SettingsError
from cronexec.targets.handler import Handlers, HandlerTarget
from cronexec.targets.handler_run import Run


@pytest.fixture
async def handlers() -> Handlers:
    return isolated()


def _local() -> Callable[[Run], None]:
    def function(_run: Run) -> None:
        raise AssertionError

    return function


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (
            lambda _: None,
            "a lambda has no name to import it by: make it a function of a module",
        ),
        (
            _local(),
            "it is defined within _local, where no import reaches: move it to the module",
        ),
    ],
)
async def test_what_no_import_can_find_is_refused_at_registration_and_before_a_start(
    function: Callable[[Run], Any], why: str
) -> None:
    handlers = Handlers()
    sentence = f"the handler h cannot run in a process of its own: {why}"
    with pytest.raises(SettingsError, match=r"cannot run in a process of its own") as caught:
        handlers.register("h", function, isolated=True)
    assert str(caught.value) == sentence
    handlers.register("h", function)
    target = HandlerTarget(handlers)
    assert target.unavailable(Document(name="h", isolation="process")) == sentence
    assert target.unavailable(Document(name="h")) is None
    assert (await target.execute(run_of("h"))).error == sentence
    await target.close()


def test_a_job_that_is_declared_isolated_needs_a_function_that_can_be_imported() -> None:
    declarations = Declarations()
    declarations.job("report", every="1h", isolation="process", kill_after="3s")(here.report)
    target = declarations.documents["report"].target
    assert target == Document(name="report", isolation="process", kill_after=timedelta(seconds=3))
    with pytest.raises(SettingsError, match="the handler local cannot run in a process of its own"):
        declarations.job("local", every="1h", isolation="process")(lambda _: None)
    assert "local" not in declarations.documents


async def test_a_name_that_means_something_else_by_now_is_refused() -> None:
    handlers = Handlers()

    def tell(_run: Run) -> None:
        raise AssertionError

    tell.__qualname__, tell.__module__ = "tell", here.__name__
    handlers.register("h", tell)
    handlers.register("bound", here.League().play)
    target = HandlerTarget(handlers)
    assert target.unavailable(Document(name="h", isolation="process")) == (
        "the handler h cannot run in a process of its own: isolated_handlers.tell is another object by now: "
        "give each function a name of its own"
    )
    assert target.unavailable(Document(name="bound", isolation="process")) is not None
    await target.close()


async def test_what_decorators_and_classes_hide_is_found(target: HandlerTarget, handlers: Handlers) -> None:
    handlers.register("inner", here.inner)
    handlers.register("outer", here.wrapped)
    handlers.register("static", here.League.close)
    for name, result in (
        ("inner", "close-league was wrapped"),
        ("outer", "close-league was wrapped!"),
        ("static", "static"),
    ):
        execution = run_of(name)
        assert (await executed(target, execution)).error is None
        assert json.loads(printed(execution)) == result
