"""What the runtime needs from the world, in the words of the domain.

Adapters implement these: real ones (`adapters.rabbitmq`, `adapters.mongo`) and in-memory ones
(`adapters.memory_…`), which pass the same contract tests. All instants are aware UTC datetimes in whole
milliseconds; slots are whole seconds; timeouts are seconds.

Every port raises `UnreachableError` when its server does not answer or does not let us in.
"""

from cronexec.domain.ledger import CloseRange, Requeue, Settle
from cronexec.ports.broker import (
    MOST_KEPT_IN_HAND,
    BatonArrived,
    Broker,
    CommandArrived,
    Link,
    LinkEvent,
    LinkLost,
    Management,
    Publisher,
    QueueDepth,
    RejectedCommand,
    TakenReject,
)
from cronexec.ports.clock import (
    Clock,
)
from cronexec.ports.outputs import (
    Growth,
    OutputStore,
)
from cronexec.ports.store import (
    MOST_ADOPTED,
    AppliedCommand,
    Batch,
    CommandStore,
    EventCount,
    Finish,
    InstanceRecord,
    InstanceStore,
    JobStore,
    Reach,
    RecordedReply,
    ReportUnreadable,
    RunFilter,
    RunStore,
    Start,
    Store,
    TermStore,
    UnreadableJob,
)
from cronexec.ports.target import (
    Execution,
    OutputSink,
    RunOutput,
    Target,
    Targets,
)

__all__ = [
    "MOST_ADOPTED",
    "MOST_KEPT_IN_HAND",
    "AppliedCommand",
    "Batch",
    "BatonArrived",
    "Broker",
    "Clock",
    "CloseRange",
    "CommandArrived",
    "CommandStore",
    "EventCount",
    "Execution",
    "Finish",
    "Growth",
    "InstanceRecord",
    "InstanceStore",
    "JobStore",
    "Link",
    "LinkEvent",
    "LinkLost",
    "Management",
    "OutputSink",
    "OutputStore",
    "Publisher",
    "QueueDepth",
    "Reach",
    "RecordedReply",
    "RejectedCommand",
    "ReportUnreadable",
    "Requeue",
    "RunFilter",
    "RunOutput",
    "RunStore",
    "Settle",
    "Start",
    "Store",
    "TakenReject",
    "Target",
    "Targets",
    "TermStore",
    "UnreadableJob",
]
