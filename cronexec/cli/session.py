"""A session: the settings, a connection and a client for the length of one command, on a loop of its own.

Connections are closed whatever happens. The drivers' own log stays away from the terminal: what they complain
about arrives as one of our errors, in one sentence.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cronexec.cli.issuer import issuer
from cronexec.client import DEFAULT_WAIT, Client
from cronexec.ports import Store
from cronexec.settings import Settings

if TYPE_CHECKING:  # it loads the drivers, which what needs no server does without
    from cronexec.connection import Connection

T = TypeVar("T")
Function = TypeVar("Function", bound=Callable[..., Any])
DRIVERS = ("pika", "pymongo", "aiormq", "asyncio")


@dataclass(frozen=True, kw_only=True)
class Session:
    """What a command works with."""

    settings: Settings
    connection: "Connection"
    client: Client

    @property
    def store(self) -> Store:
        return self.connection.store


def load_settings(ctx: click.Context, *, warn: bool = True) -> Settings:
    """Read the settings as the group's options say; raises SettingsError. Warnings go to standard error."""
    given: Mapping[str, Any] = ctx.find_root().obj or {}
    settings = Settings.load(given.get("file"), namespace=given.get("namespace"))
    for warning in settings.warnings if warn else ():
        click.echo(f"Warning: {warning}", err=True)
    return settings


def run_session(
    ctx: click.Context, work: Callable[[Session], Awaitable[T]], *, wait: float = DEFAULT_WAIT
) -> T:
    """Do `work` with an open session and return what it returns. `wait`: seconds for a holder's answer."""
    settings = load_settings(ctx)
    for name in DRIVERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    return asyncio.run(_with_session(settings, work, wait))


async def _with_session(settings: Settings, work: Callable[[Session], Awaitable[T]], wait: float) -> T:
    from cronexec.connection import Connection  # noqa: PLC0415  see above

    connection = Connection.open(settings, name=f"cli {issuer()}")
    client = Client(
        store=connection.store, broker=connection.broker, issued_by=f"{issuer()} (cli)", wait=wait
    )
    try:
        return await work(Session(settings=settings, connection=connection, client=client))
    finally:
        await connection.close()


def wait_option(function: Function) -> Function:
    """Add `--wait`."""
    return click.option(
        "--wait",
        type=click.FloatRange(min=0, min_open=True),
        default=DEFAULT_WAIT,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait for the holder's answer.",
    )(function)
