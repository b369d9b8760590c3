"""Backfilling a range that may be longer than one command: looked over first, then sent part after part.

Nothing is sent before the whole range has been looked over, so that what is refused is refused before the
first run of it. The holder judges each part again, by the job and the ledger as they are then. Parts that
were sent stay sent where a later one fails; the same range may be sent anew with `ran="skip"`.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cronexec.domain.backfill import MOST_SLOTS, Ran, past_slots, ran
from cronexec.domain.command import command_from_fields
from cronexec.domain.commands_trigger import MOST_BACKFILLED
from cronexec.domain.instants import SECOND
from cronexec.domain.job import Job
from cronexec.domain.model import write_instant
from cronexec.domain.run import slot_text
from cronexec.domain.triggers import merged_params, ran_already
from cronexec.errors import RefusedError
from cronexec.ports import Store

if TYPE_CHECKING:
    from cronexec.client import Commands


@dataclass(frozen=True, kw_only=True, slots=True)
class Outlook:
    """The past slots of a job, before anything is sent.

    `ran`: the slots that ran already, with the run of each. `excluded`: how many the schedule excludes.
    `more_from`: the first slot beyond as many as were asked for; None where these are all.
    """

    job: Job
    since: datetime
    until: datetime
    slots: tuple[datetime, ...]
    ran: Mapping[datetime, str]
    excluded: int
    more_from: datetime | None

    def check(self, ran: Ran, params: Mapping[str, Any] | None) -> None:
        """Raise RefusedError as the holder would."""
        if self.more_from is not None:
            why = f"more than {len(self.slots) + self.excluded} slots are in the range, which is the limit"
            raise RefusedError("invalid", f"{why}; the next one is {slot_text(self.more_from)}", "limit")
        merged_params(self.job, params)
        if self.ran and ran == "refuse":
            raise ran_already(list(self.ran), len(self.slots))


async def look_over(
    store: Store, name: str, since: datetime, until: datetime | None, most: int = MOST_SLOTS
) -> Outlook:
    """Return the slots of the job from `since` to `until` (now, if None), both included; at most `most`.

    Raises RefusedError where there is no such job, or the range is none of the past.
    """
    job, now = await asyncio.gather(store.jobs.get(name), store.terms.ping())
    if job is None or job.deleted_at is not None:
        raise RefusedError("not_found", f"there is no job {name}", "name")
    end = until or now - SECOND  # clocks differ, and the holder takes no slot that is to come
    slots: list[datetime] = []
    ran_before: dict[datetime, str] = {}
    excluded, left = 0, most
    begin: datetime | None = since
    while begin is not None and left > 0:
        part = past_slots(job.schedule, begin, end, min(left, MOST_BACKFILLED))
        ran_before |= ran(await store.runs.at_slots(name, part.slots))
        slots += part.slots
        excluded += part.excluded
        left = most - len(slots) - excluded
        begin = part.next
    return Outlook(
        job=job,
        since=since,
        until=end,
        slots=tuple(slots),
        ran=dict(sorted(ran_before.items())),
        excluded=excluded,
        more_from=begin,
    )


async def send_parts(
    commands: "Commands",
    outlook: Outlook,
    *,
    ran: Ran = "refuse",
    params: Mapping[str, Any] | None = None,
    rate: float | None = None,
) -> AsyncIterator[Mapping[str, Any]]:
    """Send the range, command after command, and yield the result of each.

    `rate`: queue no more slots a second than this. Raises RefusedError before the first, as `Outlook.check`.
    """
    outlook.check(ran, params)
    begin: str | None = write_instant(outlook.since)
    limit = MOST_BACKFILLED if rate is None else min(MOST_BACKFILLED, max(1, int(rate)))
    while begin is not None:
        fields = {
            "type": "job.backfill",
            "name": outlook.job.name,
            "since": begin,
            "until": write_instant(outlook.until),
            "limit": limit,
            "ran": ran,
        }
        given = {} if params is None else {"params": dict(params)}
        result = await commands.send(command_from_fields(fields | given | commands.identity()))
        yield result
        begin = result["next"]
        if begin is not None and rate is not None:
            await asyncio.sleep(result["queued"] / rate)
