"""`ns`: a namespace for applications; `embed`: instances in this process; `cronexec`: the command line.

`given`: the variables for a `cronexec dev` on the test's servers.
"""

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from applications import Namespace
from cli_program import CommandLine, Serving, serving, settings_for

from cronexec import Cronexec


@pytest.fixture(scope="module")
def environment(amqp_url: str, mongo_url: str) -> dict[str, str]:
    return settings_for(amqp_url, mongo_url, f"t{secrets.token_hex(4)}")


@pytest.fixture(scope="module")
def holder(environment: dict[str, str]) -> Iterator[Serving]:
    with serving(environment) as served:
        served.wait_for("term.first_commit")
        yield served


@pytest.fixture
def cronexec(environment: dict[str, str], holder: Serving) -> CommandLine:
    """The command line, in a namespace that an instance holds; one for all tests of a module."""
    assert holder.lines
    return CommandLine(environment)


@pytest.fixture
def ns(amqp_url: str, mongo_url: str, namespace: str) -> Namespace:
    return Namespace(amqp_url, mongo_url, namespace)


@pytest.fixture
def embed(ns: Namespace) -> Iterator[Callable[..., Cronexec]]:
    """Make instances, which are stopped after the test; not started yet."""
    made: list[Cronexec] = []

    def make(**overrides: Any) -> Cronexec:
        made.append(Cronexec(ns.settings(**overrides)))
        return made[-1]

    yield make
    for cron in made:
        cron.stop(grace=0)


@pytest.fixture
def given(amqp_url: str, mongo_url: str, namespace: str) -> dict[str, str]:
    """The variables that name the session's servers and a namespace of this test's own."""
    return {
        "CRONEXEC_AMQP_URL": amqp_url,
        "CRONEXEC_MONGO_URL": mongo_url,
        "CRONEXEC_NAMESPACE": namespace,
    }
