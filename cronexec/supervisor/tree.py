"""All that a process started, and its end.

The kernel lists the children of each thread (`/proc/PID/task/TID/children`), which takes microseconds to
read. That matters with processes that fork without end: each is stopped as soon as it is seen, before it can
have another child, or at least within a few generations. Kernels without these lists have all processes
looked through. Where there is no /proc, nobody is found.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

LINUX = sys.platform.startswith("linux")
MOST_ROUNDS = 1000

_READ_BYTES = 1 << 16


def descendants(root: int, without: Collection[int] = ()) -> Iterator[int]:
    """Yield the processes below `root`, the newest children first, also those that have just ended.

    `without`: those that are left out, and all below them.
    """
    children_of = _listed_children if Path(f"/proc/{root}/task/{root}/children").exists() else _look_through()
    above = [root]
    while above:
        for pid in reversed(children_of(above.pop())):
            if pid not in without:
                yield pid
                above.append(pid)


def kill_all(find: Callable[[], Iterator[int]]) -> None:
    """SIGKILL everybody who is found; each stands still first, until nobody is new."""
    stopped: set[int] = set()
    for _ in range(MOST_ROUNDS):
        before = len(stopped)
        for pid in find():
            if pid not in stopped:
                signal_process(pid, signal.SIGSTOP)
                stopped.add(pid)
        if len(stopped) == before:
            break
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


def has_left(pid: int, group: int) -> bool:
    """Whether a process is in another group, or gone."""
    try:
        return os.getpgid(pid) != group
    except ProcessLookupError:
        return True


def _listed_children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):  # it has ended in between
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208  every microsecond counts
            found += map(int, _read(f"/proc/{pid}/task/{task}/children").split())
    return found


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY)
    try:
        data = b""
        while part := os.read(fd, _READ_BYTES):
            data += part
        return data
    finally:
        os.close(fd)


def _look_through() -> Callable[[int], list[int]]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat") if LINUX else ():
        with contextlib.suppress(OSError):  # it has ended in between
            _, parent = entry.read_text(errors="replace").rpartition(")")[2].split()[:2]
            children.setdefault(int(parent), []).append(int(entry.parent.name))
    return lambda pid: children.get(pid, [])
