"""Faults in runs: missing, doubled, too early, too late, elsewhere, by the wrong term, with a wrong end."""

from dataclasses import replace
from typing import Any

from checker_ends import NO_CONNECTION
from checker_history import Disturbance, Entry, Former
from hypothesis import assume
from planted import is_near_a_change, plants, some_run, some_skip
from sample_history import FAR, START, Sample, send

LATER = 40.0
STILL = 12.0  # seconds; longer than a webhook may take to connect


@plants("missed")
def a_slot_without_a_trace(sample: Sample) -> None:
    sample.remove(some_run(sample))


@plants("without_entry")
def a_slot_that_ran_and_is_not_in_the_ledger(sample: Sample) -> None:
    sample.history.entries.remove(some_run(sample))


@plants("wrong_attempts")
def a_second_attempt_that_nobody_wanted(sample: Sample) -> None:
    entry = some_run(sample)
    entry.former, entry.attempt = (
        [Former(1, "failed", entry.executor, entry.started_at, entry.finished_at)],
        2,
    )


@plants("wrong_attempts")
def a_former_attempt_that_is_missing(sample: Sample) -> None:
    entry = some_run(sample)
    entry.attempt = 2
    sample.work_of(entry).attempt = 2


@plants("cancelled_without_cause")
def a_run_that_was_replaced_by_none(sample: Sample) -> None:
    entry = some_run(sample)
    entry.state, entry.reason = "cancelled", f"replaced by {entry.job}@2000-01-01T00:00:00Z"


@plants("missed")
def a_watermark_beyond_what_was_decided(sample: Sample) -> None:
    some_run(sample)
    assume(any(entry.until == FAR or entry.state == "succeeded" for entry in sample.history.entries[-3:]))
    last = sample.ran()[-2:]
    assume(not any(is_near_a_change(sample, entry) for entry in last))
    gone = {entry.id for entry in last}
    sample.history.entries = [entry for entry in sample.history.entries if entry.id not in gone]


@plants("doubled")
def a_line_that_is_there_twice(sample: Sample) -> None:
    work = sample.work_of(some_run(sample))
    sample.history.work.append(replace(work, began_at=work.began_at + 3, instance="b1"))


@plants("doubled")
def a_skip_over_a_run(sample: Sample) -> None:
    entry = some_run(sample)
    also = replace(entry, id=f"{entry.id}..1", state="skipped", reason="overlap", until=entry.slot)
    sample.history.entries.append(also)


@plants("unexpected")
def a_run_for_no_slot(sample: Sample) -> None:
    seldom = [
        sent
        for sent in sample.sent("job.put")
        if sent.command["job"]["schedule"] in ({"every": "7s"}, {"cron": "*/5 * * * * *"})
    ]
    version_of = {(sent.job, (sent.reply or {})["result"]["version"]) for sent in seldom}
    runs = [entry for entry in sample.ran() if (entry.job, entry.version) in version_of]
    assume(runs)
    entry = sample.rng.choice(runs)
    sample.history.entries.append(replace(entry, id=f"{entry.job}@odd", slot=entry.slot + 1))


@plants("unexpected")
def a_run_of_another_version(sample: Sample) -> None:
    entry = some_run(sample)
    entry.version += 100


@plants("early")
def work_that_began_before_its_slot(sample: Sample) -> None:
    entry = some_run(sample)
    work = sample.work_of(entry)
    work.began_at = entry.slot - 5.0


@plants("late")
def work_that_began_long_after_its_slot(sample: Sample) -> None:
    runs = [entry for entry in sample.ran() if entry.slot > sample.outage[1] + 60]
    assume(runs)
    work = sample.work_of(sample.rng.choice(runs))
    work.began_at = work.slot + LATER


@plants("wrong_epoch")
def a_start_by_a_term_that_is_over(sample: Sample) -> None:
    since, epoch, _ = sample.epochs[-1]
    runs = [entry for entry in sample.ran() if entry.slot > since + 10]
    assume(runs)
    entry = sample.rng.choice(runs)
    entry.epoch = sample.work_of(entry).epoch = epoch - 2


@plants("wrong_epoch")
def work_of_another_term_than_the_claim(sample: Sample) -> None:
    entry = some_run(sample)
    sample.work_of(entry).epoch = entry.epoch + 1


@plants("ran_while_paused")
def a_run_for_a_slot_of_a_pause(sample: Sample) -> None:
    pause = some_skip(sample, "paused")
    slot = int(pause.claimed_at or 0.0) + 4
    assume((pause.until or 0.0) > slot + 5)
    like = some_run(sample)
    entry = replace(like, id="odd", job=pause.job, version=pause.version, slot=slot)
    sample.history.entries.append(entry)


