"""How the engine reads what processes print: a little at a time, whatever there is."""

import asyncio
import fcntl
import os
import sys

import pytest

from cronexec.targets import output_pipe
from cronexec.targets.output_pipe import PORTION_BYTES, READ_BYTES, OutputPipe

TURNS = 2 * PORTION_BYTES // READ_BYTES


class Counter:
    """Counts what it is given."""

    def __init__(self) -> None:
        self.taken = 0

    def write(self, data: bytes | str) -> None:
        self.taken += len(data)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a pipe of another size")
async def test_a_turn_of_the_loop_reads_little_and_after_a_portion_there_is_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(output_pipe, "PAUSE", 1000.0)
    counter = Counter()
    pipe = OutputPipe(counter)
    fcntl.fcntl(pipe.writer, fcntl.F_SETPIPE_SZ, PORTION_BYTES)

    async def read_of_a_portion() -> list[int]:
        assert os.write(pipe.writer, bytes(PORTION_BYTES)) == PORTION_BYTES
        turns = []
        for _ in range(TURNS):
            before = counter.taken
            await asyncio.sleep(0)
            turns.append(counter.taken - before)
        return turns

    turns = await read_of_a_portion()
    assert max(turns) == READ_BYTES
    assert sum(turns) == PORTION_BYTES
    assert set(await read_of_a_portion()) == {0}, "it did not pause"
    os.close(pipe.writer)
    pipe.close()
