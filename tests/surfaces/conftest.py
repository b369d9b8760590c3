"""`ns`: a namespace for applications; `embed`: instances in the test's own process."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from applications import Namespace

from cronexec import Cronexec


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