@plants("ran_while_paused")
def work_that_is_started_within_a_pause(sample: Sample) -> None:
    pause = some_skip(sample, "paused")
    assume((pause.until or 0.0) - (pause.claimed_at or 0.0) > 15)
    runs = [entry for entry in sample.ran() if entry.job == pause.job]
    before = [entry for entry in runs if entry.slot < (pause.claimed_at or 0.0) - 3]
    assume(before)
    entry = before[-1]
    entry.started_at = (pause.claimed_at or 0.0) + 5
    sample.work_of(entry).began_at = entry.started_at + 0.1


@plants("ran_while_deleted")
def a_run_after_the_end_of_its_job(sample: Sample) -> None:
    deletes = sample.sent("job.delete")
    assume(deletes)
    delete = sample.rng.choice(deletes)
    runs = [entry for entry in sample.ran() if entry.job == delete.job and entry.slot < delete.sent_at]
    assume(runs)
    slot = int(delete.replied_at or 0) + 3
    puts = [one for one in sample.sent("job.put") if one.job == delete.job and one.sent_at > delete.sent_at]
    assume(all(put.sent_at > slot + 3 for put in puts))
    sample.history.entries.append(replace(runs[-1], id="odd", slot=slot))


@plants("without_evidence")
def a_success_that_left_nothing(sample: Sample) -> None:
    sample.history.work.remove(sample.work_of(some_run(sample)))


@plants("ran_though_not_started")
def work_for_a_run_that_was_cancelled_in_time(sample: Sample) -> None:
    entry = some_run(sample)
    entry.state, entry.started_at = "cancelled", None


@plants("ran_though_not_started")
def work_for_a_skip(sample: Sample) -> None:
    skip = some_skip(sample, "misfire")
    work = sample.work_of(some_run(sample))
    sample.history.work.append(replace(work, run=skip.id, job=skip.job, slot=skip.slot))


@plants("wrong_identity")
def work_for_another_slot_than_the_run_is_for(sample: Sample) -> None:
    work = sample.work_of(some_run(sample))
    work.slot += 1


@plants("wrong_identity")
def an_attempt_that_the_ledger_does_not_have(sample: Sample) -> None:
    work = sample.work_of(some_run(sample))
    sample.history.work.append(replace(work, attempt=2))


@plants("abandoned_without_kill")
def an_abandoned_run_whose_instance_lives(sample: Sample) -> None:
    runs = [entry for entry in sample.ran() if entry.executor != sample.killed]
    assume(runs)
    sample.rng.choice(runs).state = "abandoned"


@plants("abandoned_without_kill")
def an_abandoned_run_that_started_after_the_kill(sample: Sample) -> None:
    runs = [entry for entry in sample.ran() if entry.slot > sample.killed_at + 5]
    assume(runs)
    entry = sample.rng.choice(runs)
    entry.state, entry.executor = "abandoned", sample.killed


@plants("unsettled")
def a_run_that_is_never_over(sample: Sample) -> None:
    entry = some_run(sample)
    entry.state, entry.finished_at = "running", None


@plants("cancelled_without_cause")
def a_run_that_nobody_cancelled(sample: Sample) -> None:
    entry = some_run(sample)
    entry.state, entry.finished_at = "cancelled", START - 100


@plants("failed")
def a_run_that_failed(sample: Sample) -> None:
    some_run(sample).state = "failed"


def documents_of(sample: Sample, job: str) -> list[dict[str, Any]]:
    return [sent.command["job"] for sent in sample.sent("job.put") if sent.job == job]


def cut_short(sample: Sample) -> tuple[Entry, Disturbance]:
    """Let a webhook fail whose instance stood still while it connected: that may happen."""
    runs = [entry for entry in sample.ran() if entry.executor != sample.killed]
    assume(runs)
    entry = sample.rng.choice(runs)
    for document in documents_of(sample, entry.job):
        document["target"] = {"type": "webhook"}
    since = entry.started_at or 0.0
    entry.state, entry.error = "failed", f"{NO_CONNECTION}127.0.0.1:80 in time"
    entry.finished_at = since + STILL + 0.5
    sample.history.work.remove(sample.work_of(entry))
    still = Disturbance(99, "SIGSTOP", entry.executor or "", since, since + STILL)
    sample.history.disturbances.append(still)
    return entry, still


@plants("failed")
def a_webhook_that_did_not_connect_though_nothing_stood_still(sample: Sample) -> None:
    _, still = cut_short(sample)
    sample.history.disturbances.remove(still)


@plants("failed")
def a_webhook_that_did_not_connect_while_another_instance_stood_still(sample: Sample) -> None:
    _, still = cut_short(sample)
    still.target = "d1"


@plants("failed")
def a_webhook_that_did_not_connect_and_whose_instance_stood_still_for_a_moment(sample: Sample) -> None:
    entry, still = cut_short(sample)
    still.healed_at = still.began_at + STILL / 2
    entry.finished_at = still.healed_at + 0.5


