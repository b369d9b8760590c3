"""Files of jobs: YAML, JSON, JSON lines and crontabs; all problems are found before anything is sent."""

import json
from pathlib import Path

import pytest
from cli_program import CommandLine

from cronexec.cli.documents import is_crontab

cronexec = CommandLine(
    {"CRONEXEC_AMQP_URL": "amqp://127.0.0.1:1/", "CRONEXEC_MONGO_URL": "mongodb://127.0.0.1:1/"}
)

YAML = """
name: one
schedule: {cron: "0 3 * * *"}
target: {type: shell, command: "true"}
---
name: two
schedule: {every: 1m}
target: {type: handler, name: two}
"""
USER_CRONTAB = r"""
# m h dom mon dow command
MAILTO=""
CRON_TZ=Europe/Amsterdam
0 3 * * * /usr/local/bin/backup.sh >/dev/null
# name: tidy
*/5 * * * * find /tmp -name "*.x" -mtime +1 -delete; date +\%s
"""
SYSTEM_CRONTAB = """
SHELL=/bin/sh
PATH=/usr/bin:/bin
17 *    * * *   root    cd / && run-parts --report /etc/cron.hourly
25 6    * * *   root    /usr/local/bin/daily
"""


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_documents_of_several_files_and_kinds_are_read_in_order(tmp_path: Path) -> None:
    more = [
        {"name": name, "schedule": {"every": "1h"}, "target": {"type": "handler", "name": name}}
        for name in ("three", "four")
    ]
    files = [
        write(tmp_path, "a.yaml", YAML),
        write(tmp_path, "b.jsonl", "\n".join(json.dumps(document) for document in more)),
        write(tmp_path, "c.json", json.dumps({**more[0], "name": "five"})),
    ]

    shown = cronexec("job", "validate", "--json", *files).json

    assert [job["name"] for job in shown["jobs"]] == ["one", "two", "three", "four", "five"]


def test_every_problem_of_every_document_is_reported_with_file_and_number(tmp_path: Path) -> None:
    first = write(tmp_path, "a.yaml", YAML.replace("every: 1m", "every: 1m, timezon: UTC"))
    second = write(tmp_path, "b.json", '{"name": "B", "schedule": {"cron": "* *"}}')

    answer = cronexec("job", "put", first, second)

    assert answer.code == 1
    assert f"{first}, document 2 (two): schedule.timezon: " in answer.err
    assert f"{second}, document 1 (B): name: " in answer.err
    assert f"{second}, document 1 (B): schedule.cron: " in answer.err
    assert f"{second}, document 1 (B): target: " in answer.err
    assert answer.err.splitlines()[-1] == "Error: 4 problems were found; nothing was sent"


def test_a_name_that_two_documents_have_is_refused(tmp_path: Path) -> None:
    first, second = (
        write(tmp_path, "a.yaml", YAML),
        write(tmp_path, "b.yaml", YAML.split("---", maxsplit=1)[0]),
    )

    answer = cronexec("job", "validate", first, second)

    assert answer.code == 1
    assert f"{second}, document 1 (one): name: it is the name of {first}, document 1 too" in answer.err


def test_a_file_that_is_not_there_is_a_problem_like_others(tmp_path: Path) -> None:
    answer = cronexec("job", "validate", str(tmp_path / "none.yaml"), write(tmp_path, "a.yaml", YAML))

    assert answer.code == 1
    assert "none.yaml: it cannot be read: No such file" in answer.err


def test_standard_input_is_a_file_called_dash() -> None:
    shown = cronexec("job", "validate", "-", stdin=YAML)

    assert shown.code == 0
    assert shown.lines == ["one: valid; 0 3 * * * UTC", "two: valid; every 1m"]


def test_a_user_s_crontab_is_recognised_and_read() -> None:
    jobs = cronexec("job", "validate", "--json", "--prefix", "legacy-", "-", stdin=USER_CRONTAB).json["jobs"]

    assert [job["schedule"] for job in jobs] == [
        {"cron": "0 3 * * *", "timezone": "Europe/Amsterdam"},
        {"cron": "*/5 * * * *", "timezone": "Europe/Amsterdam"},
    ]
    assert jobs[0]["name"].startswith("legacy-")
    assert jobs[1]["name"].endswith("tidy")
    assert jobs[1]["target"]["command"].endswith("date +%s")


def test_a_system_crontab_has_a_column_for_the_user() -> None:
    jobs = cronexec(
        "job", "validate", "--json", "--system", "--run-as", "root", "-", stdin=SYSTEM_CRONTAB
    ).json["jobs"]

    assert [job["target"]["command"] for job in jobs] == [
        "cd / && run-parts --report /etc/cron.hourly",
        "/usr/local/bin/daily",
    ]


def test_what_a_crontab_has_without_equivalent_is_refused_by_line() -> None:
    answer = cronexec("job", "validate", "-", stdin=USER_CRONTAB + "@reboot /usr/bin/start\n")

    assert answer.code == 1
    assert "line 8" in answer.err
    assert "reboot" in answer.err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (USER_CRONTAB, True),
        (SYSTEM_CRONTAB, True),
        ("@daily /usr/bin/true\n", True),
        ("# only a comment\n0 0 1 JAN mon-fri cmd\n", True),
        (YAML, False),
        ('{"name": "a"}', False),
        ("- name: a\n  schedule: {every: 1m}\n", False),
        ("--- \nname: a\n", False),
        ("description: a b c d e f\n", False),
        ("", False),
    ],
)
def test_a_crontab_is_told_from_documents_by_its_first_line(text: str, expected: bool) -> None:
    assert is_crontab(text) is expected


def test_valid_documents_need_a_server_to_be_put_and_none_is_exit_code_4() -> None:
    answer = cronexec("job", "put", "-", stdin=YAML)

    assert answer.code == 4
    assert "nothing listens at 127.0.0.1:1" in answer.err
