"""Which deliveries one frame may acknowledge: never one that is still in hand."""

import pytest

from cronexec.adapters.rabbitmq_link import Unacked


@pytest.mark.parametrize(
    ("acked", "before", "others"),
    [
        ([1, 2, 3], 3, []),
        ([3, 1, 2], 3, []),
        ([2, 3], None, [2, 3]),
        ([1, 2, 4, 5], 2, [4, 5]),
        ([1], 1, []),
        ([9], None, []),
        ([], None, []),
    ],
)
def test_only_what_nothing_precedes_is_acked_together(
    acked: list[int], before: int | None, others: list[int]
) -> None:
    unacked = Unacked()
    for tag in range(1, 6):
        unacked.add(tag)
    assert unacked.take(acked) == (before, others)


def test_what_was_in_the_way_is_acked_with_those_behind_it_once_it_may() -> None:
    unacked = Unacked()
    for tag in range(1, 6):
        unacked.add(tag)
    assert unacked.take([2, 3, 5]) == (None, [2, 3, 5])
    assert unacked.take([1, 4]) == (4, [])
    assert unacked.take([4]) == (None, [])
