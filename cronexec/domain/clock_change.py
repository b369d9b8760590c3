"""What a change of the clocks did to a slot, for people who look at the next ones."""

from dataclasses import dataclass
from enum import StrEnum

from cronexec.domain.instants import to_text
from cronexec.domain.recurrence import Cron
from cronexec.domain.zone import DAY, Gap, Period


class ClockChange(StrEnum):
    """`GAP`: the local time does not exist, and the slot is at the gap's end. Others: it occurs twice."""

    GAP = "gap"
    FIRST_OF_TWO = "first_of_two"
    SECOND_OF_TWO = "second_of_two"


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangedSlot:
    """`local`: the local time that the expression asks for, `02:30`, with its date where that is another."""

    change: ClockChange
    local: str


def find_clock_change(cron: Cron, slot: int) -> ChangedSlot | None:
    """Return what a change of the clocks did to `slot`, a slot of `cron`; None on all other nights."""
    period = cron.zone.period_at(slot)
    local = slot + period.offset
    if (asked := _asked_in_gap(cron, period, slot)) is not None:
        return ChangedSlot(change=ClockChange.GAP, local=_clock_text(asked, local))
    if local < period.passed:
        return ChangedSlot(change=ClockChange.SECOND_OF_TWO, local=_clock_text(local, local))
    if local >= period.end + cron.zone.period_at(period.end).offset:
        return ChangedSlot(change=ClockChange.FIRST_OF_TWO, local=_clock_text(local, local))
    return None


def _asked_in_gap(cron: Cron, period: Period, slot: int) -> int | None:
    if slot != period.start or not cron.expression.fixed_time or cron.rule.gap is Gap.SKIP:
        return None
    asked = cron.expression.next_after(period.passed - 1)
    return asked if asked is not None and asked < slot + period.offset else None


def _clock_text(local: int, shown: int) -> str:
    date, _, time = to_text(local).removesuffix("Z").partition("T")
    time = time.removesuffix(":00")
    return time if local // DAY == shown // DAY else f"{date} {time}"
