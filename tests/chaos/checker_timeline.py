"""What a job was, and when: its states, as the commands and their replies tell.

A command that was answered was applied at some instant between its sending and its reply, give or take a
tolerance: that is its *window*. Before the window the old state counts, after it the new one; within, the
matching of slots finds out (`checker_slots`). An equal document, a second pause and the like change nothing.
A pause that was given an end is over at exactly that instant, however late its reply came.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from checker_due import instant
from checker_history import Sent

MILLISECOND = 0.001
Document = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """What a job was from some instant in [lo, hi] on; `document` is None where there was no such job."""

    lo: float = float("-inf")
    hi: float = float("-inf")
    version: int = 0
    document: Document | None = None
    paused: bool = False

    @property
    def is_active(self) -> bool:
        return self.document is not None and not self.paused


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """States in order; the first one is that there is no job. `clear`: no two windows touch."""

    states: Sequence[State]

    @property
    def clear(self) -> bool:
        return all(one.hi < other.lo for one, other in zip(self.states, self.states[1:], strict=False))

    def documents(self) -> dict[int, Document]:
        """Return what each version was."""
        return {state.version: state.document for state in self.states if state.document is not None}

    def known(self, at: float, *, tolerance: float) -> State:
        """Return what the commands that were answered before `at` have made of the job."""
        return [state for state in self.states if state.hi - tolerance <= at][-1]

    def certain(self, at: float) -> State | None:
        """Return the state at `at`, or None within a window."""
        found = self.states[0]
        for state in self.states[1:]:
            if at <= state.lo:
                return found
            if at <= state.hi:
                return None
            found = state
        return found


def timeline(commands: Sequence[Sent], recorded: Mapping[str, Document], *, tolerance: float) -> Timeline:
    """Return the states that `commands`, in the order in which they were sent, have made of one job."""
    states = [State()]
    for sent in commands:
        reply, until = outcome(sent, recorded)
        if reply is None or not reply["ok"]:
            continue
        changed = _changed(states[-1], sent, reply["result"])
        by = until + tolerance
        over_at = instant(sent.command["until"]) if "until" in sent.command else None
        if over_at is not None:  # it was accepted, so it was applied before its end
            by = min(by, over_at - MILLISECOND)
        if changed is not None:
            states.append(replace(changed, lo=sent.sent_at - tolerance, hi=by))
        if sent.type == "job.pause" and over_at is not None:  # and up to it, by itself
            states.append(replace(states[-1], paused=False, lo=over_at, hi=over_at))
    return Timeline(states=states)


def outcome(sent: Sent, recorded: Mapping[str, Document]) -> tuple[Document | None, float]:
    """Return the reply, and by when the command was applied; where no reply arrived, the one on record."""
    if sent.reply is not None and sent.replied_at is not None:
        return sent.reply, sent.replied_at
    if (record := recorded.get(sent.id)) is not None:
        return record["reply"], record["received_at"].timestamp()
    return None, 0.0


def accepted(sent: Sent, recorded: Mapping[str, Document], *, tolerance: float) -> tuple[float, float] | None:
    """Return the window in which a command was applied; None for one that was refused, or is unknown."""
    reply, until = outcome(sent, recorded)
    if reply is None or not reply["ok"]:
        return None
    return sent.sent_at - tolerance, until + tolerance


def _changed(state: State, sent: Sent, result: Document) -> State | None:
    match sent.type:
        case "job.put" if result["changed"]:
            document, version = sent.command["job"], result["version"]
            return replace(state, document=document, version=version)
        case "job.delete":
            return State(version=state.version)
        case "job.pause" if result["changed"] and not state.paused:
            return replace(state, paused=True)
        case "job.resume" if result["changed"]:
            return replace(state, paused=False)
    return None
