"""A worker of a service: ``python -m nstx.engine.service.worker TASK``, as `nstx.engine.batches.worker`."""

import contextlib
import os
from typing import TYPE_CHECKING

from ..batches.worker import end_worker, work

if TYPE_CHECKING:
    from ..batches.making import Maker


_NICENESS = 5


def _load() -> type["Maker"]:
    # Only when there is something to make: it loads what computes.
    from .showing import ShowingMaker

    return ShowingMaker


def _give_way() -> None:
    """Leave the processor to the server, which others wait for, where both want it."""
    with contextlib.suppress(AttributeError, OSError):  # of systems without it
        os.nice(_NICENESS)


if __name__ == "__main__":
    _give_way()
    end_worker(work(_load))
