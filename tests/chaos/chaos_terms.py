"""Watches the term document from outside, by a change stream: every claim, by MongoDB's own wall clock.

A thread of its own with a driver of its own, straight to the servers. Through restarts and elections it goes
on after the last change that it saw.
"""

import threading
import time
from datetime import UTC
from typing import Any

from bson.codec_options import CodecOptions
from chaos_log import DriverLog
from pymongo import MongoClient
from pymongo.errors import PyMongoError

Document = dict[str, Any]


class TermWatch:
    """`epoch`, `holder`, `watermark` and `changed_at` are the last that were seen."""

    def __init__(self, mongo_url: str, database: str, namespace: str, log: DriverLog) -> None:
        self._client: MongoClient[Document] = MongoClient(mongo_url, serverSelectionTimeoutMS=2000)
        options = CodecOptions[Document](tz_aware=True, tzinfo=UTC)
        self._terms = self._client.get_database(database, codec_options=options)[f"{namespace}.term"]
        self._log = log
        self._seen: Document = {}
        self._token: Any = None
        self._closing = threading.Event()
        self.changed_at = 0.0
        self._thread = threading.Thread(target=self._run, name="term-watch", daemon=True)
        self._thread.start()

    @property
    def epoch(self) -> int:
        epoch: int = self._seen.get("epoch", 0)
        return epoch

    @property
    def holder(self) -> str | None:
        return (self._seen.get("holder") or {}).get("name")

    @property
    def watermark(self) -> float:
        found = self._seen.get("watermark")
        return 0.0 if found is None else float(found.timestamp())

    @property
    def lag(self) -> float:
        """Seconds since the watermark; many where nobody holds."""
        return time.time() - self.watermark

    def close(self) -> None:
        self._closing.set()
        self._thread.join(10)
        self._client.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._watch()
            except PyMongoError:
                self._closing.wait(0.2)

    def _watch(self) -> None:
        about_term = [{"$match": {"documentKey._id": "term"}}]
        with self._terms.watch(about_term, resume_after=self._token, max_await_time_ms=500) as stream:
            while not self._closing.is_set():
                change = stream.try_next()
                self._token = stream.resume_token
                if change is not None:
                    self._take(change)

    def _take(self, change: Document) -> None:
        changed = change.get("fullDocument") or change.get("updateDescription", {}).get("updatedFields", {})
        self._seen = _with(self._seen, changed)
        self.changed_at = change["wallTime"].timestamp()
        if "seq" in changed:
            self._log.write(
                "term",
                at=self.changed_at,
                epoch=self._seen["epoch"],
                seq=self._seen["seq"],
                watermark=self.watermark,
                holder=self.holder,
            )


def _with(document: Document, changed: Document) -> Document:
    """Return the document with what a change stream says has changed; of a part, by its dotted path."""
    after = dict(document)
    for path, value in changed.items():
        name, _, rest = path.partition(".")
        after[name] = _with(after.get(name) or {}, {rest: value}) if rest else value
    return after
