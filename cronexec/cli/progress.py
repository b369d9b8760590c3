"""`cronexec progress`: a shell command tells how far its run is.

Imports next to nothing, because scripts call it often.
"""

import errno
import os

import click

from cronexec.domain.progress_line import parse_progress, progress_line

VARIABLE = "CRONEXEC_PROGRESS"


@click.command(
    short_help="Inside a shell job: tell how far the run is.",
    epilog="\b\nExamples:\n  cronexec progress 2 5 matches\n  cronexec progress 350",
)
@click.argument("done")
@click.argument("rest", nargs=-1, metavar="[TOTAL] [MESSAGE]")
def progress(done: str, rest: tuple[str, ...]) -> None:
    """Inside a shell job: tell how far the run is.

    Where this program is not installed, a line in the pipe that CRONEXEC_PROGRESS names does the same: echo 2
    5 matches > "$CRONEXEC_PROGRESS"
    """
    try:
        told = parse_progress(" ".join((done, *rest)))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    path = os.environ.get(VARIABLE)
    if not path:
        raise click.UsageError(
            f"{VARIABLE} is not set: only the command of a shell job can tell how far its run is"
        )
    _write(path, progress_line(*told))


def _write(path: str, line: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        gone = error.errno in {errno.ENOENT, errno.ENXIO}
        why = "its run is over, or its instance is gone" if gone else os.strerror(error.errno or 0)
        raise click.ClickException(f"no progress can be told: {why}") from None
    try:
        os.write(fd, line.encode(errors="replace"))
    except BlockingIOError:
        pass  # more than the instance takes: of many reports only the last ones count
    except BrokenPipeError:
        raise click.ClickException("no progress can be told: its run is over") from None
    finally:
        os.close(fd)
