"""gunicorn reads this file by itself: `gunicorn shop.wsgi` in this directory."""

from typing import Any

workers = 2
graceful_timeout = 30  # longer than cronexec's shutdown_grace (25 s), so that runs may finish


def worker_exit(_server: Any, _worker: Any) -> None:
    from shop.cron import cron  # noqa: PLC0415  not in the master

    cron.stop()
