"""Every kind of fault, planted anywhere in a correct history, is found."""

from collections.abc import Callable

import planted_commands
import planted_policies
import planted_runs
import pytest
from checker import check
from checker_report import VIOLATIONS
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import FAULTS
from sample_history import Sample, make

PLANTED_IN = (planted_commands, planted_policies, planted_runs)  # they have registered their faults


@pytest.mark.parametrize(("violation", "plant"), FAULTS, ids=[fault.__name__ for _, fault in FAULTS])
def test_it_is_found(violation: str, plant: Callable[[Sample], None]) -> None:
    @settings(max_examples=8, deadline=None, derandomize=True)
    @given(seed=st.integers(0, 10_000))
    def found(seed: int) -> None:
        sample = make(seed)
        plant(sample)
        report = check(sample.history)
        assert report.counts[violation], dict(report.first)

    found()


def test_every_kind_of_violation_is_planted_somewhere() -> None:
    assert {violation for violation, _ in FAULTS} == set(VIOLATIONS)
