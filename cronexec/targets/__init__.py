"""What runs do. `Targets` holds the one object for each kind; every kind has a module of its own here."""

import asyncio
import os
from collections.abc import Mapping
from typing import Any, Self

from cronexec.domain.run import Outcome
from cronexec.log import get_logger
from cronexec.ports import Clock, Execution, Publisher, Target
from cronexec.settings import Settings
from cronexec.targets.handler import Handlers, HandlerTarget
from cronexec.targets.output import BoundedOutput
from cronexec.targets.secrets import Secrets

_POOLS = {"webhook": "webhooks", "shell": "shell", "publish": "publishes"}


class Targets:
    """The targets of an instance, by kind: the `type` of a target in a job document."""

    def __init__(self, by_kind: Mapping[str, Target], handlers: Handlers) -> None:
        self._by_kind = dict(by_kind)
        self._handlers = handlers

    @classmethod
    def build(
        cls,
        settings: Settings,
        *,
        handlers: Handlers,
        publisher: Publisher,
        clock: Clock,
        handler_loop: asyncio.AbstractEventLoop | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> Self:
        """Make every kind, on the engine's loop. `handler_loop`: the application's; None: one of our own.

        `environ` has the secrets, and PATH, HOME and LANG for shell commands.
        """
        # Importing cronexec imports this package, for handlers; what they are not made of is loaded at start.
        from cronexec.targets.callback_server import CallbackServer  # noqa: PLC0415
        from cronexec.targets.callbacks import Callbacks  # noqa: PLC0415
        from cronexec.targets.publish import PublishTarget  # noqa: PLC0415
        from cronexec.targets.shell import ShellTarget  # noqa: PLC0415
        from cronexec.targets.webhook import WebhookTarget  # noqa: PLC0415

        secrets = Secrets(environ, settings.secrets_dir)
        callbacks = server = None
        if settings.callback_url is not None and settings.callback_listen is not None:
            callbacks = Callbacks(settings.callback_url)
            server = CallbackServer(callbacks, settings.callback_listen, get_logger())
            server.start()
        by_kind: dict[str, Target] = {
            "webhook": WebhookTarget(
                secrets=secrets,
                clock=clock,
                limit=settings.max_running_webhooks,
                callbacks=callbacks,
                server=server,
            ),
            "shell": ShellTarget(allowed=settings.allow_shell, secrets=secrets, environ=environ),
            "handler": HandlerTarget(handlers, threads=settings.max_running_handlers, loop=handler_loop),
            "publish": PublishTarget(publisher=publisher, secrets=secrets),
        }
        return cls(by_kind, handlers)

    def handlers(self) -> tuple[str, ...]:
        """Return the names of the handlers that are registered here."""
        return self._handlers.names()

    def pool_of(self, target: Any) -> str:
        """Return which of the instance's limits on running targets counts for it."""
        if target.type == "handler":
            if target.isolation is not None:
                return "processes"
            return "async_handlers" if self._handlers.is_asynchronous(target.name) else "handlers"
        return _POOLS[target.type]

    def new_output(self) -> BoundedOutput:
        """Return an empty, bounded output for an attempt."""
        return BoundedOutput()

    def unavailable(self, target: Any) -> str | None:
        """Return why this instance cannot execute it, or None."""
        executing = self._by_kind.get(target.type)
        if executing is None:
            return f"this instance does not execute targets of type {target.type}"
        return executing.unavailable(target)

    async def execute(self, execution: Execution) -> Outcome:
        """Execute by kind; as `ports.Target.execute`. The kind has to be there: ask `unavailable` before."""
        return await self._by_kind[execution.target.type].execute(execution)

    async def close(self) -> None:
        """Close every kind, whatever becomes of the others; raises what went wrong."""
        results = await asyncio.gather(
            *(target.close() for target in self._by_kind.values()), return_exceptions=True
        )
        errors = [result for result in results if isinstance(result, Exception)]
        if errors:
            raise ExceptionGroup("targets could not be closed", errors)
