"""The job table: a job that cannot be read is that job's problem only, and deleted jobs are forgotten."""

from datetime import timedelta

import pytest
from bench import Bench, at, document, pass_time, slot_id, until
from faults import fails

from cronexec.domain.run import RunState
from cronexec.errors import FieldProblem, InvalidDocumentError

pytestmark = pytest.mark.virtual_time

WHY = "sundial: there is no such field"


async def test_the_others_run_while_one_job_cannot_be_read(bench: Bench) -> None:
    await bench.seed(document("backup"), document("newer"))
    bench.database.unreadable["newer"] = WHY
    anna = await bench.holder("anna")
    await bench.reaches(slot_id("backup", 30), RunState.SUCCEEDED)
    assert bench.begun("newer") == []
    assert anna.instance.table.unreadable == {"newer": WHY}
    said = {(each["level"], each["job"], each["why"]) for each in anna.said("job.unreadable")}
    assert said == {("error", "newer", WHY)}
    assert anna.said("term.ended") == []


async def test_a_job_that_becomes_unreadable_leaves_a_standbys_plan_and_the_database_is_not_gone(
    bench: Bench,
) -> None:
    await bench.holder("anna")
    bert = bench.start("bert")
    await bench.put(document("backup", {"every": "1h"}), document("newer", {"every": "30s"}))
    await until(lambda: len(bert.instance.table.jobs) == 2, lambda: bert.events)
    bench.database.unreadable["newer"] = WHY
    await bench.put(document("newer", {"every": "20s"}))
    await until(lambda: bert.instance.table.unreadable, lambda: bert.events)
    await pass_time(20)
    assert bert.instance.table.plan.upcoming(5) == [(at(3600), "backup")]
    assert bert.instance.health().database == "ok"
    assert len(bert.said("job.unreadable")) == 1


async def test_every_takeover_says_what_cannot_be_read(bench: Bench) -> None:
    await bench.seed(document("newer"))
    bench.database.unreadable["newer"] = WHY
    anna = await bench.holder("anna")
    before = len(anna.said("job.unreadable"))
    anna.end_term()
    await until(lambda: anna.term == 2, lambda: anna.events[-3:])
    assert len(anna.said("job.unreadable")) == before + 1


async def test_commands_for_a_job_that_cannot_be_read_are_refused_and_its_history_stays(bench: Bench) -> None:
    await bench.seed(document("newer"))
    bench.database.unreadable["newer"] = WHY
    anna = await bench.holder("anna")
    history = dict(bench.database.versions)
    reply = await bench.request("job.put", job=document("newer", {"every": "1h"}).to_document())
    assert not reply["ok"]
    assert reply["error"]["code"] == "unreadable_job"
    assert WHY in reply["error"]["message"]
    assert "Update the instances" in reply["error"]["message"]
    for verb in ("delete", "pause", "resume", "trigger"):
        refused = await bench.request(f"job.{verb}", id=verb, name="newer")
        assert refused["error"]["code"] == "unreadable_job"
        assert bench.database.commands[verb].reply == refused
    assert not bench.hub.queues["commands.rejected"].ready
    assert anna.said("command.crashed") == []
    assert bench.database.versions == history
    await bench.put(document("other"))


async def test_an_invalid_document_is_no_outage_of_the_database(bench: Bench) -> None:
    await bench.holder("anna")
    bert = bench.start("bert")
    await pass_time(2)
    bert.faults.always("jobs.changed_since", fails(InvalidDocumentError([FieldProblem("", WHY)])))
    await bench.put(document("backup"))
    await pass_time(30)
    assert bert.said("database.unreachable") == []
    assert bert.instance.health().database == "ok"
    assert [each["why"] for each in bert.said("observer.unreadable")] == [WHY]


async def test_deleted_jobs_are_forgotten_after_the_retention_by_holder_and_standby(bench: Bench) -> None:
    anna = await bench.holder("anna", retention=timedelta(minutes=2))
    bert = bench.start("bert", retention=timedelta(minutes=2))
    await bench.put(document("gone"), document("again"), document("kept"))
    await bench.request("job.delete", name="gone")
    await bench.request("job.delete", name="again")
    await bench.put(document("again", {"every": "1h"}))
    await until(lambda: "again" in bert.instance.table.jobs, lambda: bert.events)
    assert "gone" in anna.instance.table.jobs
    assert "gone" in bert.instance.table.jobs
    await pass_time(3600 + 130)
    assert set(anna.instance.table.jobs) == {"again", "kept"}
    assert set(bert.instance.table.jobs) == {"again", "kept"}
