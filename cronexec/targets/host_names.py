"""The addresses of webhooks' hosts, looked up in threads of their own.

A name server that does not answer keeps a lookup, and its thread, for half a minute. In the event loop's own
few threads (six with two cores) some webhooks to such a host would keep the instance from finding its
database and its broker again.
"""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

THREADS = 16

_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class HostNames(AbstractResolver):
    """Looks up names as the system does. To be made on the engine's loop; threads start with the first."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="cronexec-names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a host. Raises OSError (socket.gaierror) where it has none."""
        look_up = partial(
            socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
        found: list[Any] = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        return [
            ResolveResult(
                hostname=host,
                host=_numeric(address),
                port=address[1],
                family=kind,
                proto=protocol,
                flags=_NUMERIC,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """Let the threads end, each after its lookup."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _numeric(address: Any) -> str:
    """Return an address as text; of a link-local one of IPv6, with the interface that it is of."""
    host, _, *of_ipv6 = address
    if any(of_ipv6[1:]):  # the interface's number
        return socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]
    return str(host)
