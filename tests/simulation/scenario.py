"""What a seed decides before its history begins: how many instances and jobs, how large, and which faults.

Not every history has every kind of fault: few kinds at a high rate reach where all kinds together never get,
because the one keeps undoing what the other began.
"""

from dataclasses import dataclass
from random import Random

from simulated_clock import at

from cronexec.domain.job import JobDocument

DISTURBANCES = (
    "stop_process",
    "block_loop",
    "kill",
    "shut_down",
    "cut_broker",
    "cut_database",
    "cut_both",
    "database_gone",
    "database_steps_down",
    "broker_restarts",
    "alarm",
    "drop_links",
    "cancel_consumer",
    "extra_baton",
    "lose_batons",
    "step_clock",
    "trap",
)
FATES = ("request_lost", "answer_lost", "late", "stopped", "killed", "killed_late")
FATE_CHANCE = 0.02
ONCE_CHANCE = 0.1
CALM_CHANCE = 0.3
RETRY_CHANCE = 0.4
REPEAT_CHANCE = 0.3
WINDOW_CHANCE = 0.3
JITTER_CHANCE = 0.25
EXCLUDE_CHANCE = 0.3
OVERLAPS: tuple[object, ...] = (
    "queue",
    "skip",
    "allow",
    "replace",
    {"queue_limit": 3},
    {"policy": "allow", "max_running": 2},
)
HOLD_TOGETHER = {"lease": 2, "baton_lost_after": 3.5, "instance_lost_after": 6}


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """`lasts`: seconds until all faults end. `every`: seconds between disturbances, on average."""

    seed: int
    instances: int
    jobs: tuple[JobDocument, ...]
    lasts: float
    every: float
    disturbances: tuple[str, ...]
    fates: dict[str, float]
    slow: float
    commands_every: float
    renew_interval: float
    places: int
    longest_run: float
    most_entries: int
    at_once: int


def draw(seed: int) -> Scenario:
    """Return the scenario of a seed."""
    random = Random(f"scenario {seed}")  # noqa: S311  to be repeatable
    fates = {fate: FATE_CHANCE * random.random() for fate in FATES if random.random() < 0.4}
    if random.random() < CALM_CHANCE:
        fates = {}
    return Scenario(
        seed=seed,
        instances=random.choice((2, 2, 3)),
        jobs=tuple(_job(random, name, index) for index, name in enumerate("abc"[: random.randint(1, 3)])),
        lasts=random.uniform(5.0, 12.0),
        every=random.choice((0.7, 1.5, 3.0)),
        disturbances=("shut_down", *random.sample(DISTURBANCES, random.randint(1, 4))),
        fates=fates,
        slow=random.choice((0.0, 0.0, 0.0, 0.01, 0.03)),
        commands_every=random.choice((0.5, 1.0, 3.0)),
        renew_interval=random.choice((1.0, 2.5, 30.0)),
        places=random.choice((1, 2, 8)),
        longest_run=random.choice((0.2, 1.5, 6.0, 6.0)),
        most_entries=random.choice((1, 2, 2000)),
        at_once=random.choice((1, 2, 500)),
    )


def _job(random: Random, name: str, index: int) -> JobDocument:
    return definition(random, name, OVERLAPS[index] if random.random() < 0.5 else random.choice(OVERLAPS))


def definition(random: Random, name: str, overlap: object) -> JobDocument:
    """Return a definition of a job, which keeps its overlap policy through all its versions."""
    policy = random.choice(("latest", "all", "skip"))
    misfire: dict[str, object] = {"policy": policy, "grace": random.choice(("1s", "3s", "60s"))}
    if misfire["grace"] != "60s" and random.random() < WINDOW_CHANCE:
        misfire["window"] = "5s"
    repeats = {"abandoned": "retry"} if random.random() < REPEAT_CHANCE else {}
    if random.random() < RETRY_CHANCE:
        longest = random.choice(("0s", "1s", "3s"))
        repeats["retry"] = {
            "max_attempts": random.choice((2, 4)),
            "initial_delay": longest,
            "max_delay": longest,
        }
    return JobDocument.parse(
        repeats
        | {
            "name": name,
            "schedule": _schedule(random),
            "timeout": random.choice((None, None, "1s")),
            "target": {"type": "handler", "name": name},
            "overlap": overlap,
            "misfire": misfire,
        }
    )


def _schedule(random: Random) -> dict[str, object]:
    every = random.choice((1, 1, 2, 3, 5))
    schedule: dict[str, object] = {"every": f"{every}s"}
    if random.random() < ONCE_CHANCE:
        schedule = {"at": _text(random.uniform(0.0, 12.0))}
    elif random.random() < EXCLUDE_CHANCE:
        schedule["exclude"] = [_exclusion(random) for _ in range(random.randint(1, 2))]
    if random.random() < JITTER_CHANCE:
        schedule["jitter"] = f"{random.choice((1, every))}s"
    return schedule


def _exclusion(random: Random) -> object:
    """Return every so many seconds, or a stretch of time; `exclusions` knows these forms."""
    if random.random() < 0.5:
        return {"cron": f"*/{random.choice((2, 3, 4))} * * * * *"}
    first = random.uniform(0.0, 12.0)
    return f"{_text(first)}/{_text(first + random.uniform(0.0, 6.0))}"


def _text(seconds: float) -> str:
    return at(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")
