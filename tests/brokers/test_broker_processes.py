"""Brokers, installed or in a folder, leave nothing behind however they end: no process, no mount."""

import os
import select
import subprocess
import sys
from pathlib import Path

import broker_versions
from broker_versions import FETCHED, broker_of

from cronexec.dev.processes import LOOPBACK, accepts_connections, free_port
from cronexec.dev.rabbitmq import PrivateRabbitmq

ENDS_WITHIN = 10.0  # seconds
STARTS_A_BROKER = """
import pathlib, sys
sys.path.insert(0, sys.argv[2])
from broker_versions import broker_of
broker = broker_of(sys.argv[3], pathlib.Path(sys.argv[1])).start()
print("ready", flush=True)
sys.stdin.read()
"""


def processes_of(directory: Path) -> dict[int, int]:
    """Return the processes with `directory` in their environment; their descriptors tell when they end."""
    wanted = os.fsencode(directory)
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and wanted in (entry / "environ").read_bytes():
                found[int(entry.name)] = os.pidfd_open(int(entry.name))
        except OSError:
            continue  # it has ended meanwhile
    return found


def left_of(processes: dict[int, int]) -> set[int]:
    """Wait for the processes to end and return those that have not."""
    left = set()
    for process, descriptor in processes.items():
        if not select.select([descriptor], [], [], ENDS_WITHIN)[0]:
            left.add(process)
        os.close(descriptor)
    return left


def mounts() -> list[str]:
    return [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(FETCHED) in line]


def test_a_killed_parent_takes_its_broker_with_it(
    broker: PrivateRabbitmq,  # noqa: ARG001  skips without it
    version: str,
    tmp_path: Path,
) -> None:
    folder = str(Path(broker_versions.__file__).parent)
    command = [sys.executable, "-c", STARTS_A_BROKER, str(tmp_path), folder, version]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"ready\n"
        started = processes_of(tmp_path)
        parent.kill()
    assert len(started) >= 2, "the broker and its epmd"
    assert left_of(started) == set()
    assert mounts() == []


def test_a_broker_keeps_its_data_when_it_is_stopped_and_leaves_no_process(
    broker: PrivateRabbitmq,  # noqa: ARG001  skips without it
    version: str,
    tmp_path: Path,
) -> None:
    management = {"management.tcp.ip": LOOPBACK, "management.tcp.port": str(free_port())}
    with broker_of(version, tmp_path, config=management, plugins=["rabbitmq_management"]) as first:
        assert first.version.startswith(f"{version}.")
        assert accepts_connections(int(management["management.tcp.port"]))
        first.ctl("add_vhost", "kept")
        started = processes_of(tmp_path)
    assert left_of(started) == set()
    with broker_of(version, tmp_path) as second:
        assert "kept" in second.ctl("list_vhosts", "name")
    assert mounts() == []
