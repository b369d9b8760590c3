"""AMQP messages on the instance's publishing connection: confirmed, and an error where no queue takes them.

The body is JSON, or text where the document says text; where it says nothing, it is the run's identity and
params. The identity is in the headers too. A publish that is cancelled before its confirm may have been
carried out.
"""

from typing import Any

from cronexec.domain.run import Outcome, RunState
from cronexec.domain.template import TemplateError
from cronexec.errors import CronexecError
from cronexec.ports import Execution, Publisher
from cronexec.targets import identity
from cronexec.targets.secrets import SecretError, Secrets
from cronexec.targets.template import Rendering

MOST_BYTES = 255  # of a short string in AMQP 0-9-1


class PublishTarget:
    """Publishes messages. The publisher belongs to whoever made it, who closes it."""

    def __init__(self, *, publisher: Publisher, secrets: Secrets) -> None:
        self._publisher = publisher
        self._secrets = secrets

    def unavailable(self, target: Any) -> str | None:  # noqa: ARG002  every instance can
        return None

    async def execute(self, execution: Execution) -> Outcome:
        target = execution.target
        rendering = Rendering(execution, self._secrets)
        try:
            exchange = rendering.text(target.exchange)
            routing_key = rendering.text(target.routing_key)
            headers = rendering.render(target.headers) | identity.headers(execution.run)
            body, content_type = _body(target.body, rendering)
        except (TemplateError, SecretError) as error:
            return rendering.failed(str(error))
        for what, text in (("exchange's name", exchange), ("routing key", routing_key)):
            if len(text.encode(errors="replace")) > MOST_BYTES:
                return rendering.failed(f"the {what} is longer than {MOST_BYTES} bytes")
        try:
            await self._publisher.publish(exchange, routing_key, body, headers, content_type=content_type)
        except CronexecError as error:
            return rendering.failed(str(error))
        return Outcome(state=RunState.SUCCEEDED)

    async def close(self) -> None:
        """Do nothing: the publisher is not ours."""


def _body(body: Any, rendering: Rendering) -> tuple[bytes, str]:
    rendered = rendering.values if body is None else rendering.render(body)
    if isinstance(rendered, str):
        return rendered.encode(), "text/plain"
    return identity.to_json(rendered).encode(), "application/json"
