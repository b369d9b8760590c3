"""The tally: what is counted, on which threads, and what a heartbeat and `health` tell of it."""

import logging
from collections.abc import Iterator
from contextvars import copy_context
from datetime import timedelta
from threading import Thread

import pytest
import structlog
from bench import Bench, until
from virtual_time import NOON

from cronexec.log import count_with, get_logger
from cronexec.runtime.tally import MOST_NAMES, MOST_TOLD, OTHERS, Tally


@pytest.fixture(params=["plain", "configured"])
def shown(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Return what the log shows, where the application has configured structlog and where it has not."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("cronexec")
    logger.addHandler(handler)
    structlog.reset_defaults()  # a test before this one may have left a configuration, if only the usual one
    if request.param == "configured":
        structlog.configure(
            processors=[structlog.stdlib.filter_by_level, structlog.processors.KeyValueRenderer()],
            wrapper_class=structlog.stdlib.BoundLogger,
            logger_factory=structlog.stdlib.LoggerFactory(),
            cache_logger_on_first_use=True,
        )
    yield lines
    structlog.reset_defaults()
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def log_a_few() -> None:
    log = get_logger(instance="anna")
    log.info("term.began")
    log.warning("term.ended", reason="fenced")
    log.bind(epoch=2).warning("term.ended", reason="fenced")
    log.error("engine.blocked")
    log.exception("candidate.crashed", exc_info=ValueError())  # noqa: LOG004  nothing needs to be raised for it


def counted(tally: Tally) -> None:
    count_with(tally.count)
    log_a_few()


EXPECTED = {"term.ended": 2, "engine.blocked": 1, "candidate.crashed": 1}


def test_warnings_and_errors_are_counted_by_their_names_and_logged_all_the_same(shown: list[str]) -> None:
    tally = Tally(lambda: NOON)

    copy_context().run(counted, tally)

    assert tally.counts() == EXPECTED
    assert [line for line in shown if "fenced" in line and "anna" in line][1:]


def test_what_the_application_does_not_want_to_see_is_counted(shown: list[str]) -> None:
    logging.getLogger("cronexec").setLevel(logging.CRITICAL)
    tally = Tally(lambda: NOON)

    copy_context().run(counted, tally)

    assert (tally.counts(), shown) == (EXPECTED, [])


def test_a_logger_counts_on_any_thread_and_others_do_not_count(shown: list[str]) -> None:
    tally = Tally(lambda: NOON)

    def got_in_this_context() -> structlog.stdlib.BoundLogger:
        count_with(tally.count)
        return get_logger()

    log = copy_context().run(got_in_this_context)
    thread = Thread(target=lambda: log.warning("engine.stalled"))
    thread.start()
    thread.join()
    log_a_few()

    assert tally.counts() == {"engine.stalled": 1}
    assert len(shown) >= 5


def test_names_are_bounded_and_the_most_frequent_are_told() -> None:
    now = [NOON]
    tally = Tally(lambda: now[0])
    for number in range(MOST_NAMES + 10):
        tally.count(f"event.number_{number}")
    now[0] = NOON + timedelta(seconds=1)
    tally.count("event.number_7")

    told = tally.most_frequent()

    assert len(tally.counts()) == MOST_NAMES + 1
    assert [(each.event, each.count, each.last_at) for each in told[:3]] == [
        (OTHERS, 10, NOON),
        ("event.number_7", 2, now[0]),
        ("event.number_0", 1, NOON),
    ]
    assert len(told) == MOST_TOLD


async def test_health_and_the_heartbeat_tell_what_was_counted(bench: Bench) -> None:
    anna = await bench.holder("anna")
    anna.instance.candidate.end_term("a test")
    await until(lambda: anna.said("term.ended"), anna.instance.health)
    await anna.holding()

    await anna.instance.heart.beat()

    (record,) = await bench.store.instances.list()
    assert anna.instance.health().events == {"term.ended": 1}
    assert {each.event: each.count for each in record.events} == {"term.ended": 1}
