"""What can go wrong before there is a server: it is not installed, or it does not come up."""


class MissingServerError(Exception):
    """A server program is not installed. The message is one sentence: what is missing and how to get it."""


class ServerStartError(Exception):
    """A server was started and did not become ready. The message quotes the tail of its log."""
