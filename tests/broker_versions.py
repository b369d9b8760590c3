"""A RabbitMQ of a given version, for tests and tools that need another than the machine's own.

```
with broker_of("4.3", directory, config={"consumer_timeout": "15000"}) as broker:
    broker.url, broker.version      # amqp://guest:guest@127.0.0.1:PORT/, "4.3.6"
    broker.ctl("list_queues")       # rabbitmqctl of that version
    broker.restart(), broker.kill(), broker.start()
```

`directory` gets the broker's files and is the caller's to make and remove; any number of brokers run side
by side. `make brokers` fetches what is not installed, as Debian systems in folders of `.servers`. A broker
out of such a folder runs in a `chroot`, inside a mount namespace of its own: the mounts go when its last
process does, so nothing is left, however it ends. That takes Linux and root.

From pytest, `import broker_versions` works in every test folder, and the option `--brokers 4.0,4.3` runs what
asks for the session's servers on these versions. Other programs put `tests` on their path.
"""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from cronexec.dev.errors import MissingServerError
from cronexec.dev.rabbitmq import PrivateRabbitmq, RabbitmqPrograms, installed_rabbitmq

VERSIONS = ("3.10", "4.0", "4.3")
FETCHED = Path(__file__).parent.parent / ".servers"
IN_FOLDER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
FULL_VERSION = re.compile(r"rabbitmq_server-(\d+\.\d+\.\d+)")
# The broker's directory has the same path inside, where its environment says that its files are: what it
# shares is the whole top of that path, such as /tmp, for no mount point is left over in the folder then.
ENTER = """
set -e
root=$1 shared=$2
shift 2
mkdir -p "$root/$shared"
for path in dev proc "$shared"; do mount --rbind "/$path" "$root/$path"; done
exec chroot "$root" "$@"
"""


def broker_of(
    version: str, directory: Path, *, config: Mapping[str, str] | None = None, plugins: Sequence[str] = ()
) -> PrivateRabbitmq:
    """Return a broker of `version` (such as "4.3"), not started yet.

    `config` adds to or replaces lines of rabbitmq.conf, `plugins` are enabled. Raises MissingServerError
    when that version is not here.
    """
    programs = programs_of(version, directory)
    return PrivateRabbitmq(directory, config=config, plugins=plugins, programs=programs)


def programs_of(version: str, directory: Path) -> RabbitmqPrograms:
    """Return the programs of `version`: the machine's own if they are, else those that `make brokers` got."""
    try:
        installed = installed_rabbitmq()
    except MissingServerError:
        installed = None
    if installed is not None and is_of(version, installed.server.resolve()):
        return installed
    folder = FETCHED / f"rabbitmq-{version}"
    if not any(is_of(version, path) for path in folder.glob("usr/lib/rabbitmq/lib/rabbitmq_server-*")):
        raise MissingServerError(f"RabbitMQ {version} is not here: `make brokers` gets it.")
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        raise MissingServerError(
            f"RabbitMQ {version} in {folder} runs in a chroot: one must be root on Linux."
        )
    shared = directory.absolute().parts[1]
    through = ("unshare", "--mount", "sh", "-c", ENTER, "enter", str(folder), shared)
    return RabbitmqPrograms(server=IN_FOLDER, epmd=Path("/usr/bin/epmd"), through=through)


def is_of(version: str, path: Path) -> bool:
    """Whether the path of an installation's program says that it is of `version`."""
    found = FULL_VERSION.search(str(path))
    return found is not None and f"{found[1]}.".startswith(f"{version}.")
