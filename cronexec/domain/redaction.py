"""URLs as they may be shown: without the password."""

import re

_PASSWORD = re.compile(r"(?P<before>(?:^|//|\s)[^:/?#\s]*):(?!//)[^\s]*@")
_SECRET_IN_QUERY = re.compile(r"(?i)(?P<key>[?&][^=&#\s]*(?:password|passwd|secret|token)[^=&#\s]*)=[^&#\s]*")


def redact_url(url: str) -> str:
    """Return `url` with its password, and query values that are named as secrets, replaced by `***`.

    All up to the last `@` is taken for the password, so that neither one with a raw `@`, `:` or `/` shows nor
    one in a malformed URL; sometimes that hides more than it had to.
    """
    without_password = _PASSWORD.sub(r"\g<before>:***@", url)
    return _SECRET_IN_QUERY.sub(r"\g<key>=***", without_password)
