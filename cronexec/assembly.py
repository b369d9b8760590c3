"""The parts of a started instance: wired here, started and closed together, on the engine's loop.

```
Assembly ── Connection (RabbitMQ, MongoDB)
   ├─────── Targets
   ├─────── Instance, which competes and runs
   ├─────── Client, which the application's calls use
   └─────── declarations, put in the background
```

Imported by `start()` and not before: a process that never starts an instance (`manage.py migrate`) loads no
driver.
"""

import asyncio
import os
import socket
import uuid
from collections.abc import Awaitable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Self

from cronexec.adapters.management import ManagementApi
from cronexec.adapters.rabbitmq import vhost_of
from cronexec.client import Client
from cronexec.connection import Connection, tls_context
from cronexec.declared import Declarations
from cronexec.domain.run import Executor
from cronexec.log import Log, count_with, get_logger
from cronexec.ports import Management
from cronexec.runtime.context import Context
from cronexec.runtime.instance import Instance
from cronexec.runtime.service import Service
from cronexec.runtime.tally import Tally
from cronexec.settings import Settings
from cronexec.targets import Targets

COMPARED = ("cronexec", "croniter", "tzdata")  # two instances that differ here may compute different slots


@dataclass(kw_only=True, eq=False)
class Assembly:
    """`cut_off`: whether the stop ended something that would have gone on."""

    connection: Connection
    management: Management | None
    targets: Targets
    instance: Instance
    client: Client
    declaring: Service
    log: Log
    cut_off: bool = False
    _closing: "asyncio.Task[None] | None" = field(default=None, init=False)

    @classmethod
    async def open(
        cls,
        settings: Settings,
        declarations: Declarations,
        handler_loop: asyncio.AbstractEventLoop | None,
    ) -> Self:
        """Make and start everything; neither server needs to answer yet. Raises SettingsError."""
        assembly = cls._make(settings, declarations, handler_loop)
        assembly.instance.start()
        assembly.declaring.start()
        return assembly

    @classmethod
    def _make(
        cls,
        settings: Settings,
        declarations: Declarations,
        handler_loop: asyncio.AbstractEventLoop | None,
    ) -> Self:
        executor = _executor(settings)
        connection = Connection.open(settings, name=executor.name, instance_id=executor.id)
        tally = Tally(connection.clock.now)
        count_with(tally.count)
        log = get_logger(instance=executor.name, namespace=settings.namespace)
        for warning in settings.warnings:
            log.warning("settings.warning", why=warning)
        publisher = connection.broker.publisher()
        targets = Targets.build(
            settings,
            handlers=declarations.handlers,
            publisher=publisher,
            clock=connection.clock,
            handler_loop=handler_loop,
        )
        management = _management(settings)
        context = Context(
            executor=executor,
            settings=settings,
            clock=connection.clock,
            store=connection.store,
            broker=connection.broker,
            publisher=publisher,
            targets=targets,
            log=log,
            tally=tally,
            management=management,
            versions={package: version(package) for package in COMPARED},
            declares=declarations.digests,
        )
        client = Client(
            store=connection.store, broker=connection.broker, issued_by=f"{executor.name} (application)"
        )
        return cls(
            connection=connection,
            management=management,
            targets=targets,
            instance=Instance(context),
            client=client,
            declaring=Service(
                "declarations",
                lambda: declarations.keep_put(client, log, lost_after=settings.instance_lost_after),
                log,
            ),
            log=log,
        )

    async def close(self, grace: float) -> bool:
        """Hand over the baton, let runs finish within `grace` seconds, and close everything, whatever fails.

        Called again while that lasts, it can shorten the grace. Returns whether nothing was cut off.
        """
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(grace))
        elif not await self.instance.dispatcher.drain(grace):
            self.cut_off = True
            await self.instance.stop_now()
        await asyncio.shield(self._closing)
        return not self.cut_off

    async def _close(self, grace: float) -> None:
        await self._try("declarations", self.declaring.stop())
        await self._try("instance", self._stop_instance(grace))
        await self._try("targets", self.targets.close())
        if self.management is not None:
            await self._try("management", self.management.close())
        await self._try("connection", self.connection.close())

    async def _stop_instance(self, grace: float) -> None:
        if not await self.instance.stop(grace):
            self.cut_off = True

    async def _try(self, part: str, step: Awaitable[object]) -> None:
        try:
            await step
        except Exception:
            self.log.exception("stop.failed", part=part)


def _management(settings: Settings) -> Management | None:
    if settings.management_url is None:
        return None
    vhost = vhost_of(settings.amqp_urls[0])
    return ManagementApi(settings.management_url, vhost=vhost, tls=tls_context(settings))


def _executor(settings: Settings) -> Executor:
    return Executor(
        id=uuid.uuid4().hex,
        name=settings.instance or f"{socket.gethostname()}-{os.getpid()}",
        datacenter=settings.datacenter,
    )
