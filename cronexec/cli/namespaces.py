"""Whether the namespace that commands go to is one: a mistyped name must not make a new one by itself.

Sending declares queues that are missing, and would leave jobs in a namespace that nobody serves. So what is
sent goes to a namespace that an instance has served, or that somebody creates in so many words. The one
exception is the first put on a fresh installation: no namespace is known, and the name is the default.

A baton, or an instance that competes for one, shows that the namespace is served; only without either the
database is asked. Looking creates nothing.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import click

from cronexec.cli.session import Session, run_session
from cronexec.client import DEFAULT_WAIT
from cronexec.domain.problems import nearest
from cronexec.errors import RefusedError
from cronexec.settings import Settings

T = TypeVar("T")
Function = TypeVar("Function", bound=Callable[..., Any])
DEFAULT = Settings.model_fields["namespace"].default


def create_option(function: Function) -> Function:
    """Add `--create-namespace`."""
    return click.option(
        "--create-namespace",
        "create",
        is_flag=True,
        help="Send though no instance has served the namespace yet.",
    )(function)


def run_sending(
    ctx: click.Context,
    work: Callable[[Session], Awaitable[T]],
    *,
    wait: float = DEFAULT_WAIT,
    create: bool = False,
) -> T:
    """Do `work`, which sends, as `run_session` does, in a namespace that is one.

    `create`: in one that is none yet, too.
    """

    async def checked(session: Session) -> T:
        if not create:
            await require_namespace(session)
        return await work(session)

    return run_session(ctx, checked, wait=wait)


async def require_namespace(session: Session) -> None:
    """Raise RefusedError where nobody ever served the namespace, and UnreachableError."""
    depth = await session.connection.broker.baton_depth()
    if not depth.ready and not depth.consumers:
        await require_served(session)


async def require_served(session: Session) -> None:
    """Raise RefusedError where the database knows of no instance that served the namespace."""
    name = session.settings.namespace
    known = await session.connection.mongo.namespaces()
    if name not in known and (known or name != DEFAULT):
        raise RefusedError("unknown_namespace", _sentence(name, known), "namespace")


def _sentence(name: str, known: Sequence[str]) -> str:
    near = nearest(name, known)
    return (
        f"no instance has ever served the namespace {name!r} (served: {', '.join(known) or 'none'})"
        f"{f'; did you mean {near!r}?' if near else '.'} Correct --namespace or CRONEXEC_NAMESPACE, start an "
        "instance in it, or put its first jobs with 'cronexec job put --create-namespace'"
    )
