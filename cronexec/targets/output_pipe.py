"""What a process prints, read by the engine through a pipe.

A slow reader slows only the process that writes. One callback reads at most 64 KiB, and a process that never
stops printing is read in portions with pauses, so that it holds neither the loop nor a core.
"""

import asyncio
import os

from cronexec.ports import OutputSink

READ_BYTES = 64 * 1024
PORTION_BYTES = 1024 * 1024
PAUSE = 0.005  # seconds
DRAIN_TIMEOUT = 1.0  # seconds to wait for output after its process ended


class OutputPipe:
    """The reading end of a command's stdout and stderr.

    `ended` resolves when nobody holds the other end any more.
    """

    def __init__(self, sink: OutputSink) -> None:
        self._loop = asyncio.get_running_loop()
        self._sink: OutputSink | None = sink
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._portion = 0
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(self._reader, self._read)

    def discard(self) -> None:
        """From now on read only so that a process left in the background can go on printing."""
        self._sink = None

    def close(self) -> None:
        if not self.ended.done():
            self._loop.remove_reader(self._reader)
            os.close(self._reader)
            self.ended.set_result(None)

    def _read(self) -> None:
        try:
            data = os.read(self._reader, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self.close()
            return
        if self._sink is not None:
            self._sink.write(data)
        self._portion += len(data)
        if self._portion >= PORTION_BYTES:
            self._portion = 0
            self._loop.remove_reader(self._reader)
            self._loop.call_later(PAUSE, self._resume)

    def _resume(self) -> None:
        if not self.ended.done():
            self._loop.add_reader(self._reader, self._read)


class OutputPipes:
    """The pipes of an instance, those included that processes in the background still hold."""

    def __init__(self) -> None:
        self._left_open: set[OutputPipe] = set()

    async def drain(self, pipe: OutputPipe) -> None:
        """Wait for the rest of the output, but not for a background process that never closes it."""
        await asyncio.wait({pipe.ended}, timeout=DRAIN_TIMEOUT)

    def leave(self, pipe: OutputPipe) -> bool:
        """Keep nothing more of what comes. Returns whether anybody could still print."""
        if pipe.ended.done():
            return False
        pipe.discard()
        self._left_open.add(pipe)
        pipe.ended.add_done_callback(lambda _: self._left_open.discard(pipe))
        return True

    def close(self) -> None:
        for pipe in list(self._left_open):
            pipe.close()
