"""An instance of a chaos run: an `EvidentMember` that also sends commands, and prints the answers.

It has a handler that runs in a process of its own, which reads this very file again.

```
{"do": "send", "id": "…", "command": {"type": "job.pause", …}}     answered {"id": "…", "reply": {…}},
                                                       or {"id": "…", "failed": "…", "confirmed": true}
{"do": "drain", "name": "a2"}                          have that instance take nothing new
```

CHAOS_EVIDENCE names the file for the evidence (`evidence`), CHAOS_DETOURS the proxies' ports (`detour`).
"""

import json
import os
import time
from contextlib import suppress
from typing import Any

import evidence
from evident_member import EvidentMember, identity_of, open_evidence, prepare

from cronexec import Run
from cronexec.domain.command import command_from_fields, encode_command
from cronexec.errors import CronexecError, NotYetAppliedError
from cronexec.instances import Instances

WAIT = 8.0  # seconds for a reply; the driver asks again
ISOLATED = 0.2  # seconds


def isolated(run: Run) -> None:
    """Leave evidence from another process than the instance's."""
    file = open_evidence(os.environ["CHAOS_EVIDENCE"])
    try:
        os.write(file, evidence.mark("began", identity_of(run), time.time()))
        time.sleep(ISOLATED)
        os.write(file, evidence.mark("ended", identity_of(run), time.time()))
    finally:
        os.close(file)


class Member(EvidentMember):
    """The instance, and what the driver can have it do."""

    def __init__(self, evidence_file: str) -> None:
        super().__init__(evidence_file)
        self._cron.handler("isolated")(isolated)

    def obey(self, do: str, **what: Any) -> None:
        if do == "send":
            self._cron._engine.submit(self._send(what["id"], what["command"]))
        elif do == "drain":
            self._cron._engine.submit(self._drain(what["name"]))
        else:
            super().obey(do, **what)

    async def _drain(self, name: str) -> None:
        """Tell another instance to take nothing new; where that fails it is only stopped."""
        client, lost_after = self._cron._client, self._cron.settings.instance_lost_after
        store, broker = client._store, client.commands._broker
        instances = Instances(store, broker, issued_by=self._name, lost_after=lost_after)
        with suppress(CronexecError):
            await instances.drain(await instances.find(name))

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
