"""Faults in what is skipped, and in what runs although its job's policies do not want it."""

from dataclasses import replace

from checker_history import Entry
from hypothesis import assume
from planted import is_near_a_change, plants, some_run, some_skip
from sample_history import Sample


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


def policy_of(sample: Sample, entry: Entry) -> str:
    """Return the misfire policy of the version that an entry is of."""
    puts = [sent for sent in sample.sent("job.put") if sent.job == entry.job]
    (document,) = (
        sent.command["job"] for sent in puts if (sent.reply or {})["result"]["version"] == entry.version
    )
    policy: str = document["misfire"].get("policy", "latest")
    return policy


@plants("ran_though_missed")
def a_missed_slot_that_ran_though_its_job_did_not_want_it(sample: Sample) -> None:
    entry = some_skip(sample, "misfire")
    like = some_run(sample)
    entry.state, entry.reason, entry.until = "succeeded", None, None
    entry.executor, entry.started_at, entry.finished_at = like.executor, like.started_at, like.finished_at


@plants("skipped_without_cause")
def a_misfire_after_which_only_a_trigger_was_decided(sample: Sample) -> None:
    missed = [entry for entry in sample.history.entries if entry.reason == "misfire"]
    latest = [entry for entry in missed if policy_of(sample, entry) == "latest"]
    assume(latest)
    skip = latest[-1]
    of_job = [entry for entry in sample.history.entries if entry.job == skip.job]
    for entry in of_job:
        if not entry.is_skip and skip.slot < entry.slot <= (skip.claimed_at or 0.0):
            sample.remove(entry)
    trigger = replace(some_run(sample), id=f"{skip.job}#odd", job=skip.job, cause="trigger")
    trigger.slot = int(skip.claimed_at or 0.0)
    sample.history.entries.append(trigger)


@plants("skipped_without_cause")
def an_overlap_with_fewer_runs_than_there_are_places(sample: Sample) -> None:
    runs = [entry for entry in sample.ran() if entry.slot > sample.outage[1] + 90]
    assume(runs)
    entry = sample.rng.choice(runs)
    for sent in sample.sent("job.put"):
        if sent.job == entry.job:
            sent.command["job"]["overlap"] = {"policy": "queue", "queue_limit": 100}
    sample.history.work.remove(sample.work_of(entry))
    entry.state, entry.reason = "skipped", "overlap"


@plants("skipped_without_cause")
def a_window_that_goes_on_over_a_slot_that_nobody_named(sample: Sample) -> None:
    skip = some_skip(sample, "blackout")
    like = [other for other in sample.ran() if (other.job, other.version) == (skip.job, skip.version)]
    assume(like)
    later = [other for other in like if other.slot > skip.slot]
    assume(later)
    skip.until = float(later[0].slot)
    sample.remove(later[0])
