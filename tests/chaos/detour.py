"""Have this process's MongoDB clients reach a replica set through proxies.

The members of a replica set tell a client their own addresses, and it connects to these, whatever address it
was given first. So the way is changed where the driver opens a socket: `take_detours({27017: 31001})`, called
before any client is made, leads all connections for port 27017 to port 31001. The driver goes on seeing the
addresses that the set tells it.
"""

import socket
from collections.abc import Mapping
from typing import Any

from pymongo import pool_shared


def take_detours(ports: Mapping[int, int]) -> None:
    """Lead connections to a server's port to its proxy's port, on the same host."""
    straight = pool_shared._async_create_connection

    async def detour(address: tuple[str, int], options: Any) -> socket.socket:
        host, port = address
        return await straight((host, ports.get(port, port)), options)

    pool_shared._async_create_connection = detour