@plants("failed")
def a_webhook_that_did_not_connect_long_after_its_instance_had_woken(sample: Sample) -> None:
    entry, still = cut_short(sample)
    entry.finished_at = still.healed_at + LATER


@plants("failed")
def a_webhook_that_did_not_connect_before_its_instance_stood_still(sample: Sample) -> None:
    entry, _ = cut_short(sample)
    entry.started_at = (entry.started_at or 0.0) - LATER


@plants("failed")
def a_webhook_that_failed_otherwise_while_its_instance_stood_still(sample: Sample) -> None:
    entry, _ = cut_short(sample)
    entry.error = "127.0.0.1:80 answered 500; expected 2xx"


@plants("failed")
def a_webhook_that_did_not_connect_and_was_received(sample: Sample) -> None:
    entry, _ = cut_short(sample)
    sample.history.work.append(replace(sample.history.work[0], run=entry.id, job=entry.job, slot=entry.slot))


@plants("failed")
def a_handler_that_failed_while_its_instance_stood_still(sample: Sample) -> None:
    entry, _ = cut_short(sample)
    for document in documents_of(sample, entry.job):
        document["target"] = {"type": "handler"}


@plants("failed")
def a_run_that_timed_out_while_its_instance_stood_still(sample: Sample) -> None:
    entry, _ = cut_short(sample)
    entry.state = "timed_out"


@plants("failed")
def a_former_attempt_whose_work_should_have_succeeded(sample: Sample) -> None:
    entry = some_run(sample)
    for document in documents_of(sample, entry.job):
        document["retry"] = {"max_attempts": 4}
    work = sample.work_of(entry)
    sample.history.work.append(replace(work, attempt=2))
    entry.former = [Former(1, "failed", entry.executor, entry.started_at, entry.finished_at)]
    entry.attempt = 2


@plants("wrong_identity")
def a_run_on_another_instance_than_the_ledger_says(sample: Sample) -> None:
    sample.work_of(some_run(sample)).instance = "d1"


@plants("ran_though_not_started")
def work_that_began_before_its_start_was_committed(sample: Sample) -> None:
    entry = some_run(sample)
    entry.started_at = sample.work_of(entry).began_at + 5


@plants("ended_later")
def a_success_of_work_that_never_ended(sample: Sample) -> None:
    sample.work_of(some_run(sample)).ended_at = None


@plants("ended_later")
def a_success_of_work_that_was_still_under_way(sample: Sample) -> None:
    entry = some_run(sample)
    sample.work_of(entry).ended_at = (entry.finished_at or 0.0) + 5


@plants("outlived")
def an_outcome_of_an_instance_that_was_dead(sample: Sample) -> None:
    runs = [entry for entry in sample.ran() if entry.slot > sample.killed_at + 10]
    assume(runs)
    entry = sample.rng.choice(runs)
    entry.executor = sample.work_of(entry).instance = sample.killed


def some_run_long_before_the_kill(sample: Sample) -> Entry:
    before = sample.killed_at - 40
    runs = [entry for entry in sample.ran() if entry.executor == sample.killed and entry.slot < before]
    assume(runs)
    return sample.rng.choice(runs)


@plants("hung")
def a_run_that_stood_still_until_its_instance_was_killed(sample: Sample) -> None:
    entry = some_run_long_before_the_kill(sample)
    entry.state, entry.finished_at = "abandoned", sample.killed_at + 60
    sample.work_of(entry).ended_at = None


@plants("hung")
def an_outcome_that_was_never_recorded_until_the_instance_was_killed(sample: Sample) -> None:
    entry = some_run_long_before_the_kill(sample)
    entry.state, entry.finished_at = "abandoned", sample.killed_at + 60


@plants("abandoned_without_kill")
def a_run_that_was_abandoned_before_its_instance_was_killed(sample: Sample) -> None:
    entry = some_run_long_before_the_kill(sample)
    entry.state, entry.finished_at = "abandoned", sample.killed_at - 5


@plants("wrong_epoch")
def a_claim_by_a_term_that_is_over(sample: Sample) -> None:
    since, epoch, _ = sample.epochs[-1]
    skips = [entry for entry in sample.history.entries if entry.is_skip]
    late = [entry for entry in skips if (entry.claimed_at or 0.0) > since + 10]
    assume(late)
    sample.rng.choice(late).epoch = epoch - 2


@plants("wrong_epoch")
def a_run_on_an_instance_that_did_not_hold(sample: Sample) -> None:
    entry = some_run(sample)
    entry.executor = sample.work_of(entry).instance = "d1"


@plants("wrong_epoch")
def a_claim_by_a_term_that_never_was(sample: Sample) -> None:
    entry = some_run(sample)
    entry.epoch = sample.work_of(entry).epoch = 99


