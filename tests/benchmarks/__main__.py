"""The figures of the README, measured on this machine: `make bench`, or `python tests/benchmarks`.

Each measurement is a module of its own, with processes of its own, on one private RabbitMQ and MongoDB (or
those of CRONEXEC_AMQP_URL and CRONEXEC_MONGO_URL; what is in them already has its share in the figures). What
is printed next to a figure is what it is to reach; nothing is judged.
"""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent))  # `members`, which the cluster tests use as well

from figures import HEADING, Figure
from machine import add_fetched_servers, describe, load
from setting import Setting

from cronexec.dev.servers import Servers

MEASUREMENTS = (
    "lateness",
    "steady",
    "failover",
    "startup",
    "commands",
    "idle",
    "latency",
    "recovery",
    "planning",
)


def main() -> None:
    options = read_options()
    add_fetched_servers()
    directory = Path(tempfile.mkdtemp(prefix="cronexec-bench-"))
    try:
        with Servers.from_env(directory) as servers:
            setting = Setting(
                amqp_url=servers.amqp_url,
                mongo_url=servers.mongo_url,
                directory=directory,
                quick=options.quick,
            )
            told = asyncio.run(run(options.only, setting))
    except BaseException:
        say(f"the logs of the instances are in {directory}")
        raise
    shutil.rmtree(directory, ignore_errors=True)
    if options.json is not None:
        options.json.write_text(json.dumps(told, indent=1) + "\n")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="Measure cronexec on this machine.")
    parser.add_argument("--only", type=names, default=MEASUREMENTS, help=", ".join(MEASUREMENTS))
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    return parser.parse_args()


def names(text: str) -> tuple[str, ...]:
    wanted = tuple(text.split(","))
    if unknown := set(wanted) - set(MEASUREMENTS):
        raise argparse.ArgumentTypeError(
            f"no measurement named {', '.join(unknown)}: there are {MEASUREMENTS}"
        )
    return wanted


async def run(wanted: tuple[str, ...], setting: Setting) -> dict[str, Any]:
    """Measure and print; returns all of it for programs."""
    versions = await describe(setting)
    say(f"{'; '.join(f'{name} {value}' for name, value in versions.items())}\n")
    say(HEADING)
    figures: list[Figure] = []
    for name in wanted:
        measure: Callable[[Setting], AsyncIterator[Figure]] = import_module(name).measure
        async for figure in measure(setting):
            say(figure.line())
            figures.append(figure)
    say(f"\nload afterwards {load()}")
    return {
        "machine": versions | {"load afterwards": load()},
        "figures": [asdict(figure) for figure in figures],
    }


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201  a benchmark prints


if __name__ == "__main__":
    main()
