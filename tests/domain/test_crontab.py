from typing import Any

import pytest

from cronexec.domain.crontab import parse_crontab
from cronexec.domain.crontab_names import name_of
from cronexec.domain.job import JobDocument


def read(text: str, **options: Any) -> tuple[list[dict[str, Any]], list[str]]:
    options = {"system": False, "prefix": "p", "source": "crontab", **options}
    documents, problems = parse_crontab(text, **options)
    return documents, [str(problem) for problem in problems]


def shell(name: str, cron: str, command: str, **target: Any) -> dict[str, Any]:
    return {
        "name": name,
        "schedule": {"cron": cron},
        "target": {"type": "shell", "command": command, **target},
    }


ACCEPTED: list[tuple[str, list[dict[str, Any]]]] = [
    ("0 3 * * * /opt/backup.sh --full\n", [shell("p-backup-sh", "0 3 * * *", "/opt/backup.sh --full")]),
    ("  0\t3 *  * mon-fri\t /opt/backup.sh", [shell("p-backup-sh", "0 3 * * mon-fri", "/opt/backup.sh")]),
    ("@daily /opt/backup.sh\r\n", [shell("p-backup-sh", "@daily", "/opt/backup.sh")]),
    ("# m h dom mon dow command\n\n   # text\n", []),
    (
        "* * * * * date +\\%F >/tmp/x 2>&1",
        [shell("p-date", "* * * * *", "date +%F >/tmp/x 2>&1")],
    ),
    ("* * * * * A=1 run  # not a comment", [shell("p-run", "* * * * *", "A=1 run  # not a comment")]),
    ('MAILTO=""\n* * * * * run', [shell("p-run", "* * * * *", "run")]),
    (
        "PATH=/a:/b\n* * * * * one\nX = ' y '\nPATH=\"/c\"\n* * * * * two",
        [
            shell("p-one", "* * * * *", "one", env={"PATH": "/a:/b"}),
            shell("p-two", "* * * * *", "two", env={"PATH": "/c", "X": " y "}),
        ],
    ),
    (
        "HOME=/srv\n* * * * * run",
        [shell("p-run", "* * * * *", "run", env={"HOME": "/srv"}, cwd="/srv")],
    ),
    (
        "SHELL=/bin/bash\n* * * * * echo 'a b' | cat",
        [
            shell(
                "p-echo",
                "* * * * *",
                "exec /bin/bash -c 'echo '\"'\"'a b'\"'\"' | cat'",
                env={"SHELL": "/bin/bash"},
            )
        ],
    ),
    ("SHELL=/bin/sh\n* * * * * run", [shell("p-run", "* * * * *", "run", env={"SHELL": "/bin/sh"})]),
    (
        "# name: nightly.backup\n0 3 * * * /opt/backup.sh",
        [shell("nightly.backup", "0 3 * * *", "/opt/backup.sh")],
    ),
]


@pytest.mark.parametrize(("text", "documents"), ACCEPTED)
def test_lines_become_the_job_that_cron_would_run(text: str, documents: list[dict[str, Any]]) -> None:
    assert read(text) == (documents, [])
    for document in documents:
        assert JobDocument.parse(document).name == document["name"]


