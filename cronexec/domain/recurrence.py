"""Recurrences: the slots of a schedule without its bounds, in whole seconds since the epoch."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from cronexec.domain.cron import CronExpression
from cronexec.domain.duration import format_duration
from cronexec.domain.instants import SECOND, to_text
from cronexec.domain.zone import DEFAULT_RULE, DstRule, Zone


class Recurrence(Protocol):
    """What every kind of schedule can do. `timezone`: of its wall clock."""

    @property
    def timezone(self) -> str: ...

    def next_after(self, instant: int) -> int | None: ...

    def shortest_gap(self) -> int | None:
        """Return the seconds between the two slots that are nearest, nights of a clock change aside."""

    def to_document(self) -> dict[str, Any]: ...

    def describe(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression on the wall clock of a time zone.

    `resolved` is the expression where `cron` has an H; `rule`: of fixed times, in gaps and folds.
    """

    cron: str
    timezone: str
    resolved: str
    rule: DstRule
    expression: CronExpression = field(compare=False, repr=False)
    zone: Zone = field(compare=False, repr=False)

    def next_after(self, instant: int) -> int | None:
        if not self.expression.fixed_time:
            return self.zone.next_occurrence(self.expression.next_after, instant)
        if self.rule is DEFAULT_RULE:
            return self.zone.next_first_occurrence(self.expression.next_after, instant)
        return self.zone.next_by_rule(self.expression.next_after, instant, self.rule)

    def shortest_gap(self) -> int | None:
        return self.expression.shortest_gap()

    def to_document(self) -> dict[str, Any]:
        changed = {
            name: rule.value
            for (name, rule), default in zip(self.rule._asdict().items(), DEFAULT_RULE, strict=True)
            if rule is not default
        }
        dst = {"dst": changed} if changed else {}
        return {"cron": self.cron, "timezone": self.timezone, **dst}

    def describe(self) -> str:
        return f"{self.cron} {self.timezone}"


@dataclass(frozen=True, slots=True)
class Every:
    """An interval on a fixed phase. `timezone` has no effect on its slots, but on what is excluded."""

    every: int
    anchor: int
    timezone: str = "UTC"

    def next_after(self, instant: int) -> int:
        return instant + self.every - (instant - self.anchor) % self.every

    def shortest_gap(self) -> int | None:
        return self.every

    def to_document(self) -> dict[str, Any]:
        anchor = {"anchor": to_text(self.anchor)} if self.anchor else {}
        timezone = {"timezone": self.timezone} if self.timezone != "UTC" else {}
        return {"every": format_duration(self.every * SECOND), **anchor, **timezone}

    def describe(self) -> str:
        return f"every {format_duration(self.every * SECOND)}"


@dataclass(frozen=True, slots=True)
class At:
    """One instant."""

    at: int

    @property
    def timezone(self) -> str:
        return "UTC"

    def next_after(self, instant: int) -> int | None:
        return self.at if instant < self.at else None

    def shortest_gap(self) -> int | None:
        return None

    def to_document(self) -> dict[str, Any]:
        return {"at": to_text(self.at)}

    def describe(self) -> str:
        return f"at {to_text(self.at)}"
