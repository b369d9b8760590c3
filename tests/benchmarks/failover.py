"""Failover: from the signal that the holder is sent to the next holder's first fenced commit.

The commit is timed by the next holder's own log (`term.first_commit`, written once the commit is
acknowledged); all processes are on one machine, so they share the clock. There are always a holder and two
standbys, each some seconds old at least, and the jobs are at work: what is measured is no idle cluster.
"""

import signal
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from bursts import NOOP
from cluster import PATIENCE, Cluster
from figures import Figure, Spread
from members import Member, wait_for
from setting import Setting

COUNTS = (350, 10_000)
FEW = 1_000
FAILOVERS, QUICK_FAILOVERS = 50, 10
SIGNALS = {signal.SIGKILL: "kill -9", signal.SIGTERM: "SIGTERM"}
TARGETS = {signal.SIGKILL: ("≤ 0.050 s", "≤ 0.250 s"), signal.SIGTERM: ("≤ 0.050 s", "≤ 0.150 s")}


async def measure(setting: Setting) -> AsyncIterator[Figure]:
    repetitions = QUICK_FAILOVERS if setting.quick else FAILOVERS
    for count in COUNTS:
        for number, name in SIGNALS.items():
            async with setting.cluster() as cluster:
                await cluster.start_three()
                await cluster.put(spread_jobs(count))
                lengths = [await fail_over(cluster, number, str(each)) for each in range(repetitions)]
            spread = Spread.of(lengths)
            measurement = f"{name}, {count:,} jobs"
            p50, most = TARGETS[number]
            note = f"{repetitions} failovers"
            yield Figure(
                measurement=measurement, name="p50", value=spread.p50, unit="s", target=p50, note=note
            )
            yield Figure(measurement=measurement, name="max", value=spread.most, unit="s", target=most)


def spread_jobs(count: int) -> list[dict[str, Any]]:
    """Return jobs of which a few are due in every second: some once a minute, or many once an hour."""
    often = count < FEW
    crons = [f"{n % 60} * * * * *" if often else f"{n % 60} {n // 60 % 60} * * * *" for n in range(count)]
    return [
        {"name": f"spread-{number}", "schedule": {"cron": cron}, "target": NOOP}
        for number, cron in enumerate(crons)
    ]


async def fail_over(cluster: Cluster, number: signal.Signals, replacement: str) -> float:
    """Send the holder a signal; returns the seconds until its successor has committed. Fills the gap."""
    holder = await cluster.holding()
    await cluster.standing_by()
    epoch = (await cluster.connection.store.terms.read()).epoch
    cluster.dead.append(cluster.members.pop(holder.name))
    sent_at = time.time()
    holder.process.send_signal(number)

    async def committed() -> float | None:
        return first_commit(list(cluster.members.values()), after_epoch=epoch)

    committed_at = await wait_for(committed, "the next holder's first commit", timeout=PATIENCE)
    await cluster.ended(holder)
    cluster.start(f"r{replacement}")
    return committed_at - sent_at


def first_commit(members: list[Member], *, after_epoch: int) -> float | None:
    """Return when (seconds since 1970) a member first committed in a later epoch."""
    for member in members:
        for event in member.events("term.first_commit"):
            if event["epoch"] > after_epoch:
                return datetime.fromisoformat(event["timestamp"]).timestamp()
    return None
