"""Which release declares what, while several run side by side: a declaration by its digest.

What code declares is put when it differs, and two releases that differ would overwrite each other with every
restart. The order is that in which declarations were first seen: a job's history has them. One that was
replaced by another is the earlier one, and is not put again while any living instance declares the other.
When the last of these has gone (a rollback), it is.
"""

import hashlib
from collections.abc import Iterable

from cronexec.domain.job import Job, JobDocument, JobVersion

DIGITS = 12


def digest(document: JobDocument) -> str:
    """Return what tells a declaration from others, in few characters: equal where they mean the same."""
    return hashlib.sha256(document.to_json().encode()).hexdigest()[:DIGITS]


def was_replaced(document: JobDocument, job: Job, versions: Iterable[JobVersion]) -> bool:
    """Whether `document` was the job's before what the job's is now, which another declaration made of it."""
    if not job.declared:
        return False
    own = document.to_json()
    return any(version.version < job.version and version.document.to_json() == own for version in versions)