REFUSED: list[tuple[str, str]] = [
    (
        "0 3 * * * mail x%hello",
        (
            "crontab, line 1: an unescaped % begins the command's input in cron, which has no "
            "equivalent; write \\% "
            "for a percent sign, or give the input with 'printf … |'"
        ),
    ),
    (
        "@reboot x",
        "crontab, line 1: @reboot has no equivalent: the instances start when they start; give a time",
    ),
    (
        "-*/5 * * * * x",
        "crontab, line 1: the '-' that keeps a line out of the log has no equivalent; leave it out",
    ),
    (
        "MAILTO=root",
        (
            'crontab, line 1: MAILTO: no mail is sent, output is kept with the run; write MAILTO="" to '
            "say that none "
            "is wanted"
        ),
    ),
    ("RANDOM_DELAY=soon", "crontab, line 1: RANDOM_DELAY: 'soon' is no number of minutes"),
    (
        "RANDOM_DELAY=6\n*/5 * * * * x",
        (
            "crontab, line 2: schedule.jitter: jitter 6m is longer than the 5m between two slots; a run could"
            " start after the next; give at most 5m"
        ),
    ),
    (
        "LOGNAME=x",
        "crontab, line 1: LOGNAME: it is the user's name and cannot be set, in cron neither; leave it out",
    ),
    (
        "0 3 * * ",
        "crontab, line 1: expected five fields for the time, or @daily and the like, and a command",
    ),
    ("0 3 * * *", "crontab, line 1: expected a command after the time"),
    ("@daily", "crontab, line 1: expected a command after the time"),
    (
        "# name: x\n\n0 3 * * * y",
        "crontab, line 1: the name is for the line right below it, and there is no job",
    ),
    (
        "0 3 * * * y\n# name: x",
        "crontab, line 2: the name is for the line right below it, and there is no job",
    ),
    (
        "# name: Big\n0 3 * * * y",
        (
            "crontab, line 2: name: expected 1 to 128 of a-z 0-9 . _ -, beginning with a letter or "
            "digit; got 'Big'"
        ),
    ),
    (
        "# name: x\n0 3 * * * y\n# name: x\n0 4 * * * z",
        "crontab, line 4: another line has the name 'x' already",
    ),
    (
        "0 3 * * * y\n0 3 * * * y\n0 3 * * * y",
        "crontab, line 3: the same line stands above already; name this one by '# name: …' above it",
    ),
    (
        "CRON_TZ=Europe/Amsterdm\n0 3 * * * y",
        (
            "crontab, line 2: schedule.timezone: 'Europe/Amsterdm' is no time zone; did you mean "
            "Europe/Amsterdam?"
        ),
    ),
    (
        "0 0 30 2 * never",
        (
            "crontab, line 1: schedule.cron: '0 0 30 2 *' never fires: no year has such a day. Check "
            "its day and its month"
        ),
    ),
]


@pytest.mark.parametrize(("text", "sentence"), REFUSED)
def test_what_has_no_equivalent_is_refused_with_its_line(text: str, sentence: str) -> None:
    _, problems = read(text)
    assert problems == [sentence]


def test_a_refused_line_does_not_hide_the_others() -> None:
    documents, problems = read("0 3 * * * a\n@reboot b\n61 * * * * c\n0 4 * * * d\n")
    assert [document["name"] for document in documents] == ["p-a", "p-d"]
    assert [problem.split(":")[0] for problem in problems] == ["crontab, line 2", "crontab, line 3"]


def test_every_line_is_a_job_a_setting_a_comment_or_a_problem() -> None:
    lines = [
        "0 3 * * * a",
        "@reboot b",
        "nonsense",
        "X=1",
        "# c",
        "",
        "-* * * * * d",
        "* * * * * e%f",
        "@weekly g",
    ]
    documents, problems = read("\n".join(lines))
    assert len(documents) + len(problems) == len(lines) - 3


def test_the_time_zone_is_the_one_of_cron_tz_from_that_line_on() -> None:
    text = "0 3 * * * a\nCRON_TZ=Europe/Amsterdam\n0 3 * * * b\nCRON_TZ=UTC\n0 3 * * * c\n"
    zones = [document["schedule"].get("timezone") for document in read(text)[0]]
    assert zones == [None, "Europe/Amsterdam", None]
    zones = [document["schedule"].get("timezone") for document in read(text, timezone="Asia/Tokyo")[0]]
    assert zones == ["Asia/Tokyo", "Europe/Amsterdam", None]


def test_random_delay_is_jitter_from_that_line_on() -> None:
    text = "0 3 * * * a\nRANDOM_DELAY=15\n0 3 * * * b\nRANDOM_DELAY=0\n0 3 * * * c\n"
    documents, problems = read(text)
    assert problems == []
    assert [document["schedule"].get("jitter") for document in documents] == [None, "15m", None]


SYSTEM = "17 *\t* * *\troot\tcd / && run-parts --report /etc/cron.hourly\n@daily www-data php clean.php\n"


