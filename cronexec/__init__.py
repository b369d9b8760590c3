"""cronexec: one schedule, many application instances, every slot accounted for exactly once.

Every instance of an application embeds it. They compete for one never-acknowledged message, the baton; the
instance that holds it runs the jobs. The baton decides who should try; what is true is in the database, where
every write of the holder is fenced.

Guaranteed: every slot of every job is in the ledger exactly once, as a run or as a skip with its reason,
whatever happens to the baton, the holder or the servers; an attempt starts at most once; what is lost, late
or refused is visible. Not guaranteed: that a side effect happens exactly once. A run whose instance vanished
while it ran is recorded `abandoned`; it may or may not have had its effect.

The names below are imported when they are first used: the command line answers `--help` without the drivers.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOMES = {
    "AsyncCronexec": "cronexec.app",
    "Cronexec": "cronexec.app",
    "Run": "cronexec.targets.handler_run",
    "Settings": "cronexec.settings",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES.get(name, "cronexec.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
