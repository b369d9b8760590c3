"""`H` in cron expressions: what it becomes for a job, in this process and in every other."""

import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cronexec.domain.hashed import is_hashed, resolve_hashed
from cronexec.domain.job import JobDocument
from cronexec.domain.schedule import Schedule

NAMES = [f"job-{number}" for number in range(2000)]
START = datetime(2026, 1, 1, tzinfo=UTC)

# What a name becomes never changes: another value would move the slots of everybody's jobs.
FIXED = [
    ("close-league", "H * * * *", "26 * * * *"),
    ("close-league", "H H * * *", "26 5 * * *"),
    ("close-league", "h h * * *", "26 5 * * *"),
    ("close-league", "H H H H H H", "24 26 5 7 8 5"),
    ("close-league", "H/15 * * * *", "11-59/15 * * * *"),
    ("close-league", "H(0-29) H(2-4) * * *", "26 4 * * *"),
    ("close-league", "H(0-29)/10 * * * *", "6-29/10 * * * *"),
    ("close-league", "0 3 * * H(mon-fri)", "0 3 * * 3"),
    ("close-league", "0 0 1 H(jan-jun) *", "0 0 1 2 *"),
    ("close-league", "H,H,30 0 H/3 * *", "26,33,30 0 1-28/3 * *"),
    ("a", "H H * * *", "10 2 * * *"),
]


@pytest.mark.parametrize(("name", "text", "resolved"), FIXED)
def test_an_h_is_the_same_for_ever(name: str, text: str, resolved: str) -> None:
    assert resolve_hashed(text, name) == resolved


def test_another_process_hashes_alike() -> None:
    program = "from cronexec.domain.hashed import resolve_hashed; print(resolve_hashed('H H H H H H', 'a'))"
    for seed in ("0", "1"):
        said = subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert said.stdout.strip() == resolve_hashed("H H H H H H", "a")


RANGES = [
    ("H", 0, 59), ("H(0-29)", 0, 29), ("* H", 0, 23), ("* * H", 1, 28), ("* * H(29-31)", 29, 31),
    ("* * * H", 1, 12), ("* * * * H", 0, 6), ("* * * * H(5-7)", 5, 7),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "low", "high"), RANGES)
def test_names_are_spread_evenly_over_the_whole_range(fields: str, low: int, high: int) -> None:
    index = len(fields.split()) - 1
    text = f"{fields} {' '.join('*' for _ in range(4 - index))}"
    values = Counter(int(resolve_hashed(text, name).split()[index]) for name in NAMES)
    assert set(values) == set(range(low, high + 1))
    even = len(NAMES) / (high - low + 1)
    assert max(values.values()) < 1.8 * even
    assert min(values.values()) > 0.3 * even


@given(st.sampled_from(NAMES), st.integers(2, 30))
@settings(max_examples=100, derandomize=True, deadline=None)
def test_steps_begin_below_their_step_and_keep_their_distance(name: str, step: int) -> None:
    schedule = Schedule.from_document({"cron": f"H/{step} * * * *"}, name=name)
    before = timedelta(seconds=1)
    minutes = [slot.minute for slot in schedule.slots(START - before, START.replace(hour=1) - before)]
    assert minutes[0] < step
    assert all(later - sooner == step for sooner, later in pairwise(minutes))
    assert minutes[-1] + step >= 60


def test_a_minute_does_not_move_when_seconds_are_added() -> None:
    for name in NAMES[:20]:
        assert resolve_hashed("H H H * * *", name).split()[1:] == resolve_hashed("H H * * *", name).split()


def test_only_an_h_is_hashed() -> None:
    assert [text for text in ("0 3 * * THU", "@hourly", "0 3 * MAR *", "* * * * *") if is_hashed(text)] == []
    assert is_hashed("0 0,H(3-5) * * *")


def document(name: str, cron: str) -> JobDocument:
    return JobDocument.parse(
        {"name": name, "schedule": {"cron": cron}, "target": {"type": "shell", "command": "true"}}
    )


def test_a_document_keeps_its_h_and_its_job_its_own_time() -> None:
    here, there = document("a", "H H * * *"), document("b", "H H * * *")
    assert here.to_document()["schedule"] == {"cron": "H H * * *", "timezone": "UTC"}
    assert here.schedule.next_after(START) == datetime(2026, 1, 1, 2, 10, tzinfo=UTC)
    assert here.schedule.next_after(START) != there.schedule.next_after(START)
    assert here.schedule != there.schedule
    assert JobDocument.parse(here.to_document()) == here


def test_equal_schedules_share_one_object_but_for_an_h() -> None:
    assert document("a", "0 3 * * *").schedule is document("b", "0 3 * * *").schedule
    assert document("a", "H 3 * * *").schedule is document("a", "H 3 * * *").schedule
    assert document("a", "H 3 * * *").schedule is not document("b", "H 3 * * *").schedule
