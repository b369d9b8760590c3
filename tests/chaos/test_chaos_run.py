"""A short chaos run, in which every promise must hold: `make chaos` is the long one."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
from chaos_run import Options, run_chaos

LENGTH = timedelta(minutes=1) if os.environ.get("FULL") == "1" else timedelta(seconds=45)
IMPATIENT = {"HEARTBEAT": "3s", "LEASE": "5s", "BATON_LOST_AFTER": "8s", "INSTANCE_LOST_AFTER": "16s"}


@pytest.mark.load
@pytest.mark.timeout(480)
@pytest.mark.usefixtures("server_programs")
async def test_a_short_run_of_faults_misses_doubles_and_loses_nothing(tmp_path: Path) -> None:
    options = Options(
        length=LENGTH,
        seed=7,
        per_second=30,
        per_minute=100,
        changing=10,
        settings=IMPATIENT,
    )
    result = await run_chaos(options, tmp_path)
    checked = result["checked"]
    assert result["problems"] == []
    assert {kind: count for kind, count in checked["violations"].items() if count} == {}, checked["first"]
    assert checked["due"] > 30 * 45
    assert checked["due"] == checked["run"] + sum(checked["skipped"].values())
    assert checked["skipped"]["excluded"] > 30
    assert checked["commands"]["applied"] > 50
    assert checked["backfilled"]["succeeded"] > 5
    assert checked["targets"]["webhook, wait: callback"] > 30
    assert checked["targets"]["handler, isolation: process"] > 30
    assert sum(result["figures"]["faults"].values()) > 5
