"""Python's cyclic garbage collector, in processes of our own.

With the default thresholds it runs after every 700 new objects, and walks through everything that is alive,
over and over, while ten thousand runs are started at once: half of the time that this takes, and pauses of
over 100 ms on the event loop. cronexec makes few cycles, so it can be rare. An application that embeds
cronexec decides for itself; these two calls at its start are what we recommend.
"""

import gc

THRESHOLDS = (50_000, 20, 100)  # young objects; young collections; middle collections


def calm_collector() -> None:
    """Have the collector run rarely, and leave what is loaded now alone for good."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
