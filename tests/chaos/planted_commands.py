"""Faults in what became of commands, and in what backfills run."""

from dataclasses import replace

from checker_history import Entry, Sent
from hypothesis import assume
from planted import plants
from sample_history import Sample


@plants("lost_command")
def a_confirmed_command_that_nobody_recorded(sample: Sample) -> None:
    del sample.history.recorded[sample.rng.choice(sample.history.commands).id]


@plants("lost_command")
def a_confirmed_command_without_reply_that_nobody_recorded(sample: Sample) -> None:
    triggers = sample.sent("job.trigger")
    assume(triggers)
    sent = sample.rng.choice(triggers)
    sent.reply, sent.replied_at, sent.replies = None, None, []
    del sample.history.recorded[sent.id]


@plants("unrecorded_command")
def a_second_reply_that_differs(sample: Sample) -> None:
    sent = sample.rng.choice(sample.history.commands)
    sent.replies.append({"id": sent.id, "ok": False, "error": {"code": "internal"}})


@plants("trigger_without_run")
def a_trigger_that_nothing_came_of(sample: Sample) -> None:
    triggered = [entry for entry in sample.history.entries if entry.cause == "trigger"]
    assume(triggered)
    sample.remove(sample.rng.choice(triggered))


@plants("term_went_back")
def a_claim_of_a_former_term(sample: Sample) -> None:
    steps = sample.history.steps
    steps.append(replace(steps[0], at=steps[-1].at + 1))


@plants("term_went_back")
def a_watermark_that_went_back(sample: Sample) -> None:
    step = sample.history.steps[-1]
    sample.history.steps.append(replace(step, seq=step.seq + 1, watermark=step.watermark - 1))


@plants("unclear")
def changes_that_cannot_be_told_apart(sample: Sample) -> None:
    puts = sample.sent("job.put")
    at = puts[0].sent_at
    again = replace(puts[0], id="again", sent_at=at + 0.1, replied_at=at + 0.2)
    sample.history.commands.append(again)
    sample.history.recorded["again"] = sample.history.recorded[puts[0].id]


def refuse(sample: Sample, sent: Sent, code: str) -> None:
    """Have a command been refused, and recorded so."""
    reply = {"id": sent.id, "ok": False, "error": {"code": code, "message": "…"}}
    sent.reply, sent.replies = reply, [reply]
    sample.history.recorded[sent.id]["reply"] = reply


@plants("wrongly_answered")
def a_command_that_was_refused_for_an_error_of_ours(sample: Sample) -> None:
    refuse(sample, sample.rng.choice(sample.history.commands), "internal")


@plants("wrongly_answered")
def a_pause_of_a_job_that_is_said_not_to_be_there(sample: Sample) -> None:
    pauses = sample.sent("job.pause")
    assume(pauses)
    refuse(sample, sample.rng.choice(pauses), "not_found")


@plants("wrongly_answered")
def a_change_of_another_version_that_was_accepted(sample: Sample) -> None:
    sample.rng.choice(sample.sent("job.put")).command["if_version"] = 1_000_000


@plants("wrongly_answered")
def a_second_pause_of_a_job_that_is_deleted(sample: Sample) -> None:
    deletes = sample.sent("job.delete")
    assume(deletes)
    sent = sample.rng.choice(deletes)
    again = replace(sent, id="again", sent_at=sent.sent_at + 4, replied_at=(sent.replied_at or 0.0) + 4)
    sample.history.commands.append(again)
    sample.history.recorded["again"] = sample.history.recorded[sent.id]


@plants("unsent_command")
def a_command_that_nobody_sent(sample: Sample) -> None:
    sample.history.recorded["stranger"] = sample.history.recorded[sample.history.commands[0].id]


@plants("unexpected")
def a_triggered_run_that_nobody_asked_for(sample: Sample) -> None:
    triggered = [entry for entry in sample.history.entries if entry.cause == "trigger"]
    assume(triggered)
    entry = sample.rng.choice(triggered)
    sample.history.entries.append(replace(entry, id=f"{entry.job}#odd"))


def backfilled(sample: Sample) -> list[Entry]:
    found = [entry for entry in sample.history.entries if entry.cause == "backfill"]
    assume(found)
    return found


def repeated(sample: Sample) -> list[Entry]:
    """Return the runs of slots that had run before."""
    found = [entry for entry in backfilled(sample) if entry.id.count(":") > 3]
    assume(found)
    return found


def backfill_of(sample: Sample, entry: Entry) -> Sent:
    """Return the command that a backfilled run was made by."""
    sent_before = [
        sent
        for sent in sample.sent("job.backfill")
        if sent.job == entry.job and sent.sent_at <= (entry.claimed_at or 0.0)
    ]
    return sent_before[-1]


@plants("unexpected")
def a_backfilled_run_that_nobody_asked_for(sample: Sample) -> None:
    entry = sample.rng.choice(backfilled(sample))
    sample.history.entries.append(replace(entry, id=f"{entry.id}:odd"))


@plants("missed")
def a_backfill_that_left_out_a_slot(sample: Sample) -> None:
    sample.remove(sample.rng.choice(backfilled(sample)))


@plants("doubled")
def a_backfill_of_a_slot_that_ran_already(sample: Sample) -> None:
    backfill_of(sample, sample.rng.choice(repeated(sample))).command["ran"] = "skip"


@plants("doubled")
def a_backfill_that_ran_a_slot_twice(sample: Sample) -> None:
    fresh = [entry for entry in backfilled(sample) if entry.id.count(":") <= 3]
    assume(fresh)
    entry = sample.rng.choice(fresh)
    sent = backfill_of(sample, entry)
    sample.history.entries.append(replace(entry, id=f"{entry.id}:{sent.id}"))


@plants("wrong_backfill")
def a_backfill_that_was_refused_though_nothing_had_run(sample: Sample) -> None:
    made = [entry for entry in backfilled(sample) if backfill_of(sample, entry).command["ran"] == "refuse"]
    assume(made)
    sent = backfill_of(sample, made[0])
    refuse(sample, sent, "conflict")
    for entry in made:
        if backfill_of(sample, entry) is sent:
            sample.remove(entry)


@plants("wrong_backfill")
def a_backfill_that_says_another_number_than_it_runs(sample: Sample) -> None:
    sent = backfill_of(sample, sample.rng.choice(backfilled(sample)))
    (sent.reply or {})["result"]["queued"] += 1


@plants("wrong_backfill")
def a_backfill_that_counts_what_never_ran(sample: Sample) -> None:
    sent = backfill_of(sample, sample.rng.choice(backfilled(sample)))
    (sent.reply or {})["result"]["ran_before"] += 1
