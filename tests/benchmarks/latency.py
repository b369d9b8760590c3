"""Lateness again, with 30 ms between the instances and MongoDB: a database in another datacenter.

All members reach the database through a proxy that delays each direction by 15 ms. It is reached directly
then (`directConnection`), because the members of a replica set are known by addresses without the proxy.
"""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from figures import Figure
from lateness import INTERVALS, measure_bursts
from pymongo.uri_parser import parse_uri
from setting import Setting

PROXY = Path(__file__).with_name("proxy.py")
ONE_WAY_MS = 15


async def measure(setting: Setting) -> AsyncIterator[Figure]:
    for count in INTERVALS:
        with longer_way(setting.mongo_url) as url:
            async with setting.cluster(members_mongo_url=url) as cluster:
                for figure in await measure_bursts(cluster, count, setting, name="30 ms to MongoDB"):
                    yield figure


@contextmanager
def longer_way(mongo_url: str) -> Iterator[str]:
    """Yield a URL of the same database, by way of the proxy."""
    host, port = parse_uri(mongo_url)["nodelist"][0]
    command = [sys.executable, str(PROXY), host, str(port), str(ONE_WAY_MS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        given = urlsplit(mongo_url)
        login = given.netloc.rpartition("@")[0]
        netloc = f"{login}@" * bool(login) + f"127.0.0.1:{process.stdout.readline().strip()}"
        try:
            yield given._replace(netloc=netloc, query=with_direct_connection(given.query)).geturl()
        finally:
            process.kill()


def with_direct_connection(query: str) -> str:
    options = [option for option in query.split("&") if option and not option.startswith("replicaSet")]
    return "&".join([*options, "directConnection=true"])
