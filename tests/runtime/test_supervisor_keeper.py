"""What a keeper does at instants that are hard to meet from outside."""

import subprocess
import sys

import pytest
from patience import PATIENCE

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")

LEADS_ITS_GROUP_BETWEEN_TWO_LOOKS = """
import os, signal, socket
from cronexec.supervisor import keeper

go, lead = os.pipe()
led, tell = os.pipe()
child = os.fork()
if child == 0:
    signal.alarm(20)
    os.read(go, 1)
    os.setsid()
    os.write(tell, b"!")
    while True: signal.pause()

signal_group = keeper.signal_group

def slowly(group, number):
    reached = signal_group(group, number)
    os.write(lead, b"!")
    os.read(led, 1)
    return reached

keeper.signal_group = slowly
tested = keeper.Keeper(socket.socketpair()[0])
tested.pid = child
tested._signal(signal.SIGTERM)
print(signal.Signals(os.WTERMSIG(os.waitpid(child, 0)[1])).name)
"""


def test_a_process_that_begins_to_lead_its_group_while_it_is_stopped_gets_the_signal() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LEADS_ITS_GROUP_BETWEEN_TWO_LOOKS],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stdout.strip() == "SIGTERM", done
