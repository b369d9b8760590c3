"""What runs do. `Targets` holds the one object for each kind; every kind has a module of its own here."""

import asyncio
from collections.abc import Mapping
from typing import Any

from cronexec.domain.run import Outcome
from cronexec.ports import Execution, Target


class Targets:
    """The targets of an instance, by kind: the `type` of a target in a job document."""

    def __init__(self, by_kind: Mapping[str, Target]) -> None:
        self._by_kind = dict(by_kind)

    def unavailable(self, target: Any) -> str | None:
        """Return why this instance cannot execute it, or None."""
        executing = self._by_kind.get(target.type)
        if executing is None:
            return f"this instance does not execute targets of type {target.type}"
        return executing.unavailable(target)

    async def execute(self, execution: Execution) -> Outcome:
        """Execute by kind; as `ports.Target.execute`. The kind has to be there: ask `unavailable` before."""
        return await self._by_kind[execution.target.type].execute(execution)

    async def close(self) -> None:
        """Close every kind, whatever becomes of the others; raises what went wrong."""
        results = await asyncio.gather(
            *(target.close() for target in self._by_kind.values()), return_exceptions=True
        )
        errors = [result for result in results if isinstance(result, Exception)]
        if errors:
            raise ExceptionGroup("targets could not be closed", errors)
