"""How a shell command tells its progress: lines in a named pipe, which the executor reads.

Each run has a pipe of its own in a directory that only this user can enter; `CRONEXEC_PROGRESS` names it. So
a command needs neither the database's URL nor a library, and `echo 2 5 matches > "$CRONEXEC_PROGRESS"` is
enough. The pipe is opened for both ends, so that it has no end of file between two writers, and read without
waiting. A command that floods it blocks itself and nobody else.

Where no pipe can be made (no directory for temporary files), runs are told nothing of one, and the log says
why.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from cronexec.domain.progress_line import parse_progress
from cronexec.log import get_logger

VARIABLE = "CRONEXEC_PROGRESS"
READ_BYTES = 64 * 1024
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
        self._read()  # what was told just before the end
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)
        self._path.unlink(missing_ok=True)

    def _open(self, path: Path) -> int:
        os.mkfifo(path, 0o600)
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        asyncio.get_running_loop().add_reader(fd, self._read)
        return fd

    def _read(self) -> None:
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return
        *lines, self._begun = (self._begun + data).split(b"\n")
        self._begun = self._begun[:LINE_BYTES]
        for line in lines:
            self._take(line.decode(errors="replace").strip())

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
        self._is_possible = True

    def open(self, report: Report, complain: Complain) -> ProgressPipe:
        """Return a pipe, to be used as a context."""
        if self._is_possible:
            try:
                return ProgressPipe(self._new_path(), report, complain)
            except OSError as error:
                self._is_possible = False
                get_logger().warning("progress.not_possible", why=str(error))
        return ProgressPipe(None, report, complain)

    def close(self) -> None:
        directory, self._directory = self._directory, None
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)

    def _new_path(self) -> Path:
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="cronexec-"))  # 0700
        return self._directory / f"progress-{next(self._numbers)}"
