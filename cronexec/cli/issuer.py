"""Who uses the command line."""

import getpass
import socket


def issuer() -> str:
    """Return who it is: USER@HOST."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
