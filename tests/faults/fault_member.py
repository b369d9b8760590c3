"""An instance on a stage: an `EvidentMember` that also comes to harm at a point, exactly.

```
{"do": "arm", "point": "in_transaction", "then": "freeze", "times": 1}     see `fault_points`
{"do": "go"}                                       what waits at a point goes on
```

FAULT_EVIDENCE names the file for the evidence (`chaos.evidence`), FAULT_DETOURS the ports of the proxies.
"""

import os
import time
from typing import Any

from evident_member import EvidentMember, prepare
from fault_points import Points

from cronexec import Run


class Member(EvidentMember):
    def __init__(self, evidence_file: str) -> None:
        super().__init__(evidence_file)
        self._points = Points()
        self._points.install()

        @self._cron.handler("blocking")
        async def blocking(run: Run) -> None:
            self.leave(run)
            time.sleep(float(run.params["seconds"]))  # noqa: ASYNC251  the fault that is tested

    def obey(self, do: str, **what: Any) -> None:
        match do:
            case "arm":
                self._points.arm(**what)
            case "go":
                self._points.go()
            case _:
                super().obey(do, **what)


if __name__ == "__main__":
    prepare(os.environ["FAULT_DETOURS"])
    Member(os.environ["FAULT_EVIDENCE"]).run()
