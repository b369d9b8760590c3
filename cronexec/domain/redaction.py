"""URLs as they may be shown: without the password.

What is shown may come from outside, so the patterns are such that no text takes long.
"""

import re

_WORD = re.compile(r"\S+")
_BEFORE_PASSWORD = re.compile(r"(?:^|//)[^:/?#]*:(?!//)")
_SECRET_IN_QUERY = re.compile(
    r"(?P<key>[?&](?=[^=&?#\s]*(?:password|passwd|secret|token))[^=&?#\s]*)=[^&#\s]*", re.IGNORECASE
)


def redact_url(url: str) -> str:
    """Return `url` with its password, and query values that are named as secrets, replaced by `***`.

    All up to the last `@` is taken for the password, so that neither one with a raw `@`, `:` or `/` shows nor
    one in a malformed URL; sometimes that hides more than it had to. In a longer text, every URL is redacted.
    """
    return _SECRET_IN_QUERY.sub(r"\g<key>=***", _WORD.sub(_without_password, url))


def _without_password(word: re.Match[str]) -> str:
    before, at, after = word[0].rpartition("@")
    password = _BEFORE_PASSWORD.search(before)
    return f"{before[: password.end()]}***{at}{after}" if password else word[0]
