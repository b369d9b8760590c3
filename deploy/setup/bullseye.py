# noqa: INP001  a script, no package
"""Print apt source lines for Debian 11 (bullseye), on the mirrors that this machine's own apt sources name.

Reads both formats of apt: one-line (`deb [options] URI suite component...`) and deb822 (`URIs:`, `Suites:`,
`Signed-By:`). A mirror of Debian 12 keeps Debian 11 beside it, and so does one of its security suite.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ONE_LINE = re.compile(r"^\s*deb\s+(?:\[(?P<options>[^]]*)]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s")
DEBIAN = re.compile(r"^(bullseye|bookworm|trixie|oldoldstable|oldstable|stable)\b")

Source = tuple[str, str, str]  # URI, suite, keyring file ("" for apt's own)


def one_line_sources(text: str) -> Iterator[Source]:
    for line in text.splitlines():
        if found := ONE_LINE.match(line):
            keyring = re.search(r"signed-by=(\S+)", found["options"] or "")
            yield found["uri"], found["suite"], keyring[1] if keyring else ""


def deb822_sources(text: str) -> Iterator[Source]:
    for paragraph in re.split(r"\n\s*\n", text):
        lines = "\n".join(line for line in paragraph.splitlines() if not line.startswith("#"))
        pairs = re.findall(r"^([\w-]+):[ \t]*(.*(?:\n[ \t]+.*)*)", lines, re.MULTILINE)
        fields = {name.lower(): value.split() for name, value in pairs}
        if "deb" not in fields.get("types", []) or fields.get("enabled") == ["no"]:
            continue
        keyring = "".join(name for name in fields.get("signed-by", [])[:1] if name.startswith("/"))
        for uri in fields.get("uris", []):
            yield from ((uri, suite, keyring) for suite in fields.get("suites", []))


def sources_in(etc: Path) -> Iterator[Source]:
    for path in [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*.list"))]:
        if path.is_file():
            yield from one_line_sources(path.read_text())
    for path in sorted((etc / "sources.list.d").glob("*.sources")):
        yield from deb822_sources(path.read_text())


def bullseye_lines(sources: Iterator[Source]) -> list[str]:
    """Return one line for each mirror of Debian: its main suite, or its security suite."""
    lines = []
    for uri, suite, keyring in sources:
        if DEBIAN.match(suite) and not suite.endswith(("-updates", "-backports")):
            wanted = "bullseye-security" if "-security" in suite else "bullseye"
            options = f"[signed-by={keyring}] " if keyring else ""
            lines.append(f"deb {options}{uri} {wanted} main")
    return list(dict.fromkeys(lines))


if __name__ == "__main__":
    found = bullseye_lines(sources_in(Path("/etc/apt")))
    print("\n".join(found))  # noqa: T201  its purpose
    sys.exit(0 if found else 1)
