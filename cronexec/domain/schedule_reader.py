"""Reads the `schedule` of a job document: every wrong field of it is found in one go."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, TypeVar

from cronexec.domain.cron import CronExpression, canonical_cron, parse_cron
from cronexec.domain.duration import format_duration, parse_duration
from cronexec.domain.exclusion import Exclusions, read_exclusions
from cronexec.domain.hashed import is_hashed, resolve_hashed
from cronexec.domain.instants import SECOND, read_instant
from cronexec.domain.jitter import read_jitter
from cronexec.domain.recurrence import At, Cron, Every, Recurrence
from cronexec.domain.schedule_error import ScheduleError, did_you_mean
from cronexec.domain.zone import DEFAULT_RULE, DstRule, Fold, Gap, Zone, get_zone

_Value = TypeVar("_Value")
_Word = TypeVar("_Word", bound=StrEnum)

_KINDS = ("cron", "every", "at")
_FIELDS = {
    "cron": ("cron", "timezone", "start", "end", "exclude", "jitter", "dst"),
    "every": ("every", "anchor", "timezone", "start", "end", "exclude", "jitter"),
    "at": ("at", "timezone", "jitter"),
}
_REFUSED = {
    ("at", "start"): "at is one instant and takes no start; leave it out.",
    ("at", "end"): "at is one instant and takes no end; leave it out.",
    ("at", "exclude"): "at is one instant, and there is nothing else to exclude; leave it out.",
    ("at", "dst"): "at is one instant, on which dst has no effect; give it an offset.",
    ("every", "dst"): "every counts elapsed time, on which dst has no effect; use cron for local times.",
}
_NO_TIMEZONE = "every counts elapsed time, on which a time zone has no effect; use cron for local times."


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleParts:
    """What a document says; a part that is wrong is None, and `problems` say what is wrong."""

    recurrence: Any
    start: int | None
    end: int | None
    exclusions: Exclusions | None
    jitter: timedelta | None
    problems: list[ScheduleError]


def read_schedule(document: Mapping[str, Any], name: str) -> ScheduleParts:
    """Read the document of the job called `name`; a field that is None counts as absent.

    Raises ScheduleError where it is of no kind.
    """
    given = {key: value for key, value in document.items() if value is not None}
    kind = _read_kind(given)
    problems = list(_refuse_unknown(kind, given))
    reader = _Reader(given, name, problems)
    recurrence = reader.read_recurrence(kind)
    return ScheduleParts(
        recurrence=recurrence,
        start=reader.read_instant("start"),
        end=reader.read_instant("end"),
        exclusions=reader.read_exclusions(),
        jitter=reader.read_jitter(recurrence),
        problems=problems,
    )


class _Reader:
    """Reads the fields of one document, and keeps what is wrong with them; what is wrong is read as None."""

    def __init__(self, given: Mapping[str, Any], name: str, problems: list[ScheduleError]) -> None:
        self._given = given
        self._name = name
        self._problems = problems
        self._zone = self._attempt(self._read_zone) or (get_zone("UTC") if "timezone" in given else None)

    def read_recurrence(self, kind: str) -> Recurrence | None:
        if kind == "cron":
            return self._attempt(self._read_cron)
        return self._attempt(self._read_every) if kind == "every" else self._attempt(self._read_at)

    def read_instant(self, name: str) -> int | None:
        return self._attempt(lambda: self._read_instant(name)) if name in self._given else None

    def read_exclusions(self) -> Exclusions | None:
        if "exclude" not in self._given:
            return None
        exclusions, problems = read_exclusions(self._given["exclude"], self._zone or get_zone("UTC"))
        self._problems.extend(problems)
        return exclusions

    def read_jitter(self, recurrence: Recurrence | None) -> timedelta | None:
        if "jitter" not in self._given:
            return None
        return self._attempt(lambda: read_jitter(self._given["jitter"], recurrence)) or None

    def _attempt(self, read: Callable[[], _Value]) -> _Value | None:
        try:
            return read()
        except ScheduleError as error:
            self._problems.append(error)
            return None

    def _read_zone(self) -> Zone | None:
        timezone = self._given.get("timezone")
        if timezone is None:
            return None
        if not isinstance(timezone, str):
            raise ScheduleError(
                "timezone", f"{timezone!r} is no time zone; use a name such as Europe/Amsterdam."
            )
        return get_zone(timezone)

    def _read_cron(self) -> Cron:
        if not isinstance(self._given["cron"], str):
            raise ScheduleError("cron", f'{self._given["cron"]!r} is no text; write cron as "0 3 * * *".')
        text = canonical_cron(self._given["cron"])
        resolved = resolve_hashed(text, self._name) if is_hashed(text) else text
        expression, zone = parse_cron(resolved), self._zone or get_zone("UTC")
        rule = self._attempt(lambda: self._read_rule(expression)) if "dst" in self._given else None
        return Cron(text, zone.name, resolved, rule or DEFAULT_RULE, expression, zone)

    def _read_rule(self, expression: CronExpression) -> DstRule:
        given = self._given["dst"]
        if not isinstance(given, Mapping) or not set(given) <= set(DstRule._fields):
            raise ScheduleError("dst", f"dst is {given!r}; write it as {{gap: run, fold: first}}.")
        rule = DstRule(
            _read_word("dst.gap", given.get("gap"), Gap, DEFAULT_RULE.gap),
            _read_word("dst.fold", given.get("fold"), Fold, DEFAULT_RULE.fold),
        )
        if rule != DEFAULT_RULE and not expression.fixed_time:
            raise ScheduleError(
                "dst",
                f"dst is for fixed times; {expression.text!r} has a * or a step in the hours and runs on "
                "every real occurrence. Leave dst out.",
            )
        return DEFAULT_RULE if rule == DEFAULT_RULE else rule

    def _read_every(self) -> Every:
        try:
            every = parse_duration(self._given["every"])
        except ValueError as error:
            raise ScheduleError("every", str(error)) from None
        if every < SECOND or every % SECOND:
            raise ScheduleError(
                "every", f"every {format_duration(every)}: give at least 1s, in whole seconds."
            )
        anchor = self.read_instant("anchor")
        return Every(every // SECOND, anchor or 0, (self._zone or get_zone("UTC")).name)

    def _read_at(self) -> At:
        return At(self._read_instant("at"))

    def _read_instant(self, name: str) -> int:
        return read_instant(name, self._given[name], self._zone)


def _read_word(field: str, given: Any, words: type[_Word], default: _Word) -> _Word:
    if given is None:
        return default
    try:
        return words(given)
    except ValueError:
        raise ScheduleError(field, f"{given!r} is none of {', '.join(words)}.") from None


def _read_kind(given: Mapping[str, Any]) -> str:
    kinds = [kind for kind in _KINDS if kind in given]
    if len(kinds) != 1:
        said = " and ".join(kinds) or "none"
        raise ScheduleError(
            kinds[-1] if kinds else "cron",
            f"A schedule is exactly one of cron, every and at; given: {said}.",
        )
    return kinds[0]


def _refuse_unknown(kind: str, given: Mapping[str, Any]) -> Iterator[ScheduleError]:
    if kind == "every" and "timezone" in given and "exclude" not in given:
        yield ScheduleError("timezone", _NO_TIMEZONE)
    for key in map(str, given):  # YAML has names that are numbers
        if (kind, key) in _REFUSED:
            yield ScheduleError(key, _REFUSED[kind, key])
        elif key not in _FIELDS[kind]:
            hint = did_you_mean(key, _FIELDS[kind]) or f"; it takes {', '.join(_FIELDS[kind])}."
            yield ScheduleError(key, f"A schedule with {kind} has no field {key!r}{hint}")
