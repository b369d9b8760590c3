"""Names for jobs that have none: made from the command, the same from the same command.

The name is the program that does the work: the last part of its path, without what people put before it to
change directory, test, wait or wrap (`cd /srv && nice -n 10 flock -n /run/lock python3 manage.py`).
"""

import re
from pathlib import PurePosixPath

_LONGEST = 128
_JOINT = re.compile(r"&&|\|\||[;|&]")
_PREPARING = frozenset(
    {"cd", "test", "[", "[[", "command", ".", "source", "export", "set", "sleep", "umask", "ulimit", ":"}
)
_WRAPPING = frozenset(
    {
        "nice",
        "ionice",
        "chrt",
        "nohup",
        "setsid",
        "sudo",
        "env",
        "exec",
        "time",
        "timeout",
        "flock",
        "chronic",
        "run-parts",
    }
    | {"sh", "bash", "dash", "zsh", "ksh", "python", "python3", "perl", "ruby", "php", "node", "java"}
)
_WITH_WORD = {"-u", "-n", "-c", "-g", "-k", "-s", "-w", "-jar"}
_PASSED_OVER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*|[0-9]+[smhd]?|if|then|else|do|while|until|!|[<>&0-9].*")
_UNFIT = re.compile(r"[^a-z0-9]+")


def name_of(command: str, prefix: str) -> str:
    """Return a name for a job that runs `command`: `prefix-backup-sh`.

    `prefix` stands as it is, with a `-` after it unless it ends in one of `. _ -`; the name is valid where
    the prefix may begin one.
    """
    joint = "-" if prefix and prefix[-1] not in "._-" else ""
    return f"{prefix}{joint}{_slug(_program(command)) or 'job'}"[:_LONGEST].rstrip("-")


def _slug(text: str) -> str:
    return _UNFIT.sub("-", text.lower()).strip("-")


def _program(command: str) -> str:
    fallback = ""
    for part in _JOINT.split(command):
        words = part.replace("(", " ").replace("{", " ").split()
        program = _program_of(words)
        if program and program not in _PREPARING:
            return program
        fallback = fallback or program
    return fallback


def _program_of(words: list[str]) -> str:
    last = ""
    locked = False
    previous = ""
    for word in words:
        plain = word.strip("\"'")
        base = PurePosixPath(plain).name
        takes_word, previous = previous in _WITH_WORD, plain
        if plain.startswith("-") or _PASSED_OVER.fullmatch(plain):
            continue
        if takes_word and plain.isalnum() and last in {"nice", "ionice", "sudo", "chrt"}:
            continue
        if last == "flock" and not locked:
            locked = True  # the first word after flock is the lock's file
            continue
        last = base
        if base not in _WRAPPING:
            return base
    return last
