"""URLs as they may be shown: without the password."""

import re

_USERINFO = re.compile(r"(?<=://)(?P<user>[^:/?#\s]*):(?P<password>[^/?#\s]*)@")
_SECRET_QUERY = re.compile(
    r"(?i)(?<=[?&])(?P<key>[^=&#\s]*(?:password|passwd|secret|token)[^=&#\s]*)=[^&#\s]*"
)


def redact_url(url: str) -> str:
    """Return `url` with its password, and query values that are named as secrets, replaced by `***`.

    What comes before the last `@` of the authority is taken for credentials, so that a password with a raw
    `@` or `:` does not show. Works on any text with URLs in it.
    """
    without_password = _USERINFO.sub(r"\g<user>:***@", url)
    return _SECRET_QUERY.sub(r"\g<key>=***", without_password)
