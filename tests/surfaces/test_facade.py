"""The synchronous and the asynchronous half of what applications call are the same, and the client's."""

import inspect

import pytest

from cronexec import client
from cronexec.facade import AsyncJobs, AsyncRuns, SyncJobs, SyncRuns

HALVES = [(SyncJobs, AsyncJobs, client.Jobs), (SyncRuns, AsyncRuns, client.Runs)]
OWN = {"put", "list"}  # which take what an application has at hand


def calls(part: type) -> dict[str, object]:
    return {name: each for name, each in vars(part).items() if not name.startswith("_")}


@pytest.mark.parametrize(("sync", "awaited", "_"), HALVES)
def test_both_halves_have_the_same_calls_with_the_same_words(sync: type, awaited: type, _: type) -> None:
    assert list(calls(sync)) == list(calls(awaited))
    for name, call in calls(sync).items():
        other = calls(awaited)[name]
        assert callable(call)
        assert callable(other)
        assert inspect.signature(call) == inspect.signature(other), name
        assert inspect.getdoc(call) == inspect.getdoc(other), name
        assert inspect.iscoroutinefunction(other), name
        assert not inspect.iscoroutinefunction(call), name


@pytest.mark.parametrize(("sync", "_", "behind"), HALVES)
def test_what_applications_give_is_what_the_client_takes(sync: type, _: type, behind: type) -> None:
    for name in calls(sync).keys() - OWN:
        taken = inspect.signature(getattr(behind, name)).parameters
        given = inspect.signature(getattr(sync, name)).parameters
        assert list(given.values()) == list(taken.values()), name
