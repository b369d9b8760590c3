"""A RabbitMQ broker of one's own: its files in one directory, loopback only, as many side by side as wanted.

Erlang nodes find each other through `epmd`, a daemon that is shared by the whole machine and
outlives them. A private broker brings its own on a free port, so that nothing is shared and nothing
is left. The start script would stay as the broker's parent and pass signals on; with
RABBITMQ_ALLOW_INPUT it replaces itself by the Erlang machine, which thus is our direct child.

Nothing of the machine's own broker is read: its configuration files, plugins, cookie and RABBITMQ_
variables are all replaced. The data names its node, so every broker has the same name: the one that is
started next in a directory finds what the last one left there.
"""

import contextlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from cronexec.dev.errors import MissingServerError, ServerStartError
from cronexec.dev.processes import LOOPBACK, ChildProcess, accepts_connections, free_port

START_TIMEOUT = timedelta(seconds=90)
STOP_TIMEOUT = timedelta(seconds=20)
COMMAND_TIMEOUT = timedelta(seconds=60)
SERVER_FOLDERS = (
    "/usr/lib/rabbitmq/bin",  # Debian; /usr/sbin is not on everybody's PATH there
    "/opt/homebrew/sbin",
    "/usr/local/sbin",
    "/home/linuxbrew/.linuxbrew/sbin",
)
MISSING = (
    "rabbitmq-server was not found: install it (Debian: apt-get install rabbitmq-server, macOS: brew install "
    "rabbitmq) or set CRONEXEC_AMQP_URL to a running broker."
)
NODE = "cronexec@localhost"
LOOPBACK_ONLY = "-kernel inet_dist_use_interface {127,0,0,1}"
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
VERSION_PROPERTY = re.compile(
    rb"\x07versionS\x00\x00\x00(.)", re.DOTALL
)  # a long string in the server properties


@dataclass(frozen=True, kw_only=True, slots=True)
class RabbitmqPrograms:
    """Where the programs of one installation are.

    `server` is the start script, with `rabbitmqctl` beside it; `epmd` is Erlang's port mapper. `through` is
    put before each command, for programs that run in surroundings of their own; it must end by replacing
    itself with the command.
    """

    server: Path
    epmd: Path
    through: tuple[str, ...] = ()

    def command(self, program: Path, *args: str) -> list[str]:
        return [*self.through, str(program), *args]

    @property
    def ctl(self) -> Path:
        return self.server.with_name("rabbitmqctl")


