"""`cronexec serve`: one instance in the foreground, and its signals.

The first SIGTERM or SIGINT hands over the baton and lets runs finish; the second ends everything at once:
runs are recorded as abandoned as far as a second allows, and what they started is killed with it.

An instance that has failed (a part of it ended by an error of its own) stops as by a signal, and the exit
code is 1: whoever supervises the process starts it again.
"""

import asyncio
import importlib
import logging
import os
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cronexec.app import AsyncCronexec, Cronexec
from cronexec.cli.output import examples
from cronexec.cli.session import load_settings
from cronexec.collector import calm_collector
from cronexec.errors import SettingsError
from cronexec.log import configure

if TYPE_CHECKING:  # it loads what only a started instance needs
    from cronexec.runtime.instance import Health

END_TIMEOUT = 1.0
CUT_OFF = FAILED = 1
LOOK_INTERVAL = 0.05
Embedded = Cronexec | AsyncCronexec


@examples(
    "cronexec serve",
    "cronexec serve --app myproject.jobs:cron",
    "CRONEXEC_INSTANCE=worker-1 CRONEXEC_DATACENTER=east cronexec serve",
)
@click.command(short_help="Run one instance in the foreground.")
@click.option(
    "--app",
    metavar="MODULE:NAME",
    help="The application's Cronexec object, with its handlers and declared jobs.",
)
@click.pass_context
def serve(ctx: click.Context, app: str | None) -> None:
    """Run one instance in the foreground until SIGTERM or SIGINT.

    It then hands over the baton, lets its runs finish (up to the setting shutdown_grace), and exits with 0. A
    second signal ends it at once, with 1; and with 1 it ends by itself when a part of it has failed.
    """
    cron = _load(ctx, app) if app else AsyncCronexec(load_settings(ctx, warn=False))
    configure(level=cron.settings.log_level, fmt=cron.settings.log_format)
    calm_collector()
    code = asyncio.run(_Foreground(cron).run())
    sys.stdout.flush()
    logging.shutdown()
    if code:
        os._exit(code)  # threads of handlers that do not return must not hold us
    ctx.exit(0)


def _load(ctx: click.Context, app: str) -> Embedded:
    """Import the application's object; the options of the group reach its settings as variables."""
    given = ctx.find_root().obj or {}
    for name, value in (
        ("CRONEXEC_CONFIG", given.get("file")),
        ("CRONEXEC_NAMESPACE", given.get("namespace")),
    ):
        if value is not None:
            os.environ[name] = str(value)
    module_name, colon, path = app.partition(":")
    if not colon or not path:
        raise SettingsError(f"--app {app}: expected MODULE:NAME, as in myproject.jobs:cron")
    sys.path.insert(0, str(Path.cwd()))
    found: Any = _import(module_name, app)
    for part in path.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, Cronexec | AsyncCronexec):
        raise SettingsError(
            f"--app {app}: {module_name} has no Cronexec or AsyncCronexec object called {path}"
        )
    return found


def _import(name: str, app: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise SettingsError(
            f"--app {app}: there is no module {error.name} in {Path.cwd()} or where Python looks"
        ) from error


class _Foreground:
    """One instance and the signals that end it."""

    def __init__(self, cron: Embedded) -> None:
        self._cron = cron
        self._signals: asyncio.Queue[str] = asyncio.Queue()

    async def run(self) -> int:
        """Run until signalled or failed; returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signals.put_nowait, number.name)
        await self._start()
        watching = asyncio.create_task(self._watch())
        signalled = asyncio.create_task(self._signals.get())
        await asyncio.wait({watching, signalled}, return_when=asyncio.FIRST_COMPLETED)
        if not signalled.done():
            signalled.cancel()
            click.echo(f"failed ({watching.result()}): finishing what runs; a signal ends it now", err=True)
            return await self._end(FAILED)
        watching.cancel()
        click.echo(
            f"{signalled.result()}: handing over the baton and finishing what runs; "
            "a second signal ends it now",
            err=True,
        )
        return await self._end(0)

    async def _start(self) -> None:
        if isinstance(self._cron, AsyncCronexec):
            await self._cron.start()
        else:
            self._cron.start()

    async def _watch(self) -> str:
        """Say once that it is up (both servers answer), and return why it failed when it has."""
        is_up = False
        while (health := self._cron.health()).crashed is None and health.state != "stopped":
            if health.ok and not is_up:
                is_up = True
                self._announce(health)
            await asyncio.sleep(LOOK_INTERVAL)  # health tells nobody when it changes
        return health.crashed or "the engine has ended"

    def _announce(self, health: "Health") -> None:
        settings = self._cron.settings
        click.echo(
            f"cronexec {version('cronexec')}: instance {health.instance} is up "
            f"(namespace {settings.namespace}, datacenter {settings.datacenter})"
        )
        sys.stdout.flush()

    async def _end(self, code: int) -> int:
        """Stop; returns `code`, or CUT_OFF where a signal shortens that."""
        stopping = asyncio.create_task(self._stop())
        second = asyncio.create_task(self._signals.get())
        await asyncio.wait({stopping, second}, return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            now = asyncio.create_task(self._stop(0.0))  # shortens the grace of the stop that is under way
            await asyncio.wait({now}, timeout=END_TIMEOUT)
            return CUT_OFF
        second.cancel()
        await stopping
        return code

    async def _stop(self, grace: float | None = None) -> None:
        if isinstance(self._cron, AsyncCronexec):
            await self._cron.stop(grace)
        else:
            await asyncio.to_thread(self._cron.stop, grace)
