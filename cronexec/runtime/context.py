"""What every part of an instance's runtime works with: its ports, its settings, and who it is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cronexec.domain.run import Executor
from cronexec.log import Log
from cronexec.ports import Broker, Clock, Management, Publisher, Store, Targets
from cronexec.runtime.tally import Tally
from cronexec.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Context:
    """Made once at `start()`; the parts share it. `tally` counts the warnings and errors of `log`.

    `declares`: the digests of the jobs that the application's code declares.
    """

    executor: Executor
    settings: Settings
    clock: Clock
    store: Store
    broker: Broker
    publisher: Publisher
    targets: Targets
    log: Log
    tally: Tally
    management: Management | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    declares: Callable[[], Sequence[str]] = tuple
