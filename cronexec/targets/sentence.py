"""Errors as the ledger can hold them: bounded, and text that UTF-8 can encode.

A file's name that is no UTF-8, or a reason phrase of a server's, comes with halves of surrogate pairs, which
the database refuses: the run would end without what was said of it.
"""

MOST = 2000  # characters


def sentence(text: str) -> str:
    """Return `text` without halves of surrogate pairs, up to 2000 characters."""
    bounded = text[:MOST]
    return bounded if bounded.isascii() else bounded.encode(errors="replace").decode()
