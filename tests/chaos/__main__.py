"""Chaos: `make chaos MINUTES=10 SEED=7 BROKER=4.3`, or `python tests/chaos --minutes 10 --seed 7 …`.

Prints a table, writes the figures as JSON (`--json FILE`), and exits 1 where any promise was broken.
"""

import asyncio
import json
import shutil
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).parent.parent))  # for `broker_versions`

from chaos_faults import FAULTS
from chaos_figures import show
from chaos_run import Options, run_chaos


@click.command()
@click.option("--minutes", default=10.0, show_default=True, help="How long faults are made.")
@click.option("--seed", default=7, show_default=True)
@click.option(
    "--broker", default=None, help="RabbitMQ's version: 3.10, 4.0, 4.3. The machine's own if left out."
)
@click.option("--mongodb-members", default=3, show_default=True)
@click.option("--instances", default=5, show_default=True)
@click.option("--per-second", default=350, show_default=True, help="Jobs that are due every second.")
@click.option("--per-minute", default=2000, show_default=True, help="Jobs that are due every minute.")
@click.option("--faults", default=",".join(FAULTS), help="Which faults, separated by commas.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A setting of all instances.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Where to write the figures.")
@click.option("--keep", is_flag=True, help="Keep the directory with logs, evidence and data.")
def main(
    *, minutes: float, faults: str, settings: tuple[str, ...], file: Path | None, keep: bool, **given: Any
) -> None:
    options = Options(
        length=timedelta(minutes=minutes),
        faults=faults.split(","),
        settings=dict(setting.split("=", 1) for setting in settings),
        **given,
    )
    directory = Path(tempfile.mkdtemp(prefix="cronexec-chaos-"))
    result = asyncio.run(run_chaos(options, directory))
    show(result)
    if file is not None:
        file.write_text(json.dumps(result, indent=2) + "\n")
    if keep or not result["ok"]:
        click.echo(f"the logs, the evidence and the servers' data are in {directory}")
    else:
        shutil.rmtree(directory)
    sys.exit(0 if result["ok"] else 1)


if __name__ == "__main__":
    main()
