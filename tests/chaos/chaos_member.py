"""An instance of a chaos run: an `EvidentMember` that also sends commands, and prints the answers.

```
{"do": "send", "id": "…", "command": {"type": "job.pause", …}}     answered {"id": "…", "reply": {…}},
                                                       or {"id": "…", "failed": "…", "confirmed": true}
```

CHAOS_EVIDENCE names the file for the evidence (`evidence`), CHAOS_DETOURS the proxies' ports (`detour`).
"""

import json
import os
from typing import Any

from evident_member import EvidentMember, prepare

from cronexec.domain.command import command_from_fields, encode_command
from cronexec.errors import CronexecError, NotYetAppliedError

WAIT = 8.0  # seconds for a reply; the driver asks again


class Member(EvidentMember):
    """The instance, and what the driver can have it do."""

    def obey(self, do: str, **what: Any) -> None:
        if do == "send":
            self._cron._engine.submit(self._send(what["id"], what["command"]))
        else:
            super().obey(do, **what)

    async def _send(self, command_id: str, fields: dict[str, Any]) -> None:
        command = command_from_fields({**fields, "id": command_id, "issued_by": self._name})
        broker = self._cron._client.commands._broker
        try:
            reply = await broker.request(encode_command(command), command_id=command_id, wait=WAIT)
        except NotYetAppliedError as error:
            answer: dict[str, Any] = {"failed": str(error), "confirmed": error.confirmed}
        except CronexecError as error:
            answer = {"failed": str(error), "confirmed": False}
        else:
            answer = {"reply": reply}
        print(json.dumps({"id": command_id} | answer), flush=True)  # noqa: T201  the answer


if __name__ == "__main__":
    prepare(os.environ["CHAOS_DETOURS"])
    Member(os.environ["CHAOS_EVIDENCE"]).run()
