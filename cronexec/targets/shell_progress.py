"""How a shell command tells its progress: lines in a named pipe, which the executor reads.

Each run has a pipe of its own in a directory that only this user can enter; `CRONEXEC_PROGRESS` names it. So
a command needs neither the database's URL nor a library, and `echo 2 5 matches > "$CRONEXEC_PROGRESS"` is
enough. The pipe is opened for both ends, so that it has no end of file between two writers, and read without
waiting, a portion at a time: a command that floods it blocks itself and nobody else.

Where no pipe can be made (no directory for temporary files, no descriptor left), a run is told nothing of
one, and the log says why; the next run tries again, in another directory where somebody has cleaned up ours.
"""

import asyncio
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from cronexec.domain.progress_line import parse_progress
from cronexec.log import get_logger

VARIABLE = "CRONEXEC_PROGRESS"
READ_BYTES = 4096
PAUSE = 0.005  # seconds between two portions
MOST_PORTIONS = 64  # that are read at the end of a run: others may write for ever
LINE_BYTES = 4096  # a longer one cannot be written at once, and is no progress

Report = Callable[[float, float | None, str], None]
Complain = Callable[[str], None]


class ProgressPipe:
    """One run's. `report` takes what is told; `complain`, once, a line that cannot be understood."""

    def __init__(self, path: Path | None, report: Report, complain: Complain) -> None:
        self._path = path
        self._report = report
        self._complain = complain
        self._has_complained = False
        self._begun = b""
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._fd = -1 if path is None else self._open(path)

    @property
    def variables(self) -> dict[str, str]:
        """What the command's environment gets."""
        return {} if self._path is None else {VARIABLE: str(self._path)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._path is None:
            return
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self._path.unlink(missing_ok=True)

    async def drain(self) -> None:
        """Take what was told just before the end of the command."""
        for _ in range(MOST_PORTIONS if self._path is not None else 0):
            if not self._read():
                return
            await asyncio.sleep(0)

    def _open(self, path: Path) -> int:
        os.mkfifo(path, 0o600)
        try:
            fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        except OSError:
            path.unlink()
            raise
        self._loop.add_reader(fd, self._read_on)
        return fd

    def _read_on(self) -> None:
        if self._read():
            self._loop.remove_reader(self._fd)
            self._pause = self._loop.call_later(PAUSE, self._resume)

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._fd, self._read_on)

    def _read(self) -> bool:
        """Take a portion. Returns whether there may be more."""
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return False
        *lines, self._begun = (self._begun + data).split(b"\n")
        self._begun = self._begun[:LINE_BYTES]
        for line in lines:
            self._take(line.decode(errors="replace").strip())
        return len(data) == READ_BYTES

    def _take(self, line: str) -> None:
        if not line:
            return
        try:
            told = parse_progress(line)
        except ValueError as error:
            if not self._has_complained:
                self._has_complained = True
                self._complain(f"cronexec: no progress: {error}\n")
            return
        self._report(*told)


class ProgressPipes:
    """The pipes of an instance's shell runs, in a directory that is made with the first."""

    def __init__(self) -> None:
        self._directory: Path | None = None
        self._numbers = count(1)
        self._was_possible = True

    def open(self, report: Report, complain: Complain) -> ProgressPipe:
        """Return a pipe, to be used as a context."""
        try:
            pipe = ProgressPipe(self._new_path(), report, complain)
        except OSError as error:
            if self._was_possible:
                get_logger().warning("progress.not_possible", why=str(error))
            self._was_possible = False
            return ProgressPipe(None, report, complain)
        self._was_possible = True
        return pipe

    def close(self) -> None:
        directory, self._directory = self._directory, None
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)

    def _new_path(self) -> Path:
        if self._directory is None or not _is_ours(self._directory):
            self._directory = Path(tempfile.mkdtemp(prefix="cronexec-"))  # 0700
        return self._directory / f"progress-{next(self._numbers)}"


def _is_ours(directory: Path) -> bool:
    """Whether it is there still, and is not another's of that name: anybody may make one beside it."""
    try:
        status = directory.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
