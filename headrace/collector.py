"""Python's garbage collector, told what a fold is like.

What waits for its label is many small containers without cycles; looking through them with Python's own thresholds
costs a light model a tenth of its speed (measured).
"""

import gc


def calm_the_collector() -> None:
    """Look for cycles seldom, and never among what is there now."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
