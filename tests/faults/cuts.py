"""The ways in which a route may fail."""

from collections.abc import Callable

from chaos.proxy import Route

CUTS: dict[str, Callable[[Route], None]] = {
    "reset": Route.cut,
    "nothing passes": Route.hold,
    "nothing reaches the server": lambda route: route.hold("to_server"),
    "nothing comes back": lambda route: route.hold("to_client"),
}
