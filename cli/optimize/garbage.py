"""When Python looks for garbage: not while libraries are loaded, and not at the end.

Importing PyTorch makes some hundred thousand objects, none of which is garbage. Python goes through all of
them again and again while it grows, and once more at the end: together that took a fifth of the process of a
short run.
"""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Keep Python from looking for garbage for the time of a block, and ever after in what it left."""
    # Only now: who asks for help loads nothing of the engine.
    from nstx.engine.devices.memory import without_collection

    with without_collection():
        try:
            yield
        finally:
            gc.freeze()
