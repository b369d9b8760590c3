"""The Flask example, with a job every second that leaves evidence."""

from app import app, cron
from evidence import leave

__all__ = ["app"]

cron.job("tick", every="1s", overlap="allow")(leave)
