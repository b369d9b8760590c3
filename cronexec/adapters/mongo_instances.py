"""What instances say of themselves with each heartbeat."""

from pymongo import ASCENDING

from cronexec.adapters.mongo_collections import Collections
from cronexec.adapters.mongo_documents import instance_document, instance_from
from cronexec.adapters.mongo_errors import driver_errors
from cronexec.ports import InstanceRecord


class MongoInstanceStore:
    """Implements `ports.InstanceStore`. The database itself writes `beat_at`, whatever the record says."""

    def __init__(self, collections: Collections) -> None:
        self._instances = collections.instances

    async def beat(self, record: InstanceRecord) -> None:
        fields = {"$mergeObjects": [{"$literal": instance_document(record)}, {"beat_at": "$$NOW"}]}
        with driver_errors():
            await self._instances.update_one(
                {"_id": record.executor.id}, [{"$replaceWith": fields}], upsert=True
            )

    async def leave(self, executor_id: str) -> None:
        with driver_errors():
            await self._instances.delete_one({"_id": executor_id})

    async def list(self) -> list[InstanceRecord]:
        with driver_errors():
            order = [("executor.name", ASCENDING), ("_id", ASCENDING)]
            return [instance_from(fields) async for fields in self._instances.find().sort(order)]
