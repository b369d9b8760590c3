"""What a chaos run measured: how long until the next claim, by kind of fault; and its table.

*Failover* is the time from a fault that hit the holder to the first claim of the next epoch, where there was
one before the next fault. *Back* is the time from the end of a fault that hit a server (it accepts
connections again) to the next claim. Both by the wall clock of MongoDB, which is this machine's.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

SLOT = 1.0  # seconds: what came due within it is decided with what comes due at its end
SERVERS = {"rabbitmq", "mongodb"}
NEXT_WITHIN = 180.0


class Claim(NamedTuple):
    """A claim: when it was made, by which epoch, and up to when."""

    at: float
    epoch: int
    watermark: float


def figures(log: Path) -> dict[str, Any]:
    """Read the driver's log; returns faults by kind, failover and back by kind of fault (seconds)."""
    events = [json.loads(line) for line in log.read_text().splitlines()]
    terms = sorted((event for event in events if event["event"] == "term"), key=lambda event: event["at"])
    claims = list(_claims(terms))
    healed = {event["number"]: event["at"] for event in events if event["event"] == "healed"}
    struck = [event["at"] for event in events if event["event"] == "disturbed"]
    faults: Counter[str] = Counter()
    failover: dict[str, list[float]] = defaultdict(list)
    back: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event["event"] != "disturbed":
            continue
        kind, at = event["kind"], event["at"]
        until = min((other for other in struck if other > at), default=at + NEXT_WITHIN)
        faults[kind] += 1
        if event["target"] in SERVERS and kind.startswith(("RabbitMQ", "MongoDB")):
            if (after := _back(claims, healed.get(event["number"], at), until)) is not None:
                back[kind].append(after)
        elif event["held"] and (after := _failover(claims, event, until)) is not None:
            failover[kind].append(after)
    return {
        "faults": dict(sorted(faults.items())),
        "failover": {kind: _spread(found) for kind, found in sorted(failover.items())},
        "back": {kind: _spread(found) for kind, found in sorted(back.items())},
        "epochs": terms[-1]["epoch"] if terms else 0,
    }


def _claims(terms: Sequence[dict[str, Any]]) -> Iterable[Claim]:
    """Yield the changes of the term document other than those that raise the epoch."""
    for before, term in pairwise(terms):
        if term["epoch"] == before["epoch"]:
            yield Claim(term["at"], term["epoch"], term["watermark"])


def _failover(claims: Sequence[Claim], event: dict[str, Any], until: float) -> float | None:
    """Return how long after the fault the next epoch's first claim was made, if before `until`."""
    found = (claim.at for claim in claims if claim.epoch > event["epoch"] and event["at"] <= claim.at < until)
    return next((at - event["at"] for at in found), None)


def _back(claims: Sequence[Claim], since: float, until: float) -> float | None:
    """Return how long after `since` the first claim decided what had come due by then."""
    found = (claim for claim in claims if since <= claim.at < until)
    return next((claim.at - since for claim in found if claim.watermark + SLOT >= since), None)


def _spread(found: list[float]) -> dict[str, float]:
    ordered = sorted(found)

    def part(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)

    return {"times": len(ordered), "p50": part(0.5), "p99": part(0.99), "max": round(ordered[-1], 3)}


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    console = Console(width=118)
    checked, measured = result["checked"], result["figures"]
    console.print(
        f"RabbitMQ {result['rabbitmq']}, MongoDB {result['mongodb']} ({result['mongodb_members']} members), "
        f"Python {result['python']}, {result['processors']} processors\n"
        f"{result['instances']} instances, {result['per_second']} jobs each second, {result['per_minute']} "
        f"each minute, {result['minutes']:g} minutes, seed {result['seed']}",
        highlight=False,
    )
    summary = Table(
        "slots due",
        "run",
        *checked["skipped"],
        "missing",
        "doubled",
        "abandoned",
        "running at kills",
        "late > 1 s",
    )
    violations = checked["violations"]
    summary.add_row(
        *(
            f"{number:,}"
            for number in (
                checked["due"],
                checked["run"],
                *checked["skipped"].values(),
                violations["missed"],
                violations["doubled"],
                sum(checked["abandoned"].values()),
                checked["running_at_kills"],
                checked["late"].get("> 1 s", 0),
            )
        )
    )
    head = ("commands sent", "applied", "refused", "rejected", "lost", "triggered runs", "backfilled")
    commands = Table(*head)
    counts = checked["commands"]
    commands.add_row(
        *(f"{counts.get(name, 0):,}" for name in ("sent", "applied", "refused")),
        f"{result['rejected']:,}",
        f"{violations['lost_command']:,}",
        f"{sum(checked['triggered'].values()):,}",
        f"{sum(checked['backfilled'].values()):,}",
    )
    console.print(summary, commands, _faults(measured))
    for kind, count in violations.items():
        if count:
            console.print(f"VIOLATION {kind}: {count}; first: {checked['first'][kind][:3]}", style="bold red")
    for problem in result["problems"]:
        console.print(f"PROBLEM {problem}", style="bold red")


def _faults(measured: dict[str, Any]) -> Table:
    table = Table("fault", "times", "next claim after", "n", "p50", "p99", "max")
    for kind, times in measured["faults"].items():
        failover, back = measured["failover"].get(kind), measured["back"].get(kind)
        spread = failover or back
        since = "the fault (holder)" if failover else "the server is back" if back else ""
        numbers = [f"{spread[name]:.3f} s" for name in ("p50", "p99", "max")] if spread else ["", "", ""]
        table.add_row(kind, str(times), since, str(spread["times"]) if spread else "", *numbers)
    return table
