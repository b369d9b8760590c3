"""Every kind of fault, planted anywhere in a correct history, is found."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from checker import check
from checker_history import Entry, Former
from checker_report import VIOLATIONS
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sample_history import FAR, START, Sample, make

FAULTS: list[tuple[str, Callable[[Sample], None]]] = []
LATER = 40.0
NEAR = 4.0  # seconds; two tolerances, and how long a command takes


def plants(violation: str) -> Callable[[Callable[[Sample], None]], Callable[[Sample], None]]:
    """Register a fault that must be found as `violation`."""

    def register(fault: Callable[[Sample], None]) -> Callable[[Sample], None]:
        FAULTS.append((violation, fault))
        return fault

    return register


def some_run(sample: Sample) -> Entry:
    ran = sample.ran()
    assume(ran)
    return sample.rng.choice(ran)


def some_skip(sample: Sample, reason: str) -> Entry:
    skips = [entry for entry in sample.history.entries if entry.reason == reason]
    assume(skips)
    return sample.rng.choice(skips)


def is_near_a_change(sample: Sample, entry: Entry) -> bool:
    """Whether a command about the job was under way around the slot: it is in doubt."""
    of_job = [sent for sent in sample.history.commands if sent.job == entry.job]
    return any(abs(sent.sent_at - entry.slot) < NEAR for sent in of_job)


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
def a_pause_that_ends_too_early_in_the_ledger(sample: Sample) -> None:
    entry = some_skip(sample, "paused")
    assume(min(entry.until or 0.0, sample.history.watermark) - entry.slot > 20)
    entry.until = entry.slot + 1.0


@plants("missed")
def a_range_that_covers_less(sample: Sample) -> None:
    entry = next((one for one in sample.history.entries if one.reason == "misfire" and one.until), None)
    assume(entry is not None and entry.until - entry.slot > 2)
    assert entry is not None
    entry.until = entry.slot


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


@plants("skipped_without_cause")
def a_misfire_within_its_grace(sample: Sample) -> None:
    entry = sample.rng.choice([entry for entry in sample.ran() if entry.claimed_at == entry.slot])
    sample.history.work.remove(sample.work_of(entry))
    entry.state, entry.reason = "skipped", "misfire"


@plants("skipped_without_cause")
def an_overlap_with_nothing(sample: Sample) -> None:
    entry = sample.ran()[0] if sample.ran() else None
    assume(entry is not None)
    assert entry is not None
    sample.history.entries = [
        other
        for other in sample.history.entries
        if other.job != entry.job or other.slot > entry.slot or other is entry
    ]
    sample.history.work.remove(sample.work_of(entry))
    entry.state, entry.reason = "skipped", "overlap"


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


@plants("ran_while_excluded")
def a_slot_that_ran_though_it_is_excluded(sample: Sample) -> None:
    entry = some_skip(sample, "excluded")
    entry.state, entry.reason = "succeeded", None


@plants("skipped_without_cause")
def a_slot_that_is_not_excluded(sample: Sample) -> None:
    entry = some_run(sample)
    entry.state, entry.reason = "skipped", "excluded"


@plants("skipped_without_cause")
def a_slot_of_no_window(sample: Sample) -> None:
    entry = some_run(sample)
    entry.state, entry.reason = "skipped", "blackout"
    sample.history.commands = [sent for sent in sample.history.commands if sent.type != "job.blackout"]


@plants("ran_although_skipped")
def a_slot_that_ran_in_a_window(sample: Sample) -> None:
    run_again(sample, "blackout")


@plants("ran_although_skipped")
def a_slot_that_ran_and_was_to_be_skipped_once(sample: Sample) -> None:
    run_again(sample, "skip_next")


def run_again(sample: Sample, reason: str) -> None:
    """Let a skipped slot have run, well after it was asked for."""
    skips = [entry for entry in sample.history.entries if entry.reason == reason]
    kept = [entry for entry in skips if not is_near_a_change(sample, entry)]
    assume(kept)
    entry = sample.rng.choice(kept)
    entry.state, entry.reason = "succeeded", None


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


@pytest.mark.parametrize(("violation", "plant"), FAULTS, ids=[fault.__name__ for _, fault in FAULTS])
def test_it_is_found(violation: str, plant: Callable[[Sample], None]) -> None:
    @settings(max_examples=15, deadline=None, derandomize=True)
    @given(seed=st.integers(0, 10_000))
    def found(seed: int) -> None:
        sample = make(seed)
        plant(sample)
        report = check(sample.history)
        assert report.counts[violation], dict(report.first)

    found()


def test_every_kind_of_violation_is_planted_somewhere() -> None:
    assert {violation for violation, _ in FAULTS} == set(VIOLATIONS)
