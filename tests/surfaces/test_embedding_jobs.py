"""Jobs that an application declares are put when it starts, if they differ."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from applications import wait_for
from embedded import HOURLY, Embed, holding
from patience import PATIENCE

from cronexec import InvalidDocumentError, RefusedError, SettingsError, UnreachableError
from cronexec.declared import Declarations
from cronexec.domain.job import JobDocument
from cronexec.log import get_logger


def test_declared_jobs_are_put_once_however_many_start_and_however_often(
    embed: Embed,
) -> None:
    crons = [embed(instance=f"worker-{number}") for number in range(4)]
    for cron in crons:
        cron.job("tidy", cron="0 3 * * *", timezone="Europe/Amsterdam", timeout="10m")(lambda _: None)
        cron.start()
    job = wait_for(lambda: crons[0].jobs.get("tidy"), "the declared job")
    for cron in crons:
        cron.stop()
        cron.start()
    wait_for(lambda: any(cron.health().state == "holder" for cron in crons), "a holder")
    crons[0].jobs.put(HOURLY)  # applied after whatever was declared before
    again = crons[0].jobs.get("tidy")
    assert job.declared
    assert again is not None
    assert (again.version, again.declared) == (1, True)


def test_a_changed_declaration_is_a_new_version_and_a_late_one_is_put_too(
    embed: Embed,
) -> None:
    first, second = embed(), embed()
    first.job("tidy", every="1h")(lambda _: None)
    holding(first)
    wait_for(lambda: first.jobs.get("tidy"), "the declared job")
    first.stop()
    second.job("tidy", every="2h")(lambda _: None)
    holding(second)
    second.job("late", every="1h")(lambda _: None)
    assert wait_for(lambda: second.jobs.get("late"), "the job declared after the start").declared
    tidy = second.jobs.get("tidy")
    assert tidy is not None
    assert tidy.version == 2


class ScriptedJobs:
    """The jobs of a namespace whose holder refuses one, and whose broker is away at first."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.complete = asyncio.Event()

    async def list(self, **_: Any) -> list[Any]:
        return []

    async def epoch(self) -> int:
        return 1

    async def put(self, document: JobDocument, *, declared: bool, if_version: int) -> dict[str, Any]:
        assert (declared, if_version) == (True, 0)
        self.asked.append(document.name)
        if self.asked == ["bad", "good"]:
            raise UnreachableError("broker", "nothing listens", "")
        if document.name == "bad":
            raise RefusedError("invalid", "the holder does not like it")
        self.complete.set()
        return {"version": 1, "changed": True}


async def test_a_refused_declaration_is_logged_once_and_an_unsent_one_tried_again() -> None:
    declarations, jobs = Declarations(), ScriptedJobs()
    for name in ("bad", "good"):
        declarations.job(name, every="1h")(lambda _: None)
    with structlog.testing.capture_logs() as logs:
        client = SimpleNamespace(jobs=jobs, epoch=jobs.epoch)
        putting = asyncio.create_task(declarations.keep_put(client, get_logger()))
        await asyncio.wait_for(jobs.complete.wait(), PATIENCE)
        putting.cancel()
    assert jobs.asked == ["bad", "good", "good"]
    assert [(entry["event"], entry.get("job")) for entry in logs][:2] == [
        ("job.declaration_refused", "bad"),
        ("job.declaration_delayed", None),
    ]


def test_a_declaration_takes_the_fields_of_its_schedule_and_its_target() -> None:
    declarations = Declarations()
    of_schedule = {"jitter": "5m", "start": "2026-12-01T00:00:00Z", "dst": {"gap": "skip"}}
    declarations.job("tidy", cron="H 3 * * *", overlap="replace", timeout="1m", **of_schedule)(lambda _: None)
    target = {"type": "handler", "name": "tidy"}
    expected = {"name": "tidy", "schedule": {"cron": "H 3 * * *", **of_schedule}, "target": target}
    assert declarations.documents["tidy"] == JobDocument.parse(
        expected | {"overlap": "replace", "timeout": "1m"}
    )


def test_a_wrong_declaration_is_refused_where_it_stands_with_every_problem(
    embed: Embed,
) -> None:
    cron = embed()
    with pytest.raises(InvalidDocumentError) as caught:
        cron.job("tidy", cron="61 * * * *", timezone="Europe/Amsterdm", overlp="skip", timeout="soon")
    fields = {problem.field for problem in caught.value.problems}
    assert fields == {"schedule.cron", "schedule.timezone", "overlp", "timeout"}
    cron.job("tidy", every="1h")(lambda _: None)
    with pytest.raises(SettingsError, match="declared twice"):
        cron.job("tidy", every="2h")
