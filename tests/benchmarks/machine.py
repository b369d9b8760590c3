"""What a figure depends on besides cronexec: the machine, its load, and the versions of everything."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pika
from pymongo import AsyncMongoClient
from setting import Setting

FETCHED = Path(__file__).parents[2] / ".servers" / "bin"  # where `make setup` puts a mongod if there is none
PACKAGES = ("cronexec", "pika", "pymongo", "croniter")


def add_fetched_servers() -> None:
    os.environ["PATH"] += os.pathsep + str(FETCHED)


async def describe(setting: Setting) -> dict[str, str]:
    """Return what is to be printed with the figures, by name."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cores": str(os.cpu_count()),
        "load before": load(),
        "Python": platform.python_version(),
        "RabbitMQ": rabbitmq_version(setting.amqp_url),
        "MongoDB": await mongodb_version(setting.mongo_url),
        **{package: version(package) for package in PACKAGES},
        "repetitions": "few (--quick)" if setting.quick else "all",
    }


def load() -> str:
    return " ".join(f"{average:.2f}" for average in os.getloadavg())


def rabbitmq_version(url: str) -> str:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        properties: dict[str, Any] = connection._impl.server_properties
        return str(properties["version"])


async def mongodb_version(url: str) -> str:
    async with AsyncMongoClient[dict[str, Any]](url) as client:
        return str((await client.admin.command("buildInfo"))["version"])
