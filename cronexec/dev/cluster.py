"""N instances on this machine, each `cronexec serve` in a process of its own, with a log file of its own.

An instance that ends while it should not (we killed it, or somebody else did) is started again after
`RESTART_AFTER`, as a supervisor would. One that ends before the first of all has held the baton ends `dev`
with what it said: then it is the application or a setting that is wrong, and trying again would not help.
"""

import os
import shutil
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cronexec.dev.processes import ChildProcess

RESTART_AFTER = timedelta(seconds=3)
STOP_TIMEOUT = timedelta(seconds=15)
DATACENTERS = ("ams", "ams", "fra")


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """An instance's name and datacenter."""

    name: str
    datacenter: str


def places(count: int) -> list[Place]:
    """Return names for `count` instances, two of three in one datacenter: ams-1, ams-2, fra-1, ams-3."""
    taken: dict[str, int] = {}
    found = []
    for index in range(count):
        datacenter = DATACENTERS[index % len(DATACENTERS)]
        taken[datacenter] = taken.get(datacenter, 0) + 1
        found.append(Place(name=f"{datacenter}-{taken[datacenter]}", datacenter=datacenter))
    return found


def serve_command(app: str | None) -> list[str]:
    """Return the command of an instance; `app` is MODULE:NAME, or None."""
    script = shutil.which("cronexec", path=str(Path(sys.executable).parent))
    program = [script] if script else [sys.executable, "-c", "from cronexec.cli.main import main; main()"]
    return [*program, "serve", *(["--app", app] if app else [])]


def inherited_environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return our environment with `own` in it, without the `_FILE` twins of what `own` sets."""
    hidden = {f"{name}_FILE" for name in own}
    return {name: value for name, value in os.environ.items() if name not in hidden} | dict(own)


class Member:
    """One instance's process."""

    def __init__(self, place: Place, process: ChildProcess) -> None:
        self.place = place
        self.process = process
        self.restarts = 0
        self.down_since: float | None = None  # monotonic

    def revive(self, now: float) -> bool:
        """Start the process again if it has been down for `RESTART_AFTER`; returns whether it was started."""
        if self.process.running:
            return False
        if self.down_since is None:
            self.down_since = now
        if now - self.down_since < RESTART_AFTER.total_seconds():
            return False
        self.process.start()
        self.down_since = None
        self.restarts += 1
        return True


class Cluster:
    """The instances; `environment` is what all of them have in common."""

    def __init__(
        self,
        where: Sequence[Place],
        *,
        command: Sequence[str],
        environment: Mapping[str, str],
        directory: Path,
    ) -> None:
        self.members = {place.name: _member(place, command, environment, directory) for place in where}
        self._changing = threading.Lock()
        self._stopping = False

    def start(self) -> None:
        """Start all instances without waiting for anything. Raises ServerStartError."""
        for member in self.members.values():
            member.process.start()

    def ended(self) -> str | None:
        """Return a sentence about an instance that has ended by itself, or None."""
        for name, member in self.members.items():
            code = member.process.exit_code
            if code is not None:
                last = member.process.log_tail().splitlines()[-1]
                return (
                    f"the instance {name} ended with exit code {code}: {last} (the log: {member.process.log})"
                )
        return None

    def kill(self, name: str) -> bool:
        """Kill an instance (SIGKILL); returns whether it is one of ours and was running."""
        member = self.members.get(name)
        if member is None or not member.process.running:
            return False
        member.process.kill()
        member.down_since = time.monotonic()
        return True

    def revive(self) -> list[str]:
        """Start again what has been down long enough; returns the names."""
        now = time.monotonic()
        with self._changing:
            if self._stopping:
                return []
            return [name for name, member in self.members.items() if member.revive(now)]

    def stop(self) -> None:
        """Have all instances stop, side by side, each within its grace; none is started again."""
        with self._changing:
            self._stopping = True
        with ThreadPoolExecutor(max(len(self.members), 1)) as pool:
            for member in self.members.values():
                pool.submit(member.process.stop, timeout=STOP_TIMEOUT)

    def kill_all(self) -> None:
        for member in self.members.values():
            member.process.kill()


def _member(place: Place, command: Sequence[str], environment: Mapping[str, str], directory: Path) -> Member:
    own = {"CRONEXEC_INSTANCE": place.name, "CRONEXEC_DATACENTER": place.datacenter}
    process = ChildProcess(
        place.name,
        command,
        log=directory / f"{place.name}.log",
        env=inherited_environment({**environment, **own}),
    )
    return Member(place, process)
