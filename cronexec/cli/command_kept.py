"""`cronexec command kept`: commands that wait for a newer holder."""

import click

from cronexec.cli.namespaces import run_sending
from cronexec.cli.output import examples, json_option, print_json, print_table
from cronexec.cli.session import wait_option


@examples(
    "cronexec command kept",
    "cronexec command kept --discard 5e7a0c1e-6d5f-4b57-9a53-0f6f4f2c8a11",
)
@click.command(short_help="List commands that wait for a newer holder.")
@click.option("--discard", metavar="ID", help="Move this one to the rejected queue.")
@wait_option
@json_option
@click.pass_context
def kept(ctx: click.Context, discard: str | None, wait: float, as_json: bool) -> None:
    """List the commands whose schema is newer than the holder's: they wait until an instance knows it.

    The holder is asked. It has the first 64 of them in hand; what --discard takes away makes room for others.
    """
    answer = run_sending(ctx, lambda session: session.client.commands.kept(discard), wait=wait)
    if as_json:
        print_json(answer)
        return
    if discard is not None:
        click.echo(f"{discard}: moved to the rejected queue", err=True)
    rows = [(each["id"], each["schema"]) for each in answer["kept"]]
    print_table(("ID", "SCHEMA"), rows, empty="No command waits for a newer holder.")