def test_the_system_format_accepts_the_instances_own_user_only() -> None:
    documents, problems = read(SYSTEM, system=True, run_as="root")
    assert documents == [shell("p-cron-hourly", "17 * * * *", "cd / && run-parts --report /etc/cron.hourly")]
    assert problems == [
        (
            "crontab, line 2: it runs as 'www-data', and the instances run as 'root': a job cannot "
            "change its user; "
            "write the command with 'runuser -u www-data --' or 'sudo -n -u www-data' and the instances' user"
        )
    ]


def test_the_system_format_without_a_known_user_refuses_every_line() -> None:
    documents, problems = read(SYSTEM, system=True)
    assert documents == []
    assert all("the user is not known" in problem for problem in problems)
    assert len(problems) == 2


def test_a_line_of_the_system_format_without_command_is_refused() -> None:
    assert read("* * * * * root", system=True, run_as="root") == (
        [],
        ["crontab, line 1: expected a user and a command after the time"],
    )


@pytest.mark.parametrize(
    ("text", "source", "has_users"),
    [
        ("* * * * * app run", "/etc/crontab", True),
        ("* * * * * app run", "backup/etc/cron.d/x", True),
        ("* * * * * app run", "my.crontab", False),
        ("# m h dom mon dow user\tcommand\n* * * * * app run", "x", True),
        ("# *  *  *  *  * user-name command to be executed\n* * * * * root run", "x", True),
        ("# m h  dom mon dow   command\n* * * * * root run", "x", False),
        ("* * * * * root run\n@daily postgres x", "x", True),
        ("* * * * * root run\n@daily /opt/x", "x", False),
        ("* * * * * me run", "x", True),
        ("", "x", False),
    ],
)
def test_the_format_is_judged_by_place_header_and_users(text: str, source: str, *, has_users: bool) -> None:
    detected = parse_crontab(text, system=None, prefix="p", source=source, run_as="me")
    assert detected == parse_crontab(text, system=has_users, prefix="p", source=source, run_as="me")


NAMES = [
    ("/usr/local/bin/backup.sh --full", "backup-sh"),
    ("cd /srv && nice -n 10 flock -n /run/lock python3 manage.py clearsessions", "manage-py"),
    ("[ -x /usr/lib/php/sessionclean ] && /usr/lib/php/sessionclean", "sessionclean"),
    ("test -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.daily; }", "cron-daily"),
    ("FOO=1 sudo -u bob /opt/Tool_X/run.py", "run-py"),
    ("sleep 30; curl -s http://x/y", "curl"),
    ("timeout 30s wget -q x", "wget"),
    ("/usr/bin/env python3 a.py", "a-py"),
    ("$HOME/bin/x.sh >/dev/null 2>&1", "x-sh"),
    ("if [ -d /x ]; then chronic /y; fi", "y"),
    ("java -jar /opt/x.jar", "x-jar"),
    ("çé", "job"),
]


@pytest.mark.parametrize(("command", "name"), NAMES)
def test_a_name_is_the_program_that_does_the_work(command: str, name: str) -> None:
    assert name_of(command, "host-1") == f"host-1-{name}"
    assert name_of(command, "") == name


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("web1", "web1-run"),
        ("web1-", "web1-run"),
        ("web1.", "web1.run"),
        ("a_b", "a_b-run"),
        ("a__", "a__run"),
    ],
)
def test_a_prefix_stands_as_it_is_given(prefix: str, name: str) -> None:
    assert name_of("/bin/run", prefix) == name


def test_names_are_unique_fit_and_the_same_each_time() -> None:
    text = f"0 3 * * * /x.sh a\n0 4 * * * /x.sh b\n0 5 * * * /{'y' * 200}\n0 6 * * * /{'y' * 200}\n"
    documents, problems = read(text)
    names = [document["name"] for document in documents]
    assert problems == []
    assert names[0] == "p-x-sh"
    assert names[1].startswith("p-x-sh-")
    assert len(set(names)) == 4
    assert max(map(len, names)) == 128
    assert read(text)[0] == documents
