"""The data directory of `cronexec dev`: servers are found again, by their ports too."""

import socket
from pathlib import Path

import pytest

from cronexec.dev.directory import DataDirectory, DataDirectoryError
from cronexec.dev.processes import LOOPBACK

pytestmark = pytest.mark.usefixtures("server_programs")


def urls(path: Path, *, amqp_url: str | None = None, mongo_url: str | None = None) -> tuple[str, str]:
    with DataDirectory(path) as directory:
        servers = directory.servers(amqp_url=amqp_url, mongo_url=mongo_url)
        return servers.amqp_url, servers.mongo_url


def taken(url: str) -> socket.socket:
    """Listen where a server of the directory would."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((LOOPBACK, int(url.rpartition(":")[2].partition("/")[0])))
    listener.listen()
    return listener


def test_both_servers_have_the_urls_of_the_last_time(tmp_path: Path) -> None:
    assert urls(tmp_path) == urls(tmp_path)


def test_a_broker_whose_port_is_taken_gets_another_and_keeps_that(tmp_path: Path) -> None:
    first, _ = urls(tmp_path)
    with taken(first):
        second, _ = urls(tmp_path)
    assert second != first
    assert urls(tmp_path)[0] == second


def test_a_database_whose_port_is_taken_is_an_error(tmp_path: Path) -> None:
    _, mongo = urls(tmp_path)
    with taken(mongo), pytest.raises(DataDirectoryError, match="is known by it"):
        urls(tmp_path)


def test_urls_of_the_directorys_own_servers_in_the_environment_are_not_servers_of_others(
    tmp_path: Path,
) -> None:
    amqp, mongo = urls(tmp_path)
    with DataDirectory(tmp_path) as directory:
        servers = directory.servers(amqp_url=amqp, mongo_url=mongo)
    assert servers.rabbitmq is not None
    assert servers.mongo is not None
    with taken(amqp):
        assert urls(tmp_path, amqp_url=amqp)[0] != amqp


def test_urls_of_other_servers_in_the_environment_are_used(tmp_path: Path) -> None:
    urls(tmp_path)
    given = ("amqp://broker.example:5672/", "mongodb://database.example/")
    assert urls(tmp_path, amqp_url=given[0], mongo_url=given[1]) == given
