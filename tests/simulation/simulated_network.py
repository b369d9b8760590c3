"""The network between the instances' processes and the servers, with its delays and its cuts.

A *wire* carries what one process and one service say to each other; each direction may be cut on its own.
What is sent into a cut waits for its end, as TCP does, unless the connection is given up before.

A `Stream` is one direction of a connection and keeps the order; calls of the database are on a wire but on
no stream: pooled connections overtake each other.
"""

from collections.abc import Callable
from random import Random
from typing import Any

from simulated_loop import NOBODY, Process, SimulatedLoop

SHORTEST = 0.0003
LONGEST = 0.004


class Direction:
    """One direction of a wire."""

    def __init__(self) -> None:
        self.is_cut = False
        self.held: list[Callable[[], None]] = []


class Wire:
    def __init__(self) -> None:
        self.up = Direction()
        self.down = Direction()

    @property
    def is_whole(self) -> bool:
        return not self.up.is_cut and not self.down.is_cut


class Network:
    """`slow`: the chance that something takes up to `slowest` seconds instead of milliseconds."""

    def __init__(self, loop: SimulatedLoop, random: Random) -> None:
        self.loop = loop
        self.random = random
        self.slow = 0.0
        self.slowest = 3.0
        self._wires: dict[tuple[Process, str], Wire] = {}

    def wire(self, process: Process, service: str) -> Wire:
        key = (process, service)
        if key not in self._wires:
            self._wires[key] = Wire()
        return self._wires[key]

    def delay(self) -> float:
        dice = self.random.random()
        if dice < self.slow:
            return self.random.uniform(0.0, self.slowest)
        return SHORTEST + dice * LONGEST

    def after(self, delay: float, function: Callable[..., Any], *args: Any) -> Any:
        """Call a server's or the network's function later."""
        return self.loop.call_at(self.loop.time() + delay, function, *args, context=NOBODY)

    def in_process(self, process: Process, delay: float, function: Callable[..., Any], *args: Any) -> Any:
        """Let a process meet something later: when it is stopped by then, when it goes on."""
        return self.loop.call_at(self.loop.time() + delay, function, *args, context=process.context)

    def send(self, direction: Direction, send: Callable[[], None]) -> None:
        if direction.is_cut:
            direction.held.append(send)
        else:
            send()

    def cut(self, wire: Wire, *, up: bool, down: bool) -> None:
        wire.up.is_cut = wire.up.is_cut or up
        wire.down.is_cut = wire.down.is_cut or down

    def heal(self, wire: Wire) -> None:
        for direction in (wire.up, wire.down):
            direction.is_cut = False
            held, direction.held = direction.held, []
            for send in held:
                send()

    def reaches_all(self, process: Process) -> bool:
        """Whether nothing between this process and the servers is cut."""
        return all(wire.is_whole for (whose, _), wire in self._wires.items() if whose is process)

    def heal_all(self) -> None:
        self.slow = 0.0
        for wire in self._wires.values():
            self.heal(wire)


class Stream:
    """One direction of a connection: in order. `process`: who receives; None is a server."""

    def __init__(self, network: Network, direction: Direction, process: Process | None) -> None:
        self._network = network
        self._direction = direction
        self._process = process
        self._arrives_at = 0.0
        self.is_broken = False

    def send(self, function: Callable[..., Any], *args: Any) -> None:
        self._network.send(self._direction, lambda: self._on_its_way(function, args))

    def follow(self, other: "Stream") -> None:
        """Let nothing that is sent from now on arrive before what `other` has under way."""
        self._arrives_at = max(self._arrives_at, other._arrives_at)

    def _on_its_way(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        network = self._network
        self._arrives_at = max(self._arrives_at, network.loop.time() + network.delay())
        context = NOBODY if self._process is None else self._process.context
        network.loop.call_at(self._arrives_at, self._arrive, function, args, context=context)

    def _arrive(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if not self.is_broken:
            function(*args)
