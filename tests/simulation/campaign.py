"""Many histories, on all cores: each process lives a few of them through and then ends.

A history leaves thousands of unfinished tasks behind, of processes that died in it. To take them apart would
cost more than to live them: so nothing is collected, and the process that did the work ends without a word.
"""

import contextlib
import gc
import multiprocessing
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from mutation import NOTHING, Mutation
from world import World

AT_ONCE = 20  # histories a process
_fork = multiprocessing.get_context("fork")


@dataclass(frozen=True, kw_only=True, slots=True)
class Lived:
    """What came of a history. `violation` is None if all was well."""

    seed: int
    violation: str | None
    digest: str
    seconds: float  # of made-up time
    lines: tuple[str, ...] = ()


def live(seed: int, mutation: Mutation = NOTHING, *, tell: bool = False) -> Lived:
    """Live one history through, in this process. `tell`: with its lines, and a digest of them."""
    world = World(seed, mutation)
    history = world.run()
    return Lived(
        seed=seed,
        violation=str(history.violation) if history.violation else None,
        digest=history.digest() if tell else "",
        seconds=world.loop.time(),
        lines=tuple(history.lines()) if tell else (),
    )


def apart(seed: int, mutation: Mutation = NOTHING) -> Lived:
    """Live one history through in a process of its own, and tell it."""
    reader, process = _begin(lambda: [live(seed, mutation, tell=True)])
    lived = _receive(reader)
    process.join()
    if lived is None:
        raise RuntimeError(f"the process that lived seed {seed} ended without a word")
    return lived


def campaign(
    seeds: Iterable[int], mutation: Mutation = NOTHING, *, processes: int | None = None
) -> Generator[Lived]:
    """Live the histories of all seeds, on all cores; they come as they are done, about in order."""
    groups = _grouped(seeds)
    working: dict[Any, Any] = {}
    try:
        while True:
            while len(working) < (processes or os.cpu_count() or 1) and (group := next(groups, None)):
                reader, process = _begin(lambda seeds=group: (live(seed, mutation) for seed in seeds))
                working[reader] = process
            if not working:
                return
            for reader in wait(list(working)):
                lived = _receive(reader)
                if lived is None:
                    working.pop(reader).join()
                else:
                    yield lived
    finally:
        for process in working.values():
            process.kill()
            process.join()


def first_failure(seeds: range, mutation: Mutation, processes: int | None = None) -> Lived | None:
    """Return the history of the lowest seed that fails, None if none does."""
    first: Lived | None = None
    well: set[int] = set()
    with contextlib.closing(campaign(seeds, mutation, processes=processes)) as histories:
        for lived in histories:
            if lived.violation is None:
                well.add(lived.seed)
            elif first is None or lived.seed < first.seed:
                first = lived
            if first is not None and well.issuperset(range(seeds.start, first.seed)):
                break
    return first


def _grouped(seeds: Iterable[int]) -> Iterator[list[int]]:
    group: list[int] = []
    for seed in seeds:
        group.append(seed)
        if len(group) == AT_ONCE:
            yield group
            group = []
    if group:
        yield group


def _begin(work: Callable[[], Iterable[Lived]]) -> tuple[Connection, Any]:
    reader, writer = _fork.Pipe(duplex=False)
    process = _fork.Process(target=_work, args=(work, writer), daemon=True)
    process.start()
    writer.close()
    return reader, process


def _receive(reader: Connection) -> Lived | None:
    try:
        lived: Lived = reader.recv()
    except EOFError:
        reader.close()
        return None
    return lived


def _work(work: Callable[[], Iterable[Lived]], writer: Connection) -> None:
    gc.disable()
    gc.freeze()
    for lived in work():
        writer.send(lived)
    writer.close()
    os._exit(0)  # without the last words of all that was left in the middle of something


def rate(began_at: float, done: int) -> float:
    return done / max(time.perf_counter() - began_at, 0.001)
