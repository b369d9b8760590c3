"""The watcher's own account of what has happened, which all its rules look at."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from history import History

from cronexec.adapters.memory_store import MemoryDatabase
from cronexec.domain.job import Job
from cronexec.domain.run import Executor, Run
from cronexec.domain.term import Term, TermRecord
from cronexec.ports import Batch

SECOND = timedelta(seconds=1)


@dataclass(kw_only=True)
class Write:
    """A fenced write while it is under way.

    `before`: the term document that it found. `off`: the jobs that were paused or deleted before. `jobs`: as
    they were before. `inserted`: the entries that are new in the ledger.
    """

    term: Term
    batch: Batch
    before: TermRecord
    off: frozenset[str]
    jobs: Mapping[str, Job]
    inserted: list[Run] = field(default_factory=list)


@dataclass(kw_only=True)
class Account:
    """`written_epoch`: the latest that has written. `holders`: by epoch. `entries`: ids, by job.

    `returned`: runs that were given back or queued again. `begun`: where the target of each attempt began.
    `successors`: by whom runs were replaced.
    `disturbed`: executors that were killed, stopped or cut off: they may be taken for lost.
    """

    history: History
    database: MemoryDatabase
    written_epoch: int = 0
    holders: dict[int, Executor] = field(default_factory=dict)
    write: Write | None = None
    entries: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    returned: set[str] = field(default_factory=set)
    begun: dict[tuple[str, int], str] = field(default_factory=dict)
    successors: dict[str, str] = field(default_factory=dict)
    disturbed: set[str] = field(default_factory=set)
