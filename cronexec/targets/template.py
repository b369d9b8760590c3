"""A target's strings, ready for one run: placeholders filled in and secrets resolved, in one pass.

One pass, so that neither looks at what the other put in: a param that reads `${secret:NAME}` stays text
(whoever triggers a job cannot make it print a secret its document does not name), and a secret may have
braces in it.
"""

from collections.abc import Callable
from typing import Any

from cronexec.domain.progress_line import MESSAGE_AT_MOST
from cronexec.domain.run import Outcome, RunState
from cronexec.domain.template import render
from cronexec.ports import Execution
from cronexec.targets import identity
from cronexec.targets.output import RedactingSink
from cronexec.targets.secrets import Secrets, redact
from cronexec.targets.sentence import sentence


class Rendering:
    """Renders the strings of one execution's target, and keeps its secrets out of output and errors."""

    def __init__(self, execution: Execution, secrets: Secrets) -> None:
        self.values = identity.values(execution.run, execution.params)
        self.used: set[str] = set()
        self._execution = execution
        self._secrets = secrets

    def render(self, value: Any, *, escape: Callable[[str], str] = str) -> Any:
        """Return the rendered value. Raises TemplateError, SecretError."""
        return render(value, self.values, literal=self._literal, escape=escape)

    def text(self, value: str, *, escape: Callable[[str], str] = str) -> str:
        """Return the rendered text; a value that is no text becomes JSON.

        Raises TemplateError, SecretError.
        """
        rendered = self.render(value, escape=escape)
        return rendered if isinstance(rendered, str) else identity.to_json(rendered)

    def secret(self, name: str) -> str:
        """Return one secret, which the run's output will not show. Raises SecretError."""
        value = self._secrets.get(name)
        self.used.add(value)
        return value

    def sink(self) -> RedactingSink:
        """Return where the target prints to; to be made after everything is rendered, and closed."""
        return RedactingSink(self._execution.output, self.used)

    def report(self, done: float, total: float | None, message: str) -> None:
        """Report progress, without secrets; of a message that is cut, also without the beginning of one."""
        is_cut = len(message) >= MESSAGE_AT_MOST
        self._execution.report(done, total, redact(message, self.used, is_cut=is_cut))

    def failed(
        self,
        error: str,
        *,
        reason: str | None = None,
        status: int | None = None,
        exit_code: int | None = None,
    ) -> Outcome:
        return Outcome(
            state=RunState.FAILED,
            error=sentence(redact(error, self.used)),
            reason=reason,
            status=status,
            exit_code=exit_code,
        )

    def _literal(self, text: str) -> str:
        return self._secrets.resolve_text(text, self.used)
