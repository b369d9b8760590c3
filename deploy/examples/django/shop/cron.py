"""The project's cron jobs. Importing this module starts nothing: shop/wsgi.py does."""

from django.contrib.auth import get_user_model
from django.db import close_old_connections

from cronexec import Cronexec, Run

cron = Cronexec.from_env()


@cron.job("count-users", every="15m")
def count_users(_run: Run) -> dict[str, int]:
    close_old_connections()  # as Django does before a request: this thread may have had its own for hours
    return {"users": get_user_model().objects.count()}
