"""How a job's document is changed when another release may have written it.

While two releases run side by side the older one may hold, and change a job (pause it, say) that the newer
one has written. What it does not know it leaves where it is, next to the document and in its parts, so no
change is a replacement: known fields are set, or removed where they say nothing, and no others are touched.
Within the job's `document` it is the domain that keeps what is ignorable (`JobDocument.parse_stored`).

A release that adds a field which others must not overlook names it in `requires`: who does not know it cannot
read the job, and leaves it to those who can.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pymongo import UpdateOne

from cronexec.domain.job_state import Pause
from cronexec.errors import FieldProblem, InvalidDocumentError

KNOWN = frozenset(
    {
        "_id",
        "document",
        "ignorable",
        "version",
        "revision",
        "from_at",
        "updated_at",
        "issued_by",
        "declared",
        "paused",
        "skip_next",
        "blackouts",
        "deleted_at",
        "expire_at",
    }
)
PARTS: Mapping[str, frozenset[str]] = {"paused": frozenset(Pause.__dataclass_fields__)}


def changed_job(document: Mapping[str, Any]) -> UpdateOne:
    """Return the write that makes a job what `document` says, and keeps what this release does not know."""
    given = dict(_flat(document))
    absent = {name: "" for name in _known(document) if name not in given}
    update = {"$set": given} | ({"$unset": absent} if absent else {})
    return UpdateOne({"_id": document["_id"]}, update, upsert=True)


def changed_version(document: Mapping[str, Any]) -> UpdateOne:
    """Return the write that closes a version, or makes one that began and ended at once."""
    fields = {name: value for name, value in document.items() if name != "_id"}
    return UpdateOne({"_id": document["_id"]}, {"$set": fields}, upsert=True)


def check_requirements(fields: Mapping[str, Any]) -> None:
    """Raise InvalidDocumentError where a newer release requires to know what this one does not."""
    if unknown := sorted(set(fields.get("requires", ())) - KNOWN):
        said = f"a newer release says that who does not know {', '.join(unknown)} must not carry it out"
        raise InvalidDocumentError([FieldProblem("requires", said)])


def _flat(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if name in PARTS:
            yield from ((f"{name}.{inner}", each) for inner, each in value.items())
        elif name != "_id":
            yield name, value


def _known(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the paths of what this release may write: a part as a whole where there is none of it now."""
    for name in KNOWN - {"_id"}:
        if name in PARTS and name in document:
            yield from (f"{name}.{inner}" for inner in PARTS[name])
        else:
            yield name
