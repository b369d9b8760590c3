"""`cronexec command replay`: what to do about messages that could not be used as commands."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import click

from cronexec.cli.failure import NOT_YET, failure_of
from cronexec.cli.namespaces import run_sending
from cronexec.cli.output import examples, json_option, print_json, stop
from cronexec.cli.session import Session, wait_option
from cronexec.domain.command import read_command
from cronexec.errors import CronexecError
from cronexec.ports import TakenReject
from cronexec.replay import MOST, Replay, Replayed, choose, discard, readable


@examples(
    "cronexec command rejected",
    "cronexec command replay 5e7a0c1e-6d5f-4b57-9a53-0f6f4f2c8a11",
    "cronexec command replay --edit 5e7a0c1e-6d5f-4b57-9a53-0f6f4f2c8a11",
    "cronexec command replay --all --discard",
)
@click.command(short_help="Send rejected messages anew, or throw them away.")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that are in the rejected queue.")
@click.option("--edit", is_flag=True, help="Correct each in $EDITOR first; what is not saved is left alone.")
@click.option("--discard", "discarding", is_flag=True, help="Throw them away instead.")
@wait_option
@json_option
@click.pass_context
def replay(
    ctx: click.Context,
    /,
    *,
    ids: Sequence[str],
    everything: bool,
    edit: bool,
    discarding: bool,
    wait: float,
    as_json: bool,
) -> None:
    """Send rejected messages anew, in their order, and take them out of the rejected queue.

    A message leaves that queue when the broker has it in the command queue. It keeps its id, unless that is
    on record for another command. One that is still no valid command stays; --edit corrects it.
    """
    if bool(ids) == everything:
        raise click.UsageError("give the ids of messages ('cronexec command rejected' lists them), or --all")
    if edit and discarding:
        raise click.UsageError("give --edit or --discard, not both")

    async def work(session: Session) -> Replaying:
        replaying = Replaying(as_json=as_json)
        async with session.connection.broker.take_rejected(MOST) as taken:
            chosen = choose(taken, ids)
            if discarding:
                replaying.tell_all([discard(each) for each in chosen])
            else:
                sender = Replay(
                    store=session.store,
                    broker=session.connection.broker,
                    wait=wait,
                    edit=_edit if edit else None,
                )
                await replaying.run(sender, chosen)
        return replaying

    replaying = run_sending(ctx, work, wait=wait)
    if as_json:
        print_json({"replayed": [_record(each) for each in replaying.done]})
    elif not replaying.done:
        click.echo("No message was rejected.")
    stop(ctx, replaying.code)


class Replaying:
    """Messages on their way. `done`: what became of each; `code`: the exit code."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self.done: list[Replayed] = []
        self.code = 0

    async def run(self, sender: Replay, chosen: Sequence[TakenReject]) -> None:
        """Send each; the rest stays where it is once nobody answers, or the broker cannot be reached."""
        for number, each in enumerate(chosen):
            self.tell_all([await sender.send(each)])
            if self.code >= NOT_YET and len(chosen) > number + 1:
                click.echo(f"Error: {len(chosen) - number - 1} further messages were not sent", err=True)
                return

    def tell_all(self, done: Sequence[Replayed]) -> None:
        for each in done:
            self.done.append(each)
            if each.error is not None:
                failure = failure_of(each.error)
                self.code = max(self.code, failure.exit_code)
                stays = "" if each.removed else "; it stays in the rejected queue"
                click.echo(f"Error: {each.id}: {failure.message}{stays}", err=True)
            elif not self._as_json:
                click.echo(f"{each.id}: {_said(each)}")


def _said(done: Replayed) -> str:
    if done.sent_as is None:
        return "thrown away" if done.removed else "left as it is"
    told = ", ".join(f"{key} {value}" for key, value in (done.reply or {}).get("result", {}).items())
    renamed = f" as {done.sent_as}" if done.sent_as != done.id else ""
    return f"sent{renamed}: {told}"


def _record(done: Replayed) -> dict[str, Any]:
    return {
        "id": done.id,
        "sent_as": done.sent_as,
        "removed": done.removed,
        "result": (done.reply or {}).get("result"),
        "error": failure_of(done.error).document if done.error else None,
    }


async def _edit(body: bytes) -> bytes | None:
    """Have somebody correct a message; None where nothing was saved. The connection stays alive meanwhile."""
    text = readable(body)
    while True:
        edited = await asyncio.to_thread(_open_editor, text)
        if edited is None:
            return None
        text = edited
        try:
            read_command(text.encode())
        except CronexecError as error:
            click.echo(f"Error: {error}", err=True)
            if sys.stdin.isatty() and await asyncio.to_thread(click.confirm, "Edit it again?", default=True):
                continue
        return text.encode()


def _open_editor(text: str) -> str | None:
    return click.edit(text, extension=".json")
