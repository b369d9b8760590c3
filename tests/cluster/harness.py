"""Several instances as real processes, which leave evidence of what they run, and faults.

What the cluster tests are written with.
"""

import os
import signal
from collections import Counter
from pathlib import Path

import members
from members import Member

MEMBER = Path(__file__).with_name("member.py")
FULL = os.environ.get("FULL") == "1"
IMPATIENT = {  # whoever is killed is known to be lost soon: what waits for that need not wait for long
    "CRONEXEC_LEASE": "5s",
    "CRONEXEC_BATON_LOST_AFTER": "8s",
    "CRONEXEC_INSTANCE_LOST_AFTER": "10s",
}
Line = tuple[str, str, int]


class Cluster(members.Cluster):
    @property
    def evidence_file(self) -> Path:
        return self.directory / "evidence"

    def start(self, name: str, *, wall_offset: float = 0.0, **variables: str) -> Member:
        return self.launch(name, MEMBER, str(self.evidence_file), str(wall_offset), **variables)

    async def kill_holder(self) -> str:
        """Kill (-9) the holder; it is not started again."""
        record = await self.holder()
        return self.kill(str(record.holder_name)).name

    def kill(self, name: str) -> Member:
        """Kill (-9) a member, and wait for its end."""
        member = self._pop(name)
        member.process.kill()
        member.process.wait()
        return member

    def terminate(self, name: str) -> Member:
        """Send SIGTERM; `ended` waits for the end."""
        member = self._pop(name)
        member.process.send_signal(signal.SIGTERM)
        return member

    def lines(self) -> Counter[Line]:
        """Return the evidence: how often each (job, slot, attempt) was run."""
        if not self.evidence_file.exists():
            return Counter()
        split = (line.split() for line in self.evidence_file.read_text().splitlines())
        return Counter((job, slot, int(attempt)) for job, slot, attempt in split)

    def _pop(self, name: str) -> Member:
        member = self.members.pop(name)
        self.dead.append(member)
        return member
