"""The sessions of former terms, whose open transactions are in the way of the present one.

A holder that dies, freezes or is cut off inside a transaction leaves what it wrote there locked, for a minute
and more: the term document, where it had come so far, else entries that the next holder must write as well.
The term document therefore names the session of its term, and those of the last few terms before it (a
holder-elect whose raising was not answered counts as one of them). Ending a session that does nothing harms
nobody: no term ever uses another's.
"""

from collections.abc import Iterable

from bson import Binary
from bson.binary import UUID_SUBTYPE
from pymongo.errors import OperationFailure

from cronexec.adapters.mongo_collections import Collections, Document
from cronexec.log import get_logger

FORMER_SESSIONS = 8  # of terms that followed each other while one transaction stayed open
REMEMBER_FORMER: Document = {
    "$slice": [
        {
            "$concatArrays": [
                {"$cond": [{"$eq": [{"$type": "$session"}, "missing"]}, [], ["$session"]]},
                {"$ifNull": ["$former_sessions", []]},
            ]
        },
        FORMER_SESSIONS,
    ]
}


async def end_sessions(collections: Collections, ids: Iterable[bytes]) -> None:
    """Have the server abort what these sessions do; what it refuses goes away by itself, in a minute or more.

    Raises the driver's errors where it does not answer.
    """
    sessions = [{"id": Binary(bytes(each), UUID_SUBTYPE)} for each in ids]
    if not sessions:
        return
    try:
        await collections.database.command("killSessions", sessions)
    except OperationFailure as error:
        get_logger().warning("term.session_not_killed", error=str(error))


async def end_former_sessions(collections: Collections, term: Document) -> None:
    """End the sessions of all former terms that the term document names."""
    await end_sessions(collections, term.get("former_sessions", ()))
