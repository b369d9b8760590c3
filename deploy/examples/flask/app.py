"""Flask with cron jobs; `gunicorn app:app` in this directory starts it as gunicorn.conf.py says.

CRONEXEC_AMQP_URL and CRONEXEC_MONGO_URL name the servers. Every worker process is an instance: one of them
holds the baton and runs the jobs, any of them answers the requests below.
"""

from dataclasses import asdict

from flask import Flask
from flask.typing import ResponseReturnValue

from cronexec import Cronexec, RefusedError, Run

app = Flask(__name__)
cron = Cronexec.from_env()


@cron.job("tidy-up", every="15m", timeout="5m")
def tidy_up(run: Run) -> None:
    """Run in a thread, every 15 minutes, on one of the workers."""
    for done in range(1, 4):
        run.progress(done, 3, "folders")
    run.log.info("tidied up", folders=3)


@app.post("/jobs/<name>/trigger")
def trigger(name: str) -> ResponseReturnValue:
    try:
        return dict(cron.jobs.trigger(name)), 202
    except RefusedError as refused:
        return {"error": str(refused)}, 409


@app.get("/jobs/<name>/runs")
def runs(name: str) -> ResponseReturnValue:
    return [{"id": run.id, "state": run.state} for run in cron.runs.list(job=name, limit=20)]


@app.get("/health")
def health() -> ResponseReturnValue:
    found = cron.health()
    return asdict(found), 200 if found.ok else 503
