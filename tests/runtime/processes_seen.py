"""Processes as tests look at them."""

from pathlib import Path

from target_runs import wait_until


def alive(pid: int) -> bool:
    """Whether it is a process; a zombie that its parent has not looked at yet is none any more."""
    try:
        return state_of(pid) != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def open_descriptors() -> list[str]:
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


async def pids_in(path: Path, number: int) -> list[int]:
    """Return the process ids that commands wrote to a file, a line each."""

    def read() -> list[int]:
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    await wait_until(lambda: len(read()) >= number, read)
    return read()