@plants("early")
def a_slot_that_was_decided_before_it_came_due(sample: Sample) -> None:
    entry = some_skip(sample, "excluded")
    entry.claimed_at = entry.slot - 5.0


def cancel(sample: Sample, entry: Entry, at: float, *, refused: str | None = None) -> None:
    """Send the command that cancels a run; it is applied at `at`."""
    command = {"type": "run.cancel", "run": entry.id}
    send(sample, command, at, {"name": entry.job, "run": entry.id}, refused=refused)


def retry(sample: Sample, entry: Entry, at: float) -> None:
    """Send the command that has a run tried again; it is applied at `at`."""
    send(sample, {"type": "run.retry", "run": entry.id}, at, {"name": entry.job, "run": entry.id})


@plants("cancelled_without_cause")
def a_run_that_was_cancelled_by_a_command_that_was_refused(sample: Sample) -> None:
    entry = some_run(sample)
    entry.state, entry.reason = "cancelled", "cancelled by a1"
    cancel(sample, entry, (entry.finished_at or 0.0) - 1, refused="already_settled")


@plants("cancelled_without_cause")
def a_run_that_was_cancelled_before_anybody_asked(sample: Sample) -> None:
    entry = some_run(sample)
    entry.state, entry.reason = "cancelled", "cancelled by a1"
    cancel(sample, entry, (entry.finished_at or 0.0) + 5)


@plants("cancelled_without_cause")
def a_second_attempt_that_was_cancelled_by_the_command_for_the_first(sample: Sample) -> None:
    entry = some_run(sample)
    ended_at = entry.finished_at or 0.0
    cancel(sample, entry, ended_at)
    entry.former = [Former(1, "cancelled", entry.executor, entry.started_at, ended_at, "cancelled by a1")]
    entry.state, entry.reason, entry.attempt = "cancelled", "cancelled by a1", 2
    entry.started_at, entry.finished_at = ended_at + 5, ended_at + 6
    retry(sample, entry, ended_at + 4)


@plants("cancelled_without_cause")
def a_run_that_was_under_way_and_was_cancelled_by_a_pause(sample: Sample) -> None:
    pause = some_skip(sample, "paused")
    assume((pause.until or 0.0) - (pause.claimed_at or 0.0) > 10)
    runs = [entry for entry in sample.ran() if entry.job == pause.job]
    assume(runs)
    entry = sample.rng.choice(runs)
    entry.state, entry.reason, entry.finished_at = "cancelled", "job_paused", (pause.claimed_at or 0.0) + 5


@plants("cancelled_without_cause")
def a_run_that_was_cancelled_by_a_pause_that_was_not(sample: Sample) -> None:
    runs = [entry for entry in sample.ran() if not is_near_a_change(sample, entry)]
    assume(runs)
    entry = sample.rng.choice(runs)
    sample.history.work.remove(sample.work_of(entry))
    entry.state, entry.reason, entry.started_at = "cancelled", "job_paused", None


@plants("ran_although_cancelled")
def a_run_that_started_after_it_had_been_cancelled(sample: Sample) -> None:
    entry = some_run(sample)
    cancel(sample, entry, (entry.started_at or 0.0) - 5)


@plants("ran_although_cancelled")
def a_run_that_went_on_as_if_it_had_not_been_cancelled(sample: Sample) -> None:
    calm = sample.outage[1] + 20
    runs = [entry for entry in sample.ran() if entry.slot > calm]
    assume(runs)
    entry = sample.rng.choice(runs)
    began_at = entry.started_at or 0.0
    cancel(sample, entry, began_at + 1)
    sample.work_of(entry).ended_at, entry.finished_at = began_at + 8, began_at + 8.1


@plants("wrong_attempts")
def a_run_that_somebody_had_tried_again_in_vain(sample: Sample) -> None:
    entry = some_run(sample)
    entry.state, entry.reason = "cancelled", "cancelled by a1"
    cancel(sample, entry, entry.finished_at or 0.0)
    retry(sample, entry, (entry.finished_at or 0.0) + 4)


@plants("overlapped")
def a_run_beside_another_where_the_policy_lets_one_run(sample: Sample) -> None:
    runs = [entry for entry in sample.ran() if entry.executor != sample.killed]
    assume(runs)
    one = sample.rng.choice(runs)
    later = [other for other in runs if other.job == one.job and other.slot > one.slot]
    assume(later)
    other = later[0]
    for document in documents_of(sample, one.job):
        document["overlap"] = sample.rng.choice(("queue", "skip", {"policy": "allow", "max_running": 1}))
    ended_at = sample.work_of(other).began_at + 1
    sample.work_of(one).ended_at, one.finished_at = ended_at, ended_at + 0.1
