"""What the receiver of a webhook says when it answered 202 and goes on: progress, lines of log, and the end.

`{"progress": {"done": 2, "total": 5, "message": "matches"}, "log": "…", "finish": {"state": "succeeded"}}`:
any of the three, several at a time. An unknown field is refused, as in every document.
"""

import json
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, StrictStr, ValidationError, model_validator

from cronexec.domain.model import DocumentModel
from cronexec.domain.problems import expected, invalid_document, problem
from cronexec.domain.progress_line import INT64, MESSAGE_AT_MOST

MOST_BYTES = 64 * 1024
MOST_ERROR = 2000  # characters


def _read_number(given: object) -> float:
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not is_number or not -INT64 <= given < INT64:  # type: ignore[operator]
        raise problem(expected("a number", given))
    return given  # type: ignore[return-value]


def _read_text(given: object) -> object:
    """Replace what UTF-8 cannot encode: half of a surrogate pair."""
    return given.encode(errors="replace").decode() if isinstance(given, str) else given


Number = Annotated[int | float, BeforeValidator(_read_number)]
Text = Annotated[StrictStr, BeforeValidator(_read_text)]


class CallbackProgress(DocumentModel):
    """How far the work is; `total` where that is known."""

    done: Number
    total: Number | None = None
    message: Annotated[Text, Field(max_length=MESSAGE_AT_MOST)] = ""


class CallbackFinish(DocumentModel):
    """How the work ended. `error`: a sentence, of one that failed."""

    state: Literal["succeeded", "failed"]
    error: Annotated[Text, Field(max_length=MOST_ERROR)] | None = None


class CallbackReport(DocumentModel):
    """One report."""

    progress: CallbackProgress | None = None
    log: Text | None = None
    finish: CallbackFinish | None = None

    @classmethod
    def read(cls, body: bytes) -> Self:
        """Read the body of a request. Raises InvalidDocumentError, and ValueError where it is no JSON."""
        try:
            return cls.model_validate(json.loads(body))
        except ValidationError as error:
            raise invalid_document(error, cls) from None

    @model_validator(mode="after")
    def _refuse_nothing(self) -> Self:
        if self.progress is None and self.log is None and self.finish is None:
            raise problem("expected progress, log or finish; got none of them")
        return self
