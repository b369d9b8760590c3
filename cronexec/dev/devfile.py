"""`dev.toml`, beside job files: the application and the programs that `cronexec dev` starts for them.

```toml
app = "app:cron"                # as in --app; imported from the folder of this file
with = ["python receiver.py"]   # as in --with; started in the folder of this file
```

It is looked for beside the first job file where neither option is given, and announced when it is used.
"""

import shlex
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME = "dev.toml"


class DevFileError(Exception):
    """`dev.toml` is wrong, or a command cannot be split into words. The message is one sentence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DevFile:
    """The application (MODULE:NAME), the commands to start beside it, and the folder of both."""

    app: str | None = None
    commands: Sequence[str] = ()
    folder: Path
    path: Path | None = None

    @classmethod
    def beside(cls, job_file: str | None) -> "DevFile":
        """Read the one beside `job_file`; an empty one for the current directory where there is none.

        Raises DevFileError.
        """
        path = Path(job_file).absolute().parent / NAME if job_file and job_file != "-" else None
        if path is None or not path.is_file():
            return cls(folder=Path.cwd())
        try:
            given = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DevFileError(f"{path} cannot be read: {error}") from error
        return cls(app=_text(given, path), commands=_commands(given, path), folder=path.parent, path=path)


def split_command(command: str) -> list[str]:
    """Split a command into words as the shell does. Raises DevFileError."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise DevFileError(f"the command {command!r} cannot be split into words: {error}") from error
    if not words:
        raise DevFileError("a command to start is empty")
    return words


def _text(given: dict[str, Any], path: Path) -> str | None:
    if unknown := given.keys() - {"app", "with"}:
        raise DevFileError(f"{path}: unknown key {min(unknown)}; there are app and with")
    app = given.get("app")
    if app is not None and not isinstance(app, str):
        raise DevFileError(f'{path}: app: expected text such as "app:cron"; got {app!r}')
    return app


def _commands(given: dict[str, Any], path: Path) -> list[str]:
    commands = given.get("with", [])
    if not isinstance(commands, list) or not all(isinstance(each, str) for each in commands):
        raise DevFileError(
            f'{path}: with: expected a list of commands such as ["python receiver.py"]; got {commands!r}'
        )
    return commands
