"""Targets as job documents define them: what a run does."""

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Target(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WebhookTarget(_Target):
    type: Literal["webhook"] = "webhook"
    url: str
    method: str = "POST"
    headers: dict[str, str] = {}
    body: Any = None
    expect: tuple[int | str, ...] = ("2xx",)

    def expects(self, status: int) -> bool:
        return any(status == item or str(item) == f"{status // 100}xx" for item in self.expect)


class ShellTarget(_Target):
    type: Literal["shell"] = "shell"
    command: str
    env: dict[str, str] = {}
    cwd: str | None = None
    kill_after: timedelta = timedelta(seconds=10)


class HandlerTarget(_Target):
    type: Literal["handler"] = "handler"
    name: str


class PublishTarget(_Target):
    type: Literal["publish"] = "publish"
    exchange: str = ""
    routing_key: str = ""
    body: Any = None
    headers: dict[str, Any] = {}


Target = Annotated[WebhookTarget | ShellTarget | HandlerTarget | PublishTarget, Field(discriminator="type")]
