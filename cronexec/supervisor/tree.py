"""All that a process started, and its end."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Collection
from pathlib import Path

LINUX = sys.platform.startswith("linux")


def descendants(root: int, without: Collection[int] = ()) -> dict[int, int]:
    """Return the processes below `root` that are alive, with their groups; nothing where there is no /proc.

    `without`: those that are left out, and all below them.
    """
    children: dict[int, list[tuple[int, int]]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat") if LINUX else ():
        with contextlib.suppress(OSError):  # it has ended in between
            state, parent, group = entry.read_text(errors="replace").rpartition(")")[2].split()[:3]
            if state not in "ZX":
                children.setdefault(int(parent), []).append((int(entry.parent.name), int(group)))
    found: dict[int, int] = {}
    above = [root]
    while above:
        below = [each for each in children.get(above.pop(), ()) if each[0] not in without]
        found |= below
        above += [pid for pid, _ in below]
    return found


def kill_all(find: Callable[[], Collection[int]]) -> None:
    """SIGKILL everybody who is found; what could fork meanwhile stands still first, until nobody is new."""
    stopped: set[int] = set()
    while new := set(find()) - stopped:
        for pid in new:
            signal_process(pid, signal.SIGSTOP)
        stopped |= new
    for pid in stopped:
        signal_process(pid, signal.SIGKILL)


def signal_process(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def signal_group(group: int, number: int) -> bool:
    """Return whether there was anybody to get it (macOS refuses where there are only zombies)."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
