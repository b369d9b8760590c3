"""A replica set of one's own: several mongods side by side, whose members can be stopped, killed and started.

The set elects as any does: a primary that steps down hands over within a second or so, one that is killed is
missed for the election timeout. Stop a majority and nothing can be written until it is back.
"""

import contextlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pymongo import MongoClient
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError

from cronexec.dev.errors import ServerStartError
from cronexec.dev.mongodb import NOT_YET_INITIALIZED, START_TIMEOUT, PrivateMongo
from cronexec.dev.processes import LOOPBACK, free_ports

ELECTION_TIMEOUT = timedelta(seconds=10)  # MongoDB's own default
ELECTED_WITHIN = timedelta(seconds=60)
QUIESCE_MS = 100  # a member that stops goes on answering for 15 s otherwise, for drivers to find the others
STEPPED_DOWN_FOR = timedelta(seconds=20)
PROBE_INTERVAL = timedelta(milliseconds=50)
PRIMARY, SECONDARY = 1, 2
NAME = "rs0"


class Member(PrivateMongo):
    """One mongod of a set: ready as soon as it answers, for it may be anything but the primary."""

    def hello(self) -> Mapping[str, Any]:
        """Return what the member says of itself; raises PyMongoError when it does not answer."""
        return self.command({"hello": 1})

    def command(self, command: dict[str, Any]) -> Mapping[str, Any]:
        """Run an admin command on this member; raises PyMongoError."""
        with self._connect() as client:
            answer: Mapping[str, Any] = client.admin.command(command)
            return answer

    def _accepts_writes(self, client: MongoClient[dict[str, Any]]) -> bool:
        try:
            self.version = str(client.admin.command("buildInfo")["version"])
        except PyMongoError:
            return False
        return True


class PrivateReplicaSet:
    """A set with its files in `directory`, on free ports of the loopback interface.

    `election_timeout` is how long a primary must be silent before another is elected. `members` can be
    stopped, killed and started one by one. Raises MissingServerError when there is no mongod.
    """

    def __init__(
        self,
        directory: Path,
        *,
        members: int = 3,
        election_timeout: timedelta = ELECTION_TIMEOUT,
        parameters: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory.absolute()
        parameters = {"shutdownTimeoutMillisForSignaledShutdown": str(QUIESCE_MS)} | dict(parameters or {})
        self.members = tuple(
            Member(self.directory / f"member-{number}", port=port, replica_set=NAME, parameters=parameters)
            for number, port in enumerate(free_ports(members))
        )
        self._election_timeout = election_timeout

    @property
    def url(self) -> str:
        hosts = ",".join(_address(member) for member in self.members)
        return f"mongodb://{hosts}/?replicaSet={NAME}"

    @property
    def version(self) -> str:
        return self.members[0].version

    @property
    def primary(self) -> Member | None:
        """Who says that it is the primary at this moment."""
        return next((member for member in self.members if _is_primary(member)), None)

    def start(self) -> Self:
        """Start every member and return when there is a primary and nobody lags.

        Raises ServerStartError after 60 s.
        """
        with ThreadPoolExecutor(len(self.members)) as pool:
            list(pool.map(PrivateMongo.start, self.members))
        try:
            self._initiate()
            self.wait_until_whole()
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """Shut every member down in good order, the primary last: nobody is elected on the way."""
        for member in sorted(self.members, key=_is_primary):
            member.stop()

    def kill(self) -> None:
        """End every member as a power cut would."""
        for member in self.members:
            member.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def step_down(self) -> Member:
        """Make the primary hand over; returns the new one once it is elected.

        Raises ServerStartError when there is no primary, or none after 60 s.
        """
        old = self.wait_for_primary()
        seconds = int(STEPPED_DOWN_FOR.total_seconds())
        with contextlib.suppress(AutoReconnect):  # its connections end with its office
            old.command({"replSetStepDown": seconds, "secondaryCatchUpPeriodSecs": seconds // 2})
        return self.wait_for_primary()

    def kill_primary(self) -> Member:
        """Kill the primary and return it; the others elect when the election timeout is over."""
        primary = self.wait_for_primary()
        primary.kill()
        return primary

    def wait_for_primary(self, timeout: timedelta = ELECTED_WITHIN) -> Member:
        """Return the primary, once there is one; raises ServerStartError after `timeout`."""
        self._wait_until(lambda: self.primary is not None, "able to elect a primary", timeout)
        return self.primary or self.wait_for_primary(timeout)

    def wait_until_whole(self, timeout: timedelta = START_TIMEOUT) -> None:
        """Return once there is a primary and every other member follows it; raises ServerStartError."""
        self._wait_until(self._is_whole, "whole", timeout)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _initiate(self) -> None:
        """Make the set on the first start; later it is in the data and an election is under way."""
        members = [{"_id": number, "host": _address(member)} for number, member in enumerate(self.members)]
        settings = {"electionTimeoutMillis": self._election_timeout // timedelta(milliseconds=1)}
        try:
            self.members[0].command({"replSetGetStatus": 1})
        except OperationFailure as error:
            if error.code != NOT_YET_INITIALIZED:
                raise
            config = {"_id": NAME, "members": members, "settings": settings}
            self.members[0].command({"replSetInitiate": config})

    def _is_whole(self) -> bool:
        try:
            status = self.members[0].command({"replSetGetStatus": 1})
        except PyMongoError:
            return False
        states = sorted(member["state"] for member in status["members"])
        return states == [PRIMARY] + [SECONDARY] * (len(states) - 1) and self.primary is not None

    def _wait_until(self, ready: Callable[[], bool], what: str, timeout: timedelta) -> None:
        deadline = time.monotonic() + timeout.total_seconds()
        while not ready():
            if time.monotonic() > deadline:
                running = sum(member.running for member in self.members)
                waited = f"after {timeout.total_seconds():g} s"
                raise ServerStartError(
                    f"MongoDB: the set in {self.directory} is not {what} {waited}; {running} members run"
                )
            time.sleep(PROBE_INTERVAL.total_seconds())


def _address(member: Member) -> str:
    return f"{LOOPBACK}:{member.port}"


def _is_primary(member: Member) -> bool:
    try:
        return member.running and bool(member.hello()["isWritablePrimary"])
    except PyMongoError:
        return False
