"""`cronexec dev`: everything on this machine. Options in; `cronexec.dev.development` does it."""

import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import click

from cronexec.cli.documents import CrontabOptions, read_files
from cronexec.cli.failure import REFUSED, UNREACHABLE, USAGE, Failure
from cronexec.cli.output import Length, examples
from cronexec.cli.session import DRIVERS
from cronexec.dev.development import Development, DevelopmentError, Plan
from cronexec.dev.devfile import DevFile, DevFileError
from cronexec.dev.directory import DataDirectory, DataDirectoryError
from cronexec.dev.errors import MissingServerError, ServerStartError
from cronexec.dev.watch import Watch, WatchOptions
from cronexec.domain.job import JobDocument
from cronexec.errors import InvalidDocumentError

SIMPLE_TERMINALS = frozenset({"", "dumb", "unknown"})  # they cannot move the cursor
EXIT_CODES: tuple[tuple[type[Exception], int, str], ...] = (
    (DevFileError, USAGE, "settings"),
    (DataDirectoryError, REFUSED, "data_directory"),
    (DevelopmentError, REFUSED, "failed"),
    (MissingServerError, UNREACHABLE, "missing"),
    (ServerStartError, UNREACHABLE, "unreachable"),
)


def _check_length(_: click.Context, __: click.Parameter, length: timedelta | None) -> timedelta | None:
    if length is not None and not length:
        raise click.BadParameter("it must be longer than 0.")
    return length


@examples(
    "cronexec dev jobs.yaml crontab",
    "cronexec dev jobs.yaml --app myproject.jobs:cron --kill-holder-every 20s",
    "cronexec dev --data-dir .cronexec",
)
@click.command(short_help="Run everything on this machine: private servers and several instances.")
@click.argument(
    "files", nargs=-1, metavar="[JOBS]...", type=click.Path(exists=True, dir_okay=False, allow_dash=True)
)
@click.option(
    "--instances", type=click.IntRange(1, 20), default=3, show_default=True, help="How many instances to run."
)
@click.option(
    "--kill-holder-every",
    type=Length(),
    callback=_check_length,
    metavar="LENGTH",
    help="Kill (-9) the holder this often, as in 20s; it is started again.",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the servers' data here; else it is temporary.",
)
@click.option(
    "--app",
    metavar="MODULE:NAME",
    help="The application's Cronexec object, with its handlers; as in 'serve'.",
)
@click.option(
    "--with",
    "commands",
    metavar="COMMAND",
    multiple=True,
    help="Start this program too, e.g. a receiver of webhooks.",
)
@click.option(
    "--allow-shell/--no-allow-shell",
    default=True,
    show_default=True,
    help="Whether jobs may run shell commands.",
)
@click.option(
    "--plain",
    "--no-view",
    is_flag=True,
    help="A line every few seconds, as without a terminal, in place of the view.",
)
@click.option(
    "--for",
    "stop_after",
    type=Length(),
    callback=_check_length,
    metavar="LENGTH",
    help="Stop by itself after this long, as in 30s.",
)
@click.pass_context
def dev(
    ctx: click.Context,
    *,
    files: Sequence[str],
    instances: int,
    kill_holder_every: timedelta | None,
    data_dir: Path | None,
    app: str | None,
    commands: Sequence[str],
    allow_shell: bool,
    plain: bool,
    stop_after: timedelta | None,
) -> None:
    """Run private servers and several instances on this machine, and show what happens.

    RabbitMQ and MongoDB have to be installed. The jobs of the given files (YAML, JSON or crontabs, as in
    'job put') are put at the start.

    Servers that CRONEXEC_AMQP_URL and CRONEXEC_MONGO_URL name are used in place of private ones. Each
    instance is a process of its own, started again when it is killed, and writes its log to
    instances/NAME.log in the data directory. Ctrl-C stops everything; a second one ends it at once.

    A file dev.toml beside the first job file stands for --app and --with where neither is given, with lines
    such as app = "app:cron" and with = ["python receiver.py"]; both are then found in its folder.
    """
    given = ctx.find_root().obj or {}
    try:
        jobs = _read_jobs(files)
        setup = DevFile(app=app, commands=commands, folder=Path.cwd())
        if not app and not commands:
            setup = DevFile.beside(files[0] if files else None)
        if setup.path:
            click.echo(f"using {setup.path}")
        plan = Plan(
            jobs=jobs,
            instances=instances,
            app=setup.app,
            commands=setup.commands,
            folder=setup.folder,
            allow_shell=allow_shell,
            namespace=given.get("namespace"),
            config=given.get("file"),
        )
        options = WatchOptions(
            view=not plain and sys.stdout.isatty() and os.environ.get("TERM", "") not in SIMPLE_TERMINALS,
            kill_holder_every=kill_holder_every,
            stop_after=stop_after,
        )
        _run(plan, options, data_dir)
    except tuple(kind for kind, _, _ in EXIT_CODES) as error:
        raise _failure_of(error) from error


def _run(plan: Plan, options: WatchOptions, data_dir: Path | None) -> None:
    for name in DRIVERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    with DataDirectory(data_dir) as directory:
        servers = directory.servers(
            amqp_url=os.environ.get("CRONEXEC_AMQP_URL"), mongo_url=os.environ.get("CRONEXEC_MONGO_URL")
        )
        watch = Watch(options, say=click.echo)
        development = Development(plan, directory=directory, servers=servers, say=click.echo)
        development.on_stop = watch.leave
        asyncio.run(development.run(watch.run))


def _read_jobs(files: Sequence[str]) -> Sequence[JobDocument]:
    """Read all documents; raises InvalidDocumentError with everything that is wrong in them."""
    reading = read_files(files, CrontabOptions())
    if reading.problems:
        raise InvalidDocumentError(reading.problems)
    return reading.jobs


def _failure_of(error: Exception) -> Failure:
    code, word = next((code, word) for kind, code, word in EXIT_CODES if isinstance(error, kind))
    return Failure(str(error), code, {"message": str(error), "code": word})
