"""cronexec: one schedule, many application instances, every slot accounted for exactly once.

Every instance of an application embeds it. They compete for one never-acknowledged message, the baton; the
instance that holds it runs the jobs. The baton decides who should try; what is true is in the database, where
every write of the holder is fenced.

Guaranteed: every slot of every job is in the ledger exactly once, as a run or as a skip with its reason,
whatever happens to the baton, the holder or the servers; an attempt starts at most once; what is lost, late
or refused is visible. Not guaranteed: that a side effect happens exactly once. A run whose instance vanished
while it ran is recorded `abandoned`; it may or may not have had its effect.
"""

from cronexec.app import AsyncCronexec, Cronexec
from cronexec.errors import (
    CronexecError,
    InvalidDocumentError,
    NotYetAppliedError,
    RefusedError,
    SettingsError,
    UnreachableError,
)
from cronexec.settings import Settings
from cronexec.targets.handler_run import Run

__all__ = [
    "AsyncCronexec",
    "Cronexec",
    "CronexecError",
    "InvalidDocumentError",
    "NotYetAppliedError",
    "RefusedError",
    "Run",
    "Settings",
    "SettingsError",
    "UnreachableError",
]
