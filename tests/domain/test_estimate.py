"""How long a run still takes, told from how long others took."""

import pytest

from cronexec.domain.estimate import Remaining, remaining, remaining_together

USUAL = [10.0] * 9 + [100.0]


@pytest.mark.parametrize(
    ("durations", "elapsed", "likely", "long"),
    [
        pytest.param(USUAL, 0, 10, 100, id="at the start the usual length, and the longest of ten"),
        pytest.param(USUAL, 4, 6, 96, id="what has passed is taken off"),
        pytest.param(USUAL, 10.5, 89.5, 89.5, id="beyond the usual it is one of the long ones"),
        pytest.param([5.0], 2, 3, 3, id="one past run is better than none"),
        pytest.param([float(n) for n in range(1, 21)], 0, 11, 19, id="twenty different ones"),
    ],
)
def test_what_is_left_is_told_by_the_runs_that_took_longer(
    durations: list[float], elapsed: float, likely: float, long: float
) -> None:
    assert remaining(durations, elapsed) == Remaining(likely_s=likely, long_s=long)


@pytest.mark.parametrize(("durations", "elapsed"), [([], 0), ([5.0, 6.0], 6), ([5.0], 60)])
def test_nothing_is_known_where_no_run_took_as_long(durations: list[float], elapsed: float) -> None:
    assert remaining(durations, elapsed) is None


def test_several_are_over_with_the_last_of_them() -> None:
    short, long = Remaining(likely_s=1, long_s=50), Remaining(likely_s=10, long_s=20)
    assert remaining_together([short, None, long]) == Remaining(likely_s=10, long_s=50)
    assert remaining_together([None]) is None
    assert remaining_together([]) is None
