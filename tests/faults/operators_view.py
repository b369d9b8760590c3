"""What an operator sees besides the log: what the instances' heartbeats count, and what `doctor` says."""

from collections import Counter
from typing import TYPE_CHECKING

from members import Member, wait_for

from cronexec.doctor import Finding, Level, examine

if TYPE_CHECKING:
    from stage import Stage

COUNTED = ("warning", "error", "critical")
OF_THE_TEST = "fault.reached"  # the test's own words
TOLD_WITHIN = 30.0  # seconds: a heartbeat is due every five, by default


def logged(stage: "Stage", member: Member) -> Counter[str]:
    """Return how often a member has logged each event that is to be counted, since its start."""
    return Counter(
        str(entry["event"])
        for entry in stage.log_of(member)
        if entry["level"] in COUNTED and entry["event"] != OF_THE_TEST
    )


async def metrics(stage: "Stage") -> dict[str, dict[str, int]]:
    """Wait until the heartbeats of all that live tell what they have logged; returns the counts of each."""
    wanted = {name: logged(stage, member) for name, member in stage.members.items()}
    told: dict[str, dict[str, int]] = {}

    async def have_told() -> bool:
        for record in await stage.connection.store.instances.list():
            counts = {each.event: each.count for each in record.events if each.event != OF_THE_TEST}
            told[record.executor.name] = counts
        return all(
            told.get(name, {}).get(event, 0) >= count
            for name, counts in wanted.items()
            for event, count in counts.items()
        )

    await stage.until(have_told, f"heartbeats that tell {wanted}, not {told}", timeout=TOLD_WITHIN)
    for name, member in stage.members.items():
        now = logged(stage, member)
        more = {event: count for event, count in told.get(name, {}).items() if count > now[event]}
        assert more == {}, "counted, not logged"
    return {name: told.get(name, {}) for name in stage.members}


async def doctor_says(
    stage: "Stage", check: str, text: str, *, level: Level, timeout: float = TOLD_WITHIN
) -> Finding:
    """Wait until the doctor says so, from a process that is no instance; returns the finding."""
    findings: list[Finding] = []

    async def said() -> Finding | None:
        findings[:] = await examine(stage.settings, stage.connection)
        of_it = (each for each in findings if each.check == check and text in each.message)
        return next((each for each in of_it if each.level is level), None)

    found = await wait_for(said, f"a finding {check} with {text!r}", timeout=timeout, interval=0.2)
    assert level is Level.OK or found.remedy or level is Level.UNREACHABLE, "it says what to do"
    return found
