"""A worker of a service: ``python -m nstx.engine.service.worker TASK``, as `nstx.engine.batches.worker`."""

from typing import TYPE_CHECKING

from ..batches.worker import end_worker, work

if TYPE_CHECKING:
    from ..batches.making import Maker


def _load() -> type["Maker"]:
    # Only when there is something to make: it loads what computes.
    from .showing import ShowingMaker

    return ShowingMaker


if __name__ == "__main__":
    end_worker(work(_load))
