"""The driver's log, which the checker reads: what was sent, what came back, what was done to whom."""

import json
import threading
import time
from pathlib import Path
from typing import Any


class DriverLog:
    """Appends to a file; may be called from any thread."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)
        self._turn = threading.Lock()

    def write(self, event: str, *, at: float | None = None, **fields: Any) -> float:
        """Write an event; returns the instant (seconds since 1970) that it carries."""
        instant = time.time() if at is None else at
        line = json.dumps({"event": event, "at": instant, **fields}) + "\n"
        with self._turn:
            self._file.write(line)
        return instant

    def close(self) -> None:
        self._file.close()
