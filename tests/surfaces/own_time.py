"""Time as this process gets it: what takes long on a busy machine does not, by this measure.

A thread takes short naps, and counts them. While others have the machine, a nap lasts longer and there are
fewer of them; whoever merely waits sees as many as on an idle machine.
"""

import threading
from types import TracebackType
from typing import Self

NAP = 0.02  # seconds


class OwnTime:
    """A context; `seconds` since it was entered, never more than went by."""

    def __init__(self) -> None:
        self._naps = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._nap, daemon=True)

    @property
    def seconds(self) -> float:
        return self._naps * NAP

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def _nap(self) -> None:
        while not self._is_over.wait(NAP):
            self._naps += 1
