"""Every command explains itself; what is used wrongly is a usage error; none of it needs a server."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from cli_program import PROGRAM, CommandLine, check_usage

import cronexec as cronexec_package
from cronexec.cli.main import NOUNS, main

cronexec = CommandLine({})
OTHERS = {"dev"}  # tested where it is built
GROUPS = ("job", "run", "ledger", "baton", "command", "instance")
VERBS = {
    "job": {"list", "show", "put", "delete", "pause", "resume", "trigger", "next", "validate"}
    | {"skip-next", "blackout", "unblackout", "backfill"},
    "run": {"list", "show", "logs", "watch", "cancel", "retry", "resolve"},
    "ledger": {"verify"},
    "baton": {"status", "reinsert", "release"},
    "command": {"send", "rejected", "replay", "kept", "schema"},
    "instance": {"list", "drain", "undrain"},
}


def commands() -> Iterator[tuple[str, ...]]:
    context = click.Context(main)
    for noun in NOUNS.keys() - OTHERS:
        command = main.get_command(context, noun)
        yield (noun,)
        if isinstance(command, click.Group):
            yield from ((noun, verb) for verb in command.commands)


ALL = sorted(commands())


@pytest.mark.parametrize("command", ALL, ids=" ".join)
def test_every_command_has_help_with_an_example(command: tuple[str, ...]) -> None:
    shown = cronexec(*command, "--help")

    assert shown.code == 0
    assert f"Usage: cronexec {' '.join(command)}" in shown.out
    assert "Example" in shown.out


@pytest.mark.parametrize("command", ALL, ids=" ".join)
def test_the_examples_are_used_rightly(command: tuple[str, ...]) -> None:
    shown = cronexec(*command, "--help").out.partition("Example")[2]
    lines = re.findall(r"(?:^ +|\| |=\S+ )(cronexec .*?)(?:  +\(.*|  +#.*| >.*)?$", shown, re.MULTILINE)

    assert lines
    for line in lines:
        check_usage(line)


@pytest.mark.parametrize(
    "command", [each for each in ALL if len(each) == 2 or each == ("doctor",)], ids=" ".join
)
def test_every_verb_prints_json(command: tuple[str, ...]) -> None:
    assert "--json" in cronexec(*command, "--help").out


@pytest.mark.parametrize("noun", GROUPS)
def test_nouns_have_their_verbs(noun: str) -> None:
    assert {verb for group, *rest in ALL if group == noun for verb in rest} == VERBS[noun]


def test_the_help_of_the_whole_names_nouns_and_exit_codes() -> None:
    shown = cronexec("--help").out

    assert all(f"\n  {noun} " in shown for noun in NOUNS)
    assert "3  sent, and no holder answered" in shown


def test_the_version_is_the_package_s() -> None:
    assert cronexec("--version").out.startswith("cronexec, version 0.")


def modules_after(code: str) -> set[str]:
    shown = f"import sys\n{code}\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


DRIVERS = {"pika", "pymongo", "aiohttp", "rich", "structlog"}


def run_command(*arguments: str) -> str:
    ended = "except SystemExit as end: assert not end.code"
    return f"from cronexec.cli.main import main\ntry: main({[*arguments]!r})\n{ended}"


def test_help_imports_neither_a_driver_nor_the_models() -> None:
    imported = modules_after(run_command("--help"))

    assert {name for name in imported if name.startswith("cronexec.")} == {
        "cronexec.cli",
        "cronexec.cli.failure",
        "cronexec.cli.main",
        "cronexec.errors",
    }
    assert not imported & {*DRIVERS, "pydantic", "yaml", "asyncio"}


def test_what_needs_no_server_imports_no_driver(tmp_path: Path) -> None:
    (tmp_path / "crontab").write_text("0 3 * * * /bin/true\n")
    for arguments in (
        ("job", "validate", str(tmp_path / "crontab")),
        ("job", "next", "--cron", "@daily"),
        ("command", "schema"),
    ):
        assert not modules_after(run_command(*arguments)) & DRIVERS, arguments


def test_the_package_imports_its_names_when_they_are_used() -> None:
    assert "cronexec.app" not in modules_after("import cronexec")
    assert "cronexec.app" in modules_after("from cronexec import Cronexec")
    assert "Cronexec" in dir(cronexec_package)
    with pytest.raises(AttributeError, match="no attribute 'Cronexce'"):
        _ = cronexec_package.Cronexce


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("job",),
        ("job", "put"),
        ("job", "next"),
        ("job", "next", "a", "--cron", "* * * * *"),
        ("job", "trigger", "a", "--param", "league"),
        ("job", "trigger", "a", "--params", "[1]"),
        ("run", "list", "--state", "lost"),
        ("run", "list", "--since", "yesterday"),
        ("baton", "status", "--max-lag", "soon"),
        ("job", "list", "--limit", "1"),
        ("command", "send", "/nonexistent"),
        ("command", "send", sys.executable),
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...]) -> None:
    answer = cronexec(*arguments)

    assert answer.code == 2
    assert "Usage: " in answer.err + answer.out


def test_a_wrong_setting_is_one_sentence_and_exits_with_2() -> None:
    answer = cronexec("job", "list", CRONEXEC_AMQP_URL="http://broker")

    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert "amqp://USER:PASSWORD@HOST" in answer.err


def test_serve_refuses_a_wrong_setting_with_one_sentence_and_2() -> None:
    answer = cronexec.process("serve", CRONEXEC_LEASE="never")

    assert answer.code == 2
    assert answer.err.startswith("Error: ")
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("jobs", "expected MODULE:NAME"),
        ("no_such_module:cron", "there is no module no_such_module"),
        ("json:cron", "json has no Cronexec or AsyncCronexec object called cron"),
    ],
)
def test_serve_refuses_an_application_that_is_none(app: str, said: str) -> None:
    answer = cronexec.process("serve", "--app", app)

    assert answer.code == 2
    assert said in answer.err
    assert answer.err.count("\n") == 1


def test_settings_may_come_from_a_file(tmp_path: Path) -> None:
    config = tmp_path / "cronexec.toml"
    config.write_text('namespase = "games"\n')

    answer = cronexec("--config", str(config), "job", "list")

    assert answer.code == 2
    assert "namespace" in answer.err


def test_the_command_schema_is_json_schema_of_all_commands() -> None:
    schema = cronexec("command", "schema").json

    assert {"PutJob", "TriggerJob", "ReleaseBaton"} <= set(schema["$defs"])


def test_the_next_slots_of_an_expression_need_no_server() -> None:
    shown = cronexec(
        "job", "next", "--cron", "0 3 * * *", "--timezone", "Asia/Kolkata", "-n", "3", "--json"
    ).json

    assert len(shown["slots"]) == 3
    assert all(each["slot"].endswith("T21:30:00Z") for each in shown["slots"])


def test_a_wrong_expression_is_refused_with_what_is_wrong() -> None:
    wrong = ("job", "next", "--cron", "0 0 30 2 *", "--timezone", "Europe/Amsterdm")

    answer = cronexec(*wrong)

    assert answer.code == 2
    assert answer.err.startswith("Error: --timezone: ")
    assert "Europe/Amsterdam" in answer.err
    assert "; --cron: '0 0 30 2 *' never fires" in answer.err
    problems = cronexec(*wrong, "--json").json["error"]["problems"]
    assert [problem["field"] for problem in problems] == ["timezone", "cron"]


def test_a_closed_pipe_is_no_traceback() -> None:
    command = f"{' '.join(map(repr, PROGRAM[:1]))} -c '{PROGRAM[2]}' command schema | head -c 10"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, check=True, env=os.environ.copy()
    )

    assert "Traceback" not in done.stderr


def test_json_of_a_failure_is_a_document_too(tmp_path: Path) -> None:
    (tmp_path / "jobs.yaml").write_text("name: A\nschedule: {cron: x}\n")

    answer = cronexec("job", "validate", "--json", str(tmp_path / "jobs.yaml"))

    assert answer.code == 1
    assert {problem["field"].split(": ")[-1] for problem in json.loads(answer.out)["error"]["problems"]} == {
        "name",
        "schedule.cron",
        "target",
    }
