"""Commands that were applied or refused, with their replies: each applies once; also the audit log."""

from collections.abc import Sequence

from pymongo import DESCENDING

from cronexec.adapters.mongo_collections import Collections
from cronexec.adapters.mongo_documents import command_from
from cronexec.adapters.mongo_errors import driver_errors
from cronexec.ports import AppliedCommand, RecordedReply


class MongoCommandStore:
    """Implements `ports.CommandStore`. Commands are recorded by fenced writes (`mongo_content`)."""

    def __init__(self, collections: Collections) -> None:
        self._commands = collections.commands

    async def replies(self, command_ids: Sequence[str]) -> dict[str, RecordedReply]:
        with driver_errors():
            known = self._commands.find({"_id": {"$in": list(command_ids)}}, {"reply": 1, "document": 1})
            return {
                fields["_id"]: RecordedReply(reply=fields["reply"], document=fields["document"])
                async for fields in known
            }

    async def list(self, limit: int = 50) -> list[AppliedCommand]:
        with driver_errors():
            newest = self._commands.find().sort("received_at", DESCENDING).limit(limit)
            return [command_from(fields) async for fields in newest]
