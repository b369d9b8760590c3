"""docker-compose.yml and deploy/Dockerfile, as far as they can be checked without a Docker engine."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from pymongo import MongoClient

from cronexec.dev.processes import LOOPBACK, free_port
from cronexec.domain.model import read_positive_length
from cronexec.settings import Settings

ROOT = Path(__file__).parent.parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
INSTANCES = {name: service for name, service in SERVICES.items() if name.startswith("instance-")}
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()
FIRST = INSTANCES["instance-1"]

# Runs the script of mongodb-init against a set that is not made yet and becomes primary at the third look.
INIT_IN_NODE = """
let looks = 0, config = null;
const rs = {
  status() { throw Object.assign(new Error("no replset config"), {codeName: "NotYetInitialized"}); },
  initiate(given) { config = given; },
};
const db = {hello: () => ({isWritablePrimary: ++looks >= 3})};
new Function("rs", "db", "sleep", process.argv[1])(rs, db, () => {});
console.log(JSON.stringify({config, looks}));
"""


def test_three_instances_in_two_datacenters_differ_only_in_their_names() -> None:
    own = {"CRONEXEC_INSTANCE", "CRONEXEC_DATACENTER"}
    shared = [
        {**service, "environment": service["environment"].keys() - own} for service in INSTANCES.values()
    ]

    assert [service["environment"]["CRONEXEC_INSTANCE"] for service in INSTANCES.values()] == list(INSTANCES)
    assert {service["environment"]["CRONEXEC_DATACENTER"] for service in INSTANCES.values()} == {
        "east",
        "west",
    }
    assert shared == [shared[0]] * 3


@pytest.mark.parametrize("name", INSTANCES)
def test_every_variable_of_an_instance_is_a_setting(name: str) -> None:
    settings = Settings.load(environ=INSTANCES[name]["environment"])

    assert settings.warnings == ()
    assert settings.instance == name
    assert settings.shutdown_grace < read_positive_length(INSTANCES[name]["stop_grace_period"])


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_waits_for_can_come_true(name: str) -> None:
    for other, wait in SERVICES[name].get("depends_on", {}).items():
        condition = wait["condition"]
        assert other in SERVICES
        assert condition in {"service_healthy", "service_completed_successfully"}
        assert condition != "service_healthy" or "healthcheck" in SERVICES[other]
        assert condition != "service_completed_successfully" or SERVICES[other]["restart"] == "on-failure"


def test_every_named_volume_is_declared() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]

    assert {mount.split(":")[0] for mount in mounts} == set(COMPOSE["volumes"])


def test_the_urls_of_the_instances_lead_to_the_services() -> None:
    environment = FIRST["environment"]
    broker = urlsplit(environment["CRONEXEC_AMQP_URL"])
    database = urlsplit(environment["CRONEXEC_MONGO_URL"])
    rabbitmq = SERVICES["rabbitmq"]["environment"]
    mongod = SERVICES["mongodb"]["command"]

    assert SERVICES.keys() >= {broker.hostname, database.hostname}
    assert (broker.username, broker.password) == (
        rabbitmq["RABBITMQ_DEFAULT_USER"],
        rabbitmq["RABBITMQ_DEFAULT_PASS"],
    )
    assert parse_qs(database.query)["replicaSet"] == [mongod[mongod.index("--replSet") + 1]]


def test_the_init_step_makes_the_replica_set_that_the_instances_name() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is missing: make setup fetches it")
    script = SERVICES["mongodb-init"]["command"][-1]

    done = subprocess.run(
        [node, "-e", INIT_IN_NODE, script], check=True, capture_output=True, text=True, timeout=30
    )

    database = urlsplit(FIRST["environment"]["CRONEXEC_MONGO_URL"])
    assert json.loads(done.stdout) == {
        "config": {
            "_id": parse_qs(database.query)["replicaSet"][0],
            "members": [{"_id": 0, "host": f"{database.hostname}:{database.port}"}],
        },
        "looks": 3,
    }


@pytest.mark.usefixtures("server_programs")
def test_mongodb_runs_as_the_compose_file_states_and_becomes_a_replica_set(tmp_path: Path) -> None:
    command, port = SERVICES["mongodb"]["command"], free_port()
    name = parse_qs(urlsplit(FIRST["environment"]["CRONEXEC_MONGO_URL"]).query)["replicaSet"][0]
    own = ["--port", str(port), "--dbpath", str(tmp_path), "--unixSocketPrefix", str(tmp_path)]
    direct = f"mongodb://{LOOPBACK}:{port}/?directConnection=true"
    with subprocess.Popen([*command, *own], stdout=subprocess.DEVNULL) as mongod:
        try:
            with MongoClient[dict[str, Any]](direct) as client:
                # What the script of mongodb-init does, at this test's own address.
                members = [{"_id": 0, "host": f"{LOOPBACK}:{port}"}]
                client.admin.command("replSetInitiate", {"_id": name, "members": members})
            with MongoClient[dict[str, Any]](f"mongodb://{LOOPBACK}:{port}/?replicaSet={name}") as client:
                written = client.cronexec.test.insert_one({"_id": "one"})
                ping = client.admin.command("ping")
        finally:
            mongod.terminate()
            mongod.wait(timeout=60)

    assert written.acknowledged
    assert ping["ok"] == 1, "what its healthcheck asks"


def test_the_image_is_built_from_files_that_exist_and_are_not_ignored() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    sources = [source.removeprefix("./") for line in copied for source in line.split()]
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    assert sources
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert set(sources) == kept
    assert (ROOT / FIRST["build"]["dockerfile"]).is_file()


def test_the_image_runs_an_instance_without_being_root() -> None:
    user = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    command = re.findall(r"^CMD (.+)$", DOCKERFILE, re.MULTILINE)

    assert [int(name) > 0 for name in user] == [True]
    assert json.loads(command[0]) == FIRST["command"]


def test_an_instance_runs_as_the_compose_file_states(amqp_url: str, mongo_url: str, namespace: str) -> None:
    environment = FIRST["environment"] | {
        "CRONEXEC_AMQP_URL": amqp_url,
        "CRONEXEC_MONGO_URL": mongo_url,
        "CRONEXEC_NAMESPACE": namespace,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    with subprocess.Popen(
        FIRST["command"], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as instance:
        assert instance.stdout
        seen: list[str] = []
        try:
            for line in instance.stdout:
                seen.append(line)
                if "baton.acquired" in line:
                    break
            check = [*FIRST["healthcheck"]["test"][1:]]
            healthy = subprocess.run(
                check, env=environment, capture_output=True, text=True, check=False, timeout=60
            )
            instance.send_signal(signal.SIGTERM)
            seen += instance.stdout
            ended = instance.wait(timeout=40)
        finally:
            instance.kill()

    assert any("baton.acquired" in line for line in seen), "".join(seen)
    assert healthy.returncode == 0, healthy.stdout + healthy.stderr
    assert ended == 0, "".join(seen)
