"""The edge at which pymongo's errors stop: each becomes a sentence with a remedy and without credentials.

Most of what goes wrong is `UnreachableError`: the same call may work later, or after somebody followed the
remedy. What the database will never accept, however often it is asked, is `UnwritableError`: only then may a
caller look for the culprit in what it wrote. When in doubt it is the former, because a full disk or an
election must not make anybody reject jobs.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from bson.errors import BSONError
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    DocumentTooLarge,
    ExecutionTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
)

from cronexec.errors import CronexecError, UnreachableError, UnwritableError

STANDALONE_REMEDY = (
    "Start mongod with --replSet rs0 and run rs.initiate() on it once: a replica set of one member is enough."
)
UNAUTHORIZED, AUTHENTICATION_FAILED, TRANSACTIONS_UNSUPPORTED = 13, 18, 20
DUPLICATE_KEY = 11000
WRITE_CONFLICT = 112
# A primary that was one when it took the write, and is none any more: it stepped down, or shuts down.
NO_LONGER_PRIMARY = frozenset({91, 189, 10107, 11600, 11602, 13435, 13436})
# What no repetition cures: the document itself is refused (names as in the server's error_codes.yml).
REFUSED_FOR_GOOD = frozenset(
    {
        2,  # BadValue
        9,  # FailedToParse
        14,  # TypeMismatch
        15,  # Overflow: nested too deeply
        22,  # InvalidBSON
        52,  # DollarPrefixedFieldName
        53,  # InvalidIdField
        56,  # EmptyFieldName
        57,  # DottedFieldName
        121,  # DocumentValidationFailure
        388,  # TransactionTooLargeForCache: of what is written together, each alone may do
        10334,  # BSONObjectTooLarge
        17280,  # KeyTooLong
        17419,  # the document would be too large after the update
        17420,  # the document to insert is too large
    }
)
# Raised by pymongo while it encodes: before anything was sent. UnicodeEncodeError is a ValueError.
ENCODING_ERRORS = (BSONError, DocumentTooLarge, OverflowError, UnicodeEncodeError, RecursionError)


@contextmanager
def driver_errors() -> Iterator[None]:
    """Let nothing of pymongo's out but our own errors, with its as their cause.

    pymongo turns the cancellation of a task that waits for a server into an error of its own. It must not be
    lost: a loop that tries again on errors could not be stopped any more.
    """
    try:
        yield
    except ENCODING_ERRORS as error:
        raise UnwritableError(f"MongoDB cannot store this: {error}") from error
    except PyMongoError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError from error
        raise translated(error) from error


def translated(error: PyMongoError) -> CronexecError:
    """Return our error for one of pymongo's."""
    if isinstance(error, ServerSelectionTimeoutError):
        return _not_found(error)
    if isinstance(error, OperationFailure) and not isinstance(
        error, ExecutionTimeout | NotPrimaryError | WriteConcernError
    ):
        return _refused(error)
    if isinstance(error, WriteConcernError):
        if error_codes(error) & NO_LONGER_PRIMARY:
            return unreachable("MongoDB's primary stepped down, or shuts down, before a majority had it", "")
        return unreachable(
            "MongoDB's primary has no majority of its members behind it",
            "Check the other members (rs.status()).",
        )
    if isinstance(error, ConnectionFailure | NotPrimaryError | ExecutionTimeout):
        return unreachable(f"MongoDB did not answer: {_first_line(error)}", "")
    return unreachable(f"MongoDB cannot be used: {_first_line(error)}", "")


def unreachable(problem: str, remedy: str) -> UnreachableError:
    return UnreachableError("database", problem, remedy)


def is_duplicate_key(error: PyMongoError) -> bool:
    """Whether a unique key was there already: of a single write, or of one in a bulk."""
    return DUPLICATE_KEY in error_codes(error)


def is_conflict(error: PyMongoError) -> bool:
    """Whether another transaction had written what this one was about to write, committed or not."""
    return WRITE_CONFLICT in error_codes(error)


def is_refused_for_good(error: PyMongoError) -> bool:
    return bool(error_codes(error) & REFUSED_FOR_GOOD)


def error_codes(error: PyMongoError) -> set[int]:
    """Return the server's codes in `error`; of a bulk write, those of its writes."""
    if isinstance(error, BulkWriteError) and error.details:
        return {int(write["code"]) for write in error.details.get("writeErrors", ())}
    code = error.code if isinstance(error, OperationFailure) else None
    return set() if code is None else {code}


def _refused(error: OperationFailure) -> CronexecError:
    text = _first_line(error)
    if error.code == AUTHENTICATION_FAILED:
        return unreachable(
            "MongoDB refused the login: user or password is wrong",
            "Check the user, the password and authSource in the MongoDB URL.",
        )
    if error.code == UNAUTHORIZED:
        return unreachable(
            f"MongoDB says that the user lacks a right: {text}",
            "Grant it the role readWrite on the URL's database.",
        )
    if error.code == TRANSACTIONS_UNSUPPORTED:
        return unreachable("MongoDB is a standalone server and has no transactions", STANDALONE_REMEDY)
    if is_refused_for_good(error):
        return UnwritableError(f"MongoDB refuses this for good: {text}")
    return unreachable(f"MongoDB refused: {text}", "")


def _not_found(error: ServerSelectionTimeoutError) -> UnreachableError:
    """Say why no primary was found; pymongo has the first reason in its text, before its own settings."""
    text = _first_line(error)
    if "CERTIFICATE_VERIFY_FAILED" in text or "certificate verify failed" in text:
        return unreachable(
            "MongoDB's TLS certificate is not trusted",
            "Name the certificate of its authority with tlsCAFile in the MongoDB URL.",
        )
    if "SSL handshake failed" in text:
        return unreachable(
            f"MongoDB did not agree on TLS: {text}",
            "Check tls=… in the MongoDB URL, and the certificates on both sides.",
        )
    if "replica set name" in text:
        return unreachable(
            f"{text}: the servers are a standalone or of another set",
            f"Check replicaSet in the MongoDB URL. For a standalone: {STANDALONE_REMEDY}",
        )
    if "Name or service not known" in text or "nodename nor servname" in text or "getaddrinfo" in text:
        return unreachable(f"MongoDB's host name is not known: {text}", "Check the host in the MongoDB URL.")
    if "No primary available" in text or "No replica set members match" in text:
        return unreachable(
            "MongoDB has no primary now", "Wait for the election; rs.status() says why there is none."
        )
    return unreachable(
        f"MongoDB does not answer at {text}", "Check host and port in the MongoDB URL, and that it runs."
    )


def _first_line(error: PyMongoError) -> str:
    """Return what the error says, without pymongo's appendices (timeouts, topology, the whole reply).

    A bulk write says only that there were errors: then it is what the server said of the first.
    """
    of_bulk = (error.details or {}).get("writeErrors") if isinstance(error, BulkWriteError) else None
    text = str(of_bulk[0].get("errmsg", error)) if of_bulk else str(error)
    for appendix in (", full error:", " (configured timeouts:", ", Timeout:"):
        text = text.split(appendix, 1)[0]
    return text.strip().rstrip(".:")
