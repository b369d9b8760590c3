"""What the README says, as far as it can be compared with the program: settings, job documents, verbs."""

import re
from pathlib import Path

import click

from cronexec.cli.main import main
from cronexec.domain.documents import read_documents
from cronexec.domain.job import JobDocument
from cronexec.settings import Settings

README = (Path(__file__).parents[2] / "README.md").read_text()


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
