"""A mutation: which parts are replaced while a history is lived through. No file is changed."""

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

from scenario import Scenario
from simulated_broker import SimulatedBroker
from simulated_store import SimulatedTerms

from cronexec.domain import ending
from cronexec.runtime import claims, commands, dispatcher, inbox, jobs, scheduler
from cronexec.runtime.instance import Instance


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """`terms`, `broker`, `instance`: the types to be made. `patches`: (module, name, instead).

    `is_rare`: it shows in fewer than one history in a thousand, so two thousand need not notice it.
    """

    name: str
    what: str
    terms: type[SimulatedTerms] = SimulatedTerms
    broker: type[SimulatedBroker] = SimulatedBroker
    instance: type[Instance] = Instance
    patches: tuple[tuple[Any, str, Any], ...] = ()
    is_rare: bool = False

    @contextmanager
    def applied(self) -> Iterator[None]:
        with ExitStack() as stack:
            for owner, name, value in self.patches:
                stack.enter_context(replaced(owner, name, value))
            yield

    @contextmanager
    def surroundings(self, scenario: Scenario) -> Iterator[None]:
        """Have the runtime's groups as small as the scenario says, so that few jobs fill them."""
        drawn = Random(f"ids {scenario.seed}")  # noqa: S311  to be repeatable
        with ExitStack() as stack:
            for owner, name, value in (
                (uuid, "uuid4", lambda: uuid.UUID(int=drawn.getrandbits(128), version=4)),
                (scheduler, "MOST_ENTRIES", scenario.most_entries),
                (scheduler, "OFFERED_AT_ONCE", scenario.at_once),
                (dispatcher, "MOST_AT_ONCE", scenario.at_once),
                (jobs, "COMPUTE_AT_ONCE", scenario.at_once),
                (jobs, "TAKE_AT_ONCE", scenario.at_once),
                *(
                    (module, "MOST_ENDED", scenario.at_once)
                    for module in (ending, scheduler, commands, claims)
                ),
                (inbox, "MOST_AT_ONCE", scenario.at_once),
            ):
                stack.enter_context(replaced(owner, name, value))
            yield


NOTHING = Mutation(name="nothing", what="as it is")
