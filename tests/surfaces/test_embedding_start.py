"""How an embedded instance starts, again, without servers, and in a forked child."""

import logging
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from applications import Namespace, wait_for
from embedded import Embed, holding, own_threads, run_program
from own_time import OwnTime
from patience import PATIENCE

from cronexec import Cronexec, UnreachableError
from cronexec.dev.mongodb import PrivateMongo
from cronexec.dev.processes import LOOPBACK
from cronexec.dev.rabbitmq import PrivateRabbitmq

NOWHERE = {
    "amqp_urls": f"amqp://guest:guest@{LOOPBACK}:1/",
    "mongo_url": f"mongodb://{LOOPBACK}:1/?replicaSet=rs0",
}


def test_an_import_connects_to_nothing_loads_no_driver_and_starts_no_thread() -> None:
    program = """
        import socket, sys, threading
        def refuse(*_): raise AssertionError("connected")
        socket.socket.connect = socket.socket.connect_ex = refuse
        from cronexec import Cronexec
        cron = Cronexec.from_env()
        @cron.job("a", every="1s")
        def a(run): ...
        print(threading.active_count(), sorted({"pika", "pymongo", "aiohttp", "click"} & set(sys.modules)))
    """
    assert run_program(program, dict(os.environ)).stdout == "1 []\n"


def test_start_installs_no_signal_handlers_and_configures_no_logging(embed: Embed) -> None:
    def seen() -> tuple[Any, ...]:
        handlers = [signal.getsignal(number) for number in signal.valid_signals()]
        return handlers, logging.getLogger().handlers[:], logging.getLogger().level

    before = seen()
    holding(embed())
    assert seen() == before


def test_starting_twice_is_starting_once(embed: Embed) -> None:
    cron = holding(embed())
    threads, instances = own_threads(), cron._call(lambda client: client.instances())
    cron.start()
    assert own_threads() == threads
    assert [each.executor for each in cron._call(lambda client: client.instances())] == [
        each.executor for each in instances
    ]


def test_an_instance_can_be_started_again_after_its_stop(embed: Embed) -> None:
    cron = holding(embed())
    assert cron.stop()
    assert cron.health().state == "stopped"
    holding(cron)
    assert cron.health().epoch == 2


def test_stop_is_idempotent_and_needs_no_start(embed: Embed) -> None:
    cron = embed()
    assert cron.stop()
    holding(cron)
    assert cron.stop()
    assert cron.stop()
    assert "cronexec" not in own_threads()


def test_a_call_without_start_says_so(embed: Embed) -> None:
    with pytest.raises(RuntimeError, match=r"call start\(\) first"):
        embed().jobs.list()


def test_starting_without_servers_returns_at_once_and_says_what_is_wrong(
    embed: Embed,
) -> None:
    cron = embed(**NOWHERE)
    with OwnTime() as starting:
        cron.start()
    assert starting.seconds < 2
    health = wait_for(lambda: h if "MongoDB" in (h := cron.health()).database else None, "the problem")
    assert not health.ok
    assert health.broker == "connecting"
    assert health.state == "waiting"
    with pytest.raises(UnreachableError):
        cron.jobs.list()
    with OwnTime() as stopping:
        assert cron.stop()
    assert stopping.seconds < 5


@pytest.mark.usefixtures("server_programs")
def test_an_instance_joins_when_the_servers_appear(tmp_path: Path) -> None:
    mongo, rabbitmq = PrivateMongo(tmp_path / "mongo"), PrivateRabbitmq(tmp_path / "rabbitmq")
    cron = Cronexec(Namespace(rabbitmq.url, mongo.url, "late").settings())
    ran = threading.Event()
    cron.job("tick", every="1s")(lambda _: ran.set())
    cron.start()
    try:
        wait_for(lambda: "MongoDB" in cron.health().database, "the database to be the problem")
        with mongo:
            wait_for(lambda: "nothing listens" in cron.health().broker, "the broker to be the problem")
            with rabbitmq:
                assert ran.wait(PATIENCE), cron.health()
                assert cron.health().ok
                cron.stop()
    finally:
        cron.stop(grace=0)


def test_a_forked_child_is_no_instance_until_it_starts_one(ns: Namespace) -> None:
    program = """
        import os, sys, time, warnings
        from cronexec import Cronexec
        def wait(condition):
            until = time.monotonic() + 20
            while not condition():
                assert time.monotonic() < until
                time.sleep(0.02)
        cron = Cronexec.from_env()
        cron.start()
        wait(lambda: cron.health().state == "holder")
        if (child := os.fork()) == 0:
            warnings.simplefilter("ignore", ResourceWarning)  # of its copies of the parent's sockets
            try:
                assert cron.health().state == "stopped"
                try:
                    cron.jobs.list()
                except RuntimeError:
                    cron.start()
                wait(lambda: cron.health().holder and cron.health().state == "standby")
                assert len(cron._call(lambda client: client.instances())) == 2
                cron.stop()
            except BaseException as error:
                print(error, file=sys.stderr)
                sys.exit(1)
            sys.exit(0)  # through the exit handlers that it inherited
        assert os.waitpid(child, 0)[1] == 0
        assert cron.health().state == "holder" and cron.health().epoch == 1
        assert len(cron._call(lambda client: client.instances())) == 1
        cron.jobs.put({"name": "a", "schedule": {"every": "1h"}, "target": {"type": "handler", "name": "a"}})
        assert cron.stop()
        print("done")
    """
    done = run_program(program, ns.environ())
    assert done.stdout.endswith("done\n"), done.stderr
    assert done.stderr == ""
