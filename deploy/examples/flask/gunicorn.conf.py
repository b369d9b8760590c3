"""gunicorn reads this file by itself. The master, even with preload_app, is no instance; each worker is."""

from typing import Any

workers = 4
preload_app = True
graceful_timeout = 30  # longer than cronexec's shutdown_grace (25 s), so that runs may finish


def post_worker_init(_worker: Any) -> None:
    from app import cron  # noqa: PLC0415  without preload_app, not in the master

    cron.start()


def worker_exit(_server: Any, _worker: Any) -> None:
    from app import cron  # noqa: PLC0415  as above

    cron.stop()
