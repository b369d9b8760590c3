import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SETUP = Path(__file__).parent.parent.parent / "deploy" / "setup"
sys.path.insert(0, str(SETUP))

from bullseye import bullseye_lines, sources_in  # noqa: E402  a script, found by its folder

MAIN_AND_SECURITY = [
    "deb http://mirror.example/debian bullseye main",
    "deb http://mirror.example/security bullseye-security main",
]
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
ONE_LINE = """\
# deb http://old.example/debian bookworm main
deb http://mirror.example/debian bookworm main contrib
deb-src http://mirror.example/debian bookworm main
deb http://mirror.example/debian bookworm-updates main
deb http://mirror.example/security bookworm-security main
"""
DEB822 = f"""\
Types: deb
# a comment between the fields
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: {KEYRING}

Types: deb deb-src
URIs: http://mirror.example/security
Suites:
 bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
"""


def lines_for(folder: Path, name: str, text: str) -> list[str]:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return bullseye_lines(sources_in(folder))


@pytest.mark.parametrize("name", ["sources.list", "sources.list.d/debian.list"])
def test_debian_11_is_looked_for_where_one_line_sources_have_debian_12(tmp_path: Path, name: str) -> None:
    assert lines_for(tmp_path, name, ONE_LINE) == MAIN_AND_SECURITY


def test_debian_11_is_looked_for_where_deb822_sources_have_debian_12(tmp_path: Path) -> None:
    main, security = MAIN_AND_SECURITY

    found = lines_for(tmp_path, "sources.list.d/debian.sources", DEB822)

    assert found == [main.replace("deb ", f"deb [signed-by={KEYRING}] "), security]


def test_the_keyring_of_a_one_line_source_is_kept(tmp_path: Path) -> None:
    text = f"deb [arch=amd64 signed-by={KEYRING}] http://mirror.example/debian bookworm main\n"

    assert lines_for(tmp_path, "sources.list", text) == [
        f"deb [signed-by={KEYRING}] {MAIN_AND_SECURITY[0][4:]}"
    ]


def test_other_distributions_and_other_vendors_have_no_debian_11(tmp_path: Path) -> None:
    text = "deb http://mirror.example/ubuntu noble main\ndeb http://vendor.example/node nodistro main\n"

    assert lines_for(tmp_path, "sources.list", text) == []


@pytest.mark.parametrize("script", sorted(SETUP.glob("*.sh")), ids=lambda path: path.name)
def test_the_setup_scripts_are_valid_shell(script: Path) -> None:
    checked = subprocess.run(["bash", "-n", str(script)], check=False, capture_output=True, text=True)

    assert (checked.returncode, checked.stderr) == (0, "")


def run_bare(script: str, directory: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a setup script in an empty checkout, on a machine without apt-get, servers and Python."""
    programs = directory / "programs"
    programs.mkdir()
    for name in ("dirname", "id", "mkdir", "mktemp", "rm", "uname"):
        (programs / name).symlink_to(str(shutil.which(name)))
    return subprocess.run(
        [str(shutil.which("bash")), str(SETUP / script)],
        cwd=directory,
        env={"PATH": str(programs), "TMPDIR": str(directory)} | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_rabbitmq_and_apt_setup_says_how_to_get_it(tmp_path: Path) -> None:
    nothing_is_found = {"BASH_FUNC_command%%": "() { return 1; }"}  # in the usual folders either

    ended = run_bare("servers.sh", tmp_path, **nothing_is_found)

    assert ended.returncode == 1
    assert ended.stderr.startswith("setup: rabbitmq-server is missing: install it (Debian: ")
    assert ended.stderr.endswith("or set CRONEXEC_AMQP_URL to a running broker.\n")
    assert ended.stderr.count("\n") == 1


def test_without_mongod_and_what_it_comes_from_setup_says_how_to_get_it(tmp_path: Path) -> None:
    ended = run_bare("servers.sh", tmp_path, CRONEXEC_AMQP_URL="amqp://broker.example/")

    assert ended.returncode == 1
    assert "setup: mongod is missing" in ended.stderr
    assert ended.stderr.endswith("put mongod on PATH, or set CRONEXEC_MONGO_URL to a running replica set.\n")
    assert not (tmp_path / ".servers" / "bin" / "mongod").exists()


def test_with_both_urls_setup_fetches_no_server(tmp_path: Path) -> None:
    urls = {
        "CRONEXEC_AMQP_URL": "amqp://broker.example/",
        "CRONEXEC_MONGO_URL": "mongodb://database.example/",
    }

    ended = run_bare("servers.sh", tmp_path, **urls)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert [each.name for each in tmp_path.iterdir()] == ["programs"]


def test_without_python_setup_says_what_to_install(tmp_path: Path) -> None:
    ended = run_bare("venv.sh", tmp_path)

    assert ended.returncode == 1
    assert ended.stderr.startswith("setup: python3 is missing: install Python 3.11 or later")
    assert ended.stderr.count("\n") == 1
