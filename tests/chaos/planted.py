"""Faults that are planted in a correct history: what they are registered and written with."""

from collections.abc import Callable

from checker_history import Entry
from hypothesis import assume
from sample_history import Sample

FAULTS: list[tuple[str, Callable[[Sample], None]]] = []
NEAR = 4.0  # seconds; two tolerances, and how long a command takes


def plants(violation: str) -> Callable[[Callable[[Sample], None]], Callable[[Sample], None]]:
    """Register a fault that must be found as `violation`."""

    def register(fault: Callable[[Sample], None]) -> Callable[[Sample], None]:
        FAULTS.append((violation, fault))
        return fault

    return register


def some_run(sample: Sample) -> Entry:
    ran = sample.ran()
    assume(ran)
    return sample.rng.choice(ran)


def some_skip(sample: Sample, reason: str) -> Entry:
    skips = [entry for entry in sample.history.entries if entry.reason == reason]
    assume(skips)
    return sample.rng.choice(skips)


def is_near_a_change(sample: Sample, entry: Entry) -> bool:
    """Whether a command about the job was under way around the slot: it is in doubt."""
    of_job = [sent for sent in sample.history.commands if sent.job == entry.job]
    return any(abs(sent.sent_at - entry.slot) < NEAR for sent in of_job)
