"""What the README says, as far as it can be compared with the program: settings, job documents, verbs."""

import re
from pathlib import Path

import click
import pytest
from cli_program import check_usage

from cronexec.cli.main import main
from cronexec.domain.command import command_schema
from cronexec.domain.documents import read_documents
from cronexec.domain.job import JobDocument
from cronexec.facade import AsyncJobs, AsyncRuns, SyncJobs, SyncRuns
from cronexec.settings import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## )", README, re.MULTILINE | re.DOTALL)
    assert found, f"no section {title!r}"
    return found[1]


def test_the_configuration_table_has_every_setting_and_no_other() -> None:
    first_cells = [line.split("|")[1] for line in section("Configuration").splitlines() if "|" in line]
    named = {name for cell in first_cells[2:] for name in re.findall(r"`([A-Z_]+)`", cell)}
    tls = {"AMQP_CA_FILE", "AMQP_CERT_FILE", "AMQP_KEY_FILE"}  # in the row of AMQP_URL
    fields = {field.upper() for field in Settings.model_fields} - {"WARNINGS"}

    assert named == {"AMQP_URL" if field == "AMQP_URLS" else field for field in fields - tls}
    assert all(f"`{name}`" in section("Configuration") for name in tls)


def test_the_job_documents_are_valid() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", section("Job documents"), re.DOTALL)
    documents, problems = read_documents("---\n".join(blocks), source="README")

    assert problems == []
    assert len(documents) >= 4
    for document in documents:
        JobDocument.parse(document)


def test_the_job_documents_of_run_control_are_valid() -> None:
    blocks = re.findall(r"```yaml\n(name: .*?)```", section("Run control"), re.DOTALL)
    documents, problems = read_documents("---\n".join(blocks), source="README")

    assert problems == []
    schedules = [JobDocument.parse(document).to_document()["schedule"] for document in documents]
    assert {"jitter", "exclude"} <= {field for schedule in schedules for field in schedule}


def test_the_verbs_are_those_of_the_command_line() -> None:
    rows = re.findall(r"^\| `cronexec (\w+)` \| `([a-z -]+)` \|$", section("The command line"), re.MULTILINE)

    assert len(rows) >= 4
    for noun, verbs in rows:
        group = main.get_command(click.Context(main), noun)
        assert isinstance(group, click.Group)
        assert set(verbs.split()) == set(group.commands), noun


def test_the_types_of_commands_are_those_that_there_are() -> None:
    listed = re.search(r"^Types: (.*?);", section("Commands, from any language"), re.MULTILINE | re.DOTALL)
    assert listed

    assert re.findall(r"`([a-z]+\.[a-z]+)`", listed[1]) == command_types()


def command_types() -> list[str]:
    schema = command_schema()
    kinds = [schema["$defs"][each["$ref"].rpartition("/")[2]] for each in schema["oneOf"]]
    return [kind["properties"]["type"]["const"] for kind in kinds]


COMMAND_LINES = [
    re.sub(r"\s+# .*", "", line)
    for line in re.findall(r"^\$ (cronexec .*)$", README, re.MULTILINE)
    if "JOBS" not in line
]


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_its_command_lines_are_used_rightly(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    check_usage(line)


def test_there_are_command_lines_of_most_nouns() -> None:
    assert {line.split()[1] for line in COMMAND_LINES} >= {"dev", "doctor", "instance", "job", "run", "serve"}


@pytest.mark.parametrize(("part", "name"), sorted(set(re.findall(r"\bcron\.(jobs|runs)\.(\w+)\(", README))))
def test_its_calls_from_python_are_there(part: str, name: str) -> None:
    for facade in {"jobs": (SyncJobs, AsyncJobs), "runs": (SyncRuns, AsyncRuns)}[part]:
        assert callable(getattr(facade, name))
