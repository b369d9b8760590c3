"""What is made of MongoDB's errors: sentences for people, the right one for each."""

import pytest
from pymongo.errors import NotPrimaryError, PyMongoError, WriteConcernError, WTimeoutError

from cronexec.adapters.mongo_errors import translated
from cronexec.errors import UnreachableError


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (WTimeoutError("waiting for replication timed out", 64), "has no majority of its members behind it"),
        (WriteConcernError("Not enough data-bearing nodes", 100), "has no majority of its members behind it"),
        (WriteConcernError("operation was interrupted", 11602), "stepped down, or shuts down"),
        (WriteConcernError("interrupted at shutdown", 11600), "stepped down, or shuts down"),
        (WriteConcernError("Replication is being shut down", 91), "stepped down, or shuts down"),
        (NotPrimaryError("not primary"), "did not answer: not primary"),
    ],
)
def test_what_is_in_the_way_of_a_majority_is_said(error: PyMongoError, said: str) -> None:
    found = translated(error)

    assert isinstance(found, UnreachableError)
    assert said in found.problem
