# ruff: noqa: INP001  a program, not a package
"""The handlers of the demo: an application of a small company, as far as its cron jobs see it.

Nothing here does real work: handlers wait, report progress, and now and then fail as the real ones do. How
long and whether is drawn from the run's id, so that the same run does the same wherever it is executed.
"""

import asyncio
import random
import time

from cronexec import AsyncCronexec, Run

cron = AsyncCronexec.from_env()


def chance(run: Run) -> random.Random:
    return random.Random(run.id)  # noqa: S311  no secret


async def work_through(run: Run, items: int, seconds: float, what: str) -> None:
    """Go through `items` in about `seconds`, reporting progress."""
    steps = min(items, max(int(seconds * 2), 1))
    for step in range(1, steps + 1):
        await asyncio.sleep(seconds / steps)
        await run.progress(items * step // steps, items, what)


@cron.handler("pair_players")
async def pair_players(run: Run) -> str:
    pairs = chance(run).randrange(1, 9)
    await asyncio.sleep(0.05 * pairs)
    return f"{pairs} pairs"


@cron.handler("import_stock")
async def import_stock(run: Run) -> str:
    articles = run.params["articles"]
    await work_through(run, articles, articles / 40, "articles")
    return f"{articles} articles"


@cron.handler("import_catalogue")
async def import_catalogue(run: Run) -> None:
    await work_through(run, 60, 20, "pictures")


@cron.handler("write_invoices")
async def write_invoices(run: Run) -> str:
    invoices = chance(run).randrange(20, 200)
    await work_through(run, invoices, 20, "invoices")
    return f"{invoices} invoices"


@cron.handler("build_report")
async def build_report(run: Run) -> str:
    seconds = chance(run).uniform(12, 40)
    for done, part in enumerate(("collecting", "adding up", "comparing", "drawing"), 1):
        await asyncio.sleep(seconds / 4)
        await run.progress(done, 4, part)
    return f"report on {run.params['report']} up to {run.slot:%H:%M}"


@cron.handler("end_games")
async def end_games(run: Run) -> str:
    await asyncio.sleep(0.2)
    return f"{chance(run).randrange(4)} games ended"


@cron.handler("index_search")
async def index_search(run: Run) -> None:
    await work_through(run, 1200, 22, "documents")


@cron.handler("rate_games")
async def rate_games(run: Run) -> None:
    await work_through(run, 90, chance(run).uniform(10, 22), "games")


@cron.handler("digest_chats")
def digest_chats(run: Run) -> str:
    """Not asynchronous: runs in a thread, and looks whether it is still wanted."""
    for club in range(1, 13):
        if run.cancelled:
            return "given up"
        time.sleep(0.25)
        run.progress(club, 12, "clubs")
    if chance(run).random() < 0.1:  # noqa: PLR2004  now and then
        raise ConnectionError("chat.rook-and-bishop.example hung up")
    return "12 clubs"
