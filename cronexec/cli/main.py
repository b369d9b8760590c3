"""`cronexec`: the command group.

A noun is a module of its own that is imported when it is used, so that `cronexec --help` answers at once.
"""

import importlib
from pathlib import Path
from typing import Any

import click

from cronexec.cli.failure import failure_of
from cronexec.errors import CronexecError

NOUNS = {
    "dev": ("cronexec.cli.dev:dev", "Run everything on this machine: private servers and several instances."),
    "serve": ("cronexec.cli.serve:serve", "Run one instance in the foreground."),
    "job": ("cronexec.cli.job:job", "Put, list, show, pause, skip, trigger, backfill and delete jobs."),
    "run": ("cronexec.cli.run:run", "List, show, watch, cancel, retry and resolve runs; print their output."),
    "progress": ("cronexec.cli.progress:progress", "Inside a shell job: tell how far the run is."),
    "ledger": ("cronexec.cli.ledger:ledger", "Verify that every due slot was run or skipped, exactly once."),
    "baton": ("cronexec.cli.baton:baton", "Show who holds the baton; insert one; have it handed on."),
    "instance": ("cronexec.cli.instance:instance", "List the instances; drain one before it is stopped."),
    "command": (
        "cronexec.cli.command:command",
        "Send commands, list and replay rejected ones, print their JSON Schema.",
    ),
    "doctor": ("cronexec.cli.doctor:doctor", "Check broker, database, clock and jobs, and say what to do."),
}


class Nouns(click.Group):
    """The commands of `NOUNS`, each imported when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """Return the names, in the order in which they are shown."""
        return list(NOUNS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  click's signature
        """Import the command; None where there is none of this name."""
        if cmd_name not in NOUNS:
            return None
        module, _, name = NOUNS[cmd_name][0].partition(":")
        try:
            command: click.Command = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            raise click.UsageError(f"this installation of cronexec has no {cmd_name!r}") from None
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  click's signature
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in NOUNS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; errors of ours become sentences and exit codes."""
        try:
            return super().invoke(ctx)
        except CronexecError as error:
            failure = failure_of(error)
            failure.as_json = bool(ctx.meta.get("json"))
            raise failure from error


EPILOG = """\b
Exit codes:
  0  done
  1  refused or failed
  2  wrong usage or settings
  3  sent, and no holder answered within --wait seconds: it will be applied
  4  the broker or the database is not reachable

\b
Examples:
  cronexec serve
  cronexec job put jobs.yaml
  cronexec baton status --max-lag 60s
  cronexec ledger verify --since 1h
"""


@click.group(
    cls=Nouns,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A TOML file with settings; else CRONEXEC_CONFIG names it.",
)
@click.option("--namespace", metavar="NAME", help="The namespace; else CRONEXEC_NAMESPACE, else the file's.")
@click.version_option(package_name="cronexec")
@click.pass_context
def main(ctx: click.Context, config: Path | None, namespace: str | None) -> None:
    """Run cron jobs on many instances, with every slot accounted for exactly once.

    Settings come from a TOML file and from CRONEXEC_… variables, above all CRONEXEC_AMQP_URL and
    CRONEXEC_MONGO_URL.
    """
    ctx.obj = {"file": config, "namespace": namespace}
