"""`cronexec command`: the command queue, for those who write to it in other languages."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from cronexec.cli.command_kept import kept
from cronexec.cli.command_replay import replay
from cronexec.cli.documents import STANDARD_INPUT, read_text, why_unreadable
from cronexec.cli.failure import NOT_YET, failure_of
from cronexec.cli.namespaces import create_option, require_served, run_sending
from cronexec.cli.output import examples, json_option, people, print_json, print_table, stop
from cronexec.cli.records import rejected_record
from cronexec.cli.session import Session, run_session, wait_option
from cronexec.domain.command import Command, command_from_fields, command_schema
from cronexec.domain.documents import read_documents
from cronexec.errors import CronexecError, FieldProblem, InvalidDocumentError
from cronexec.ports import RejectedCommand
from cronexec.replay import identity

LONGEST_BODY = 100


@examples(
    "cronexec command schema > command.schema.json",
    "cronexec command rejected",
)
@click.group(short_help="The command queue.")
def command() -> None:
    """Use the command queue: what instances, the command line and AMQP clients in any language send to."""


@examples(
    "cronexec command schema > command.schema.json",
)
@command.command(short_help="Print the JSON Schema of commands.")
@json_option
def schema(as_json: bool) -> None:  # noqa: ARG001  it is JSON anyway
    """Print the JSON Schema of all commands, the job document included."""
    print_json(command_schema())


@examples(
    "cronexec command rejected --json",
)
@command.command(short_help="List messages that could not be used as commands.")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many."
)
@json_option
@click.pass_context
def rejected(ctx: click.Context, limit: int, as_json: bool) -> None:
    """List the messages that could not be used as commands, with the reason. They stay in the queue.

    'cronexec command replay' sends them anew, or throws them away.
    """

    async def work(session: Session) -> Sequence[RejectedCommand]:
        return await session.connection.broker.rejected(limit) or await _none(session)

    found = run_session(ctx, work)
    if as_json:
        print_json({"rejected": [rejected_record(each) for each in found]})
        return
    rows = [
        (identity(each), people(each.rejected_at), each.reason, each.field, _start(each.body))
        for each in found
    ]
    print_table(("ID", "REJECTED", "REASON", "FIELD", "MESSAGE"), rows, empty="No message was rejected.")


async def _none(session: Session) -> Sequence[RejectedCommand]:
    await require_served(session)
    return ()


def _start(body: bytes) -> str:
    text = " ".join(body.decode(errors="replace").split())
    return text if len(text) <= LONGEST_BODY else f"{text[:LONGEST_BODY]}…"


@examples(
    'echo \'{"type": "job.trigger", "name": "close-league"}\' | cronexec command send -',
)
@command.command(short_help="Send commands from a file.")
@click.argument("file", metavar="FILE|-")
@create_option
@wait_option
@json_option
@click.pass_context
def send(ctx: click.Context, file: str, create: bool, wait: float, as_json: bool) -> None:
    """Send commands, as JSON or YAML, one after the other.

    `schema`, `id` and `issued_by` are added where they are left out. A refusal does not keep those behind it
    from being sent; after one that nobody answers no more are sent.
    """
    fields = _read(file)

    async def work(session: Session) -> Sending:
        sending = Sending([session.client.commands.identity() | each for each in fields], as_json=as_json)
        await sending.run(session)
        return sending

    sending = run_sending(ctx, work, wait=wait, create=create)
    if as_json:
        print_json({"replies": sending.replies})
    stop(ctx, sending.code)


class Sending:
    """Commands on their way, in their order. `replies` is what is printed, `code` the exit code."""

    def __init__(self, documents: list[dict[str, Any]], *, as_json: bool) -> None:
        self._commands = _parse(documents)
        self._as_json = as_json
        self.replies: list[dict[str, Any]] = []
        self.code = 0

    async def run(self, session: Session) -> None:
        """Send each; the rest is left out once nobody answers, or the broker cannot be reached."""
        for each in self._commands:
            reply: dict[str, Any] = {"id": each.id, "type": each.type}
            if self.code >= NOT_YET:
                reply["error"] = {"code": "not_sent", "message": "not sent"}
            else:
                reply |= await self._send(session, each)
            self.replies.append(reply)
            self._tell(reply)
        left = sum(reply.get("error", {}).get("code") == "not_sent" for reply in self.replies)
        if left:
            click.echo(f"Error: {left} further commands were not sent", err=True)

    async def _send(self, session: Session, command: Command) -> dict[str, Any]:
        try:
            return {"result": dict(await session.client.commands.send(command))}
        except CronexecError as error:
            failure = failure_of(error)
            self.code = max(self.code, failure.exit_code)
            return {"error": failure.document}

    def _tell(self, reply: Mapping[str, Any]) -> None:
        error = reply.get("error")
        if error and error["code"] != "not_sent":
            click.echo(f"Error: {reply['type']} {reply['id']}: {error['message']}", err=True)
        elif not error and not self._as_json:
            told = ", ".join(f"{key} {value}" for key, value in reply["result"].items())
            click.echo(f"{reply['type']} {reply['id']}: {told}")


def _read(file: str) -> list[dict[str, Any]]:
    try:
        text = read_text(file)
    except (OSError, UnicodeDecodeError) as error:
        why = why_unreadable(error)
        raise click.BadParameter(f"{file} cannot be read: {why}", param_hint="FILE") from None
    source = "standard input" if file == STANDARD_INPUT else file
    documents, problems = read_documents(text, source=source)
    if problems:
        raise InvalidDocumentError(problems)
    return documents


def _parse(documents: list[dict[str, Any]]) -> list[Command]:
    """Validate all before one is sent."""
    commands: list[Command] = []
    problems: list[FieldProblem] = []
    for number, document in enumerate(documents, 1):
        try:
            commands.append(command_from_fields({key: document[key] for key in document if key != "schema"}))
        except InvalidDocumentError as error:
            problems += [
                FieldProblem(f"command {number}: {each.field}", each.message) for each in error.problems
            ]
    if problems:
        raise InvalidDocumentError(problems)
    return commands


for each in (kept, replay):
    command.add_command(each)