class PrivateRabbitmq:
    """A broker with its files in `directory`, on `port` of the loopback interface (a free one if None).

    `config` adds to or replaces lines of rabbitmq.conf, `plugins` are enabled, and `programs` are used
    instead of what is installed. The port is kept over `stop` and `start`, and so is the data.
    Raises MissingServerError when there is no RabbitMQ.
    """

    def __init__(
        self,
        directory: Path,
        *,
        config: Mapping[str, str] | None = None,
        plugins: Sequence[str] = (),
        port: int | None = None,
        programs: RabbitmqPrograms | None = None,
    ) -> None:
        self.directory = directory.absolute()
        self.port = port or free_port()
        self.version = ""
        self._programs = programs or installed_rabbitmq()
        self._config = default_config(self.port) | dict(config or {})
        self._plugins = tuple(plugins)
        self._epmd_port = free_port()
        self._dist_port = free_port()

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}/"

    def start(self) -> Self:
        """Start the broker and return when it answers AMQP; raises ServerStartError after 90 s."""
        self._write_files()
        self._epmd.start()
        self._epmd.wait_until(lambda: accepts_connections(self._epmd_port), timeout=START_TIMEOUT)
        self._broker.start()
        try:
            self._broker.wait_until(self._answers, timeout=START_TIMEOUT)
        except ServerStartError:
            self._end_epmd()
            raise
        return self

    def stop(self) -> None:
        """Shut the broker down in good order (killed after 20 s), and its epmd."""
        self._broker.stop(timeout=STOP_TIMEOUT)
        self._end_epmd()

    def kill(self) -> None:
        """End the broker as a power cut would."""
        self._broker.kill()
        self._end_epmd()

    def restart(self) -> None:
        self.stop()
        self.start()

    @property
    def pid(self) -> int | None:
        """The broker's process, for faults that need it; None before the first start."""
        return self._broker.pid

    def ctl(self, *args: str) -> str:
        """Run rabbitmqctl on this broker and return what it prints; raises subprocess.CalledProcessError."""
        command = self._programs.command(self._programs.ctl, "--quiet", *args)
        timeout = COMMAND_TIMEOUT.total_seconds()
        done = subprocess.run(
            command, env=self._env, check=True, capture_output=True, text=True, timeout=timeout
        )
        return done.stdout

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _end_epmd(self) -> None:
        """End our epmd, or the daemon that the broker has put in its place if ours was killed."""
        self._epmd.kill()
        if accepts_connections(self._epmd_port):
            command = self._programs.command(self._programs.epmd, "-port", str(self._epmd_port), "-kill")
            subprocess.run(command, check=False, capture_output=True, timeout=COMMAND_TIMEOUT.total_seconds())

    @cached_property
    def _epmd(self) -> ChildProcess:
        options = ("-port", str(self._epmd_port), "-address", LOOPBACK)
        command = self._programs.command(self._programs.epmd, *options)
        return ChildProcess("epmd", command, log=self.directory / "epmd.log", env=self._env)

    @cached_property
    def _broker(self) -> ChildProcess:
        log = self.directory / "rabbitmq.log"
        command = self._programs.command(self._programs.server)
        return ChildProcess("RabbitMQ", command, log=log, env=self._env, cwd=self.directory)

    @cached_property
    def _env(self) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))
        }
        return kept | {
            "HOME": str(self.directory),  # the Erlang cookie is there
            "ERL_CRASH_DUMP": str(self.directory / "erl_crash.dump"),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.directory / "advanced.config"),
            "RABBITMQ_ALLOW_INPUT": "true",
            "RABBITMQ_CONF_ENV_FILE": str(self.directory / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": str(self.directory / "conf.d"),
            "RABBITMQ_CTL_ERL_ARGS": LOOPBACK_ONLY,
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_MNESIA_BASE": str(self.directory / "data"),
            "RABBITMQ_MNESIA_DIR": str(self.directory / "data" / "node"),
            "RABBITMQ_NODENAME": NODE,
            "RABBITMQ_PID_FILE": str(self.directory / "rabbitmq.pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": LOOPBACK_ONLY,
            "RABBITMQ_SERVER_START_ARGS": "-noinput",
        }

    def _write_files(self) -> None:
        for folder in ("data", "log", "conf.d"):
            (self.directory / folder).mkdir(parents=True, exist_ok=True)
        lines = [f"{key} = {value}\n" for key, value in self._config.items()]
        (self.directory / "rabbitmq.conf").write_text("".join(lines))
        (self.directory / "enabled_plugins").write_text(f"[{','.join(self._plugins)}].\n")
        (self.directory / "rabbitmq-env.conf").write_text("")

    def _answers(self) -> bool:
        """Whether the broker answers the AMQP protocol header; its answer carries the version."""
        try:
            self.version = _greet(self.port)
        except OSError:
            return False
        return bool(self.version)


def default_config(port: int) -> dict[str, str]:
    """rabbitmq.conf of a private broker: loopback only, and no alarm on a small disk."""
    return {
        "listeners.tcp.1": f"{LOOPBACK}:{port}",
        "disk_free_limit.absolute": "16MB",
        "log.console.level": "info",
    }


def installed_rabbitmq() -> RabbitmqPrograms:
    """Return the programs of the machine's own RabbitMQ; raises MissingServerError."""
    return RabbitmqPrograms(server=find_rabbitmq_server(), epmd=_find_epmd())


def find_rabbitmq_server() -> Path:
    """Return the start script of an installed RabbitMQ; raises MissingServerError."""
    for candidate in _candidates():
        real = candidate.resolve()
        if real.name == "rabbitmq-script-wrapper":  # Debian's, which insists on another user
            real = real.with_name("rabbitmq-server")
        if real.name == "rabbitmq-server" and os.access(real, os.X_OK):
            return real
    raise MissingServerError(MISSING)


def _candidates() -> Iterator[Path]:
    if found := shutil.which("rabbitmq-server"):
        yield Path(found)
    yield from (Path(folder) / "rabbitmq-server" for folder in SERVER_FOLDERS)


def _find_epmd() -> Path:
    """Erlang's port mapper: on PATH with most packages, else in the runtime's own folder."""
    if found := shutil.which("epmd"):
        return Path(found)
    if erl := shutil.which("erl"):
        with contextlib.suppress(StopIteration):
            return next(Path(erl).resolve().parent.parent.glob("**/erts-*/bin/epmd"))
    raise MissingServerError(
        "Erlang's epmd was not found: it comes with Erlang, which RabbitMQ needs (Debian: erlang-base)."
    )


def _greet(port: int) -> str:
    """Greet the broker and return its version ("" if it tells none); raises OSError when nothing answers."""
    with socket.create_connection((LOOPBACK, port), timeout=2) as connection:
        connection.sendall(PROTOCOL_HEADER)
        answer = connection.recv(65536)
    if not (found := VERSION_PROPERTY.search(answer)):
        return ""
    start, length = found.end(), found.group(1)[0]
    return answer[start : start + length].decode()
