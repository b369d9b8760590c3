"""Two thousand histories in which everything goes wrong; and that a removed safeguard is found out.

Each test is a process of its own, whose modules and unfinished tasks are nobody else's.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SIMULATION = Path(__file__).parent
SEEDS = 2000
SHARES = 8
PATIENCE = 900.0
MUTATIONS = (
    "no_fence",
    "reading_fence",
    "watermark_first",
    "no_adoption",
    "duplicates_kept",
    "unclear_is_done",
    "unclear_is_repeated",
    "nack_without_cancel",
    "drain_first",
    "endless_lease",
    "begins_unchecked",
    "beyond_ignored",
    "acked_on_arrival",
    "baton_acked",
    "never_inserts",
    "pause_end_ignored",
    "range_kept",
    "table_trusted",
    "delays_ignored",
    "exclusions_missed",
    "wall_clock",
)

pytestmark = pytest.mark.timeout(PATIENCE)


def simulate(*arguments: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SIMULATION, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
    )


@pytest.mark.parametrize("share", range(SHARES))
def test_no_history_violates_an_invariant(share: int) -> None:
    each = SEEDS // SHARES
    done = simulate("--first", str(share * each), "--seeds", str(each), "--processes", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{each} histories" in done.stdout
    assert "0 failed" in done.stdout


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_removed_safeguard_is_noticed(mutation: str) -> None:
    done = simulate("--mutation", mutation, "--until-failure", "--seeds", str(SEEDS), "--processes", "1")
    assert re.search(rf"^{mutation} +seed \d+: \w+: ", done.stdout), done.stdout + done.stderr
    assert done.returncode == 1


def test_every_mutation_is_tried() -> None:
    assert sorted(MUTATIONS) == simulate("--list-mutations").stdout.split()


@pytest.mark.parametrize("seed", ["3", "7", "11"])
def test_a_seed_is_the_same_history_every_time(seed: str) -> None:
    first, second = simulate("--seed", seed), simulate("--seed", seed, hash_seed="4711")
    assert first.stdout == second.stdout
    assert len(first.stdout.splitlines()) > 50


def test_a_failing_seed_is_replayed_to_the_same_failure_and_tells_its_history() -> None:
    met = simulate("--mutation", "no_fence", "--until-failure", "--processes", "1").stdout
    found = re.search(r"seed (\d+): (.+)", met)
    assert found is not None, met
    replayed = simulate("--mutation", "no_fence", "--seed", found[1])
    assert replayed.returncode == 1
    assert f"!    {found[2].replace(': ', ' ', 1)}" in replayed.stdout
    assert re.search(r"^ +\d+\.\d{4} db +committed epoch=", replayed.stdout, re.MULTILINE)
