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
