"""What all commands have in common, and the texts that identify commands, triggers and runs."""

import re
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from cronexec.domain.model import DocumentModel
from cronexec.domain.problems import expected, problem

SCHEMA = 1

_KEY = r"[!-~]{1,128}"
_RUN_ID = r"[!-~]{1,300}"
_MAX_ISSUER = 256


def _matching(pattern: str, accepted: str) -> Any:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise problem(expected(accepted, text))
        return text

    return AfterValidator(check)


Key = Annotated[
    str,
    _matching(_KEY, "1 to 128 visible ASCII characters"),
    Field(json_schema_extra={"pattern": f"^{_KEY}$"}),
]
RunId = Annotated[
    str,
    _matching(_RUN_ID, "a run's id, such as close-league@2026-12-24T03:00:00Z"),
    Field(json_schema_extra={"pattern": f"^{_RUN_ID}$"}),
]


class CommandModel(DocumentModel):
    """What all commands have in common. `id`: drawn by the sender. `issued_by`: who, as the sender says."""

    types_not_yet: ClassVar[frozenset[str]] = frozenset({"gate.put", "gate.delete"})

    id: Key
    issued_by: Annotated[str, Field(max_length=_MAX_ISSUER)] | None = None

    def to_document(self) -> dict[str, Any]:
        """Return the command as it is sent, with its schema."""
        return {"schema": SCHEMA, **super().to_document()}


def is_key(text: str) -> bool:
    """Whether `text` may be the id of a command."""
    return re.fullmatch(_KEY, text) is not None
