"""A Ray cluster: connected to, and what there is in it. Ray is imported here alone."""

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nstx.models.errors import DeviceError, UsageError
from nstx.models.printable import printable

from ..batches.fleet import FleetChoice
from ..batches.run import Together, settle_together
from ..batches.together import MOST_COUNT

# Nothing is sent to anybody, and nothing that nodes print comes to this terminal.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS_SKIP_REGEX": ".", "RAY_BACKEND_LOG_LEVEL": "error",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class RayCluster:
    """A cluster that this process is connected to.

    Attributes:
        ray: the module.
        nodes: processors and GPUs of each node.
    """

    ray: Any
    nodes: tuple[tuple[int, int], ...]

    def choose(
        self,
        device: str,
        missing: int,
        *,
        workers: int | None = None,
        most: Together = None,
        lingers: bool = False,
    ) -> FleetChoice:
        """Return how jobs of a device are made here: a worker for each GPU, or processor, and fewer where jobs are."""
        gpus = 0 if device == "cpu" else sum(count for _, count in self.nodes)
        if device not in ("auto", "cpu") and not gpus:
            raise DeviceError(
                f"expected a cluster with GPUs for --device {device}, got one without; try --device cpu",
                setting="device",
            )
        there = gpus or sum(count for count, _ in self.nodes)
        together = settle_together(most, bool(gpus))
        count = workers or max(1, min(there, MOST_COUNT))
        if not lingers:
            count = max(1, min(count, -(-missing // (together or 1))))
        return FleetChoice(
            workers=count, most=together, threads=max(1, int(self.share(count))), gpus=gpus, lingers=lingers
        )  # fmt: skip

    def share(self, workers: int) -> float:
        """Return the processors of each of so many workers, so that all have room; less than 1 where they are few."""
        cpus = [count for count, _ in self.nodes if count]
        for share in range(max(cpus, default=1), 0, -1):
            if sum(count // share for count in cpus) >= workers:
                return share
        return max(0.01, 1 / -(-workers // max(1, sum(cpus))))


@contextlib.contextmanager
def open_cluster(address: str | None = None) -> Iterator[RayCluster]:
    """Connect to a cluster for the time of a block.

    Args:
        address: ``host:port`` of its head, or ``auto`` for one that runs on this machine; None takes what
            ``RAY_ADDRESS`` names, or that, or starts one on this machine for the time of the block.

    Raises:
        UsageError: Ray is not installed, or the address is none.
        DeviceError: the cluster cannot be reached.
    """
    if address is not None and ("://" in address or not address.strip()):
        raise UsageError(
            f"expected a cluster's address as host:port, or auto, got {printable(address)[:80]}; try 127.0.0.1:6379",
            setting="address",
        )
    ray = _load()
    is_ours = not ray.is_initialized()
    if is_ours:
        _connect(ray, address)
    try:
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        nodes = [(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in alive]
        yield RayCluster(ray, tuple(nodes))
    finally:
        if is_ours:
            ray.shutdown()


def _load() -> Any:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            "expected Ray for --executor ray, got none installed; try pip install 'nstx[ray]'",
            setting="executor",
        ) from error
    return ray


def _connect(ray: Any, address: str | None) -> None:
    logging.getLogger("ray").setLevel(logging.ERROR)
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if is_main else None
    try:
        ray.init(
            address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
        )  # fmt: skip
    except (ConnectionError, OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reason = printable(" ".join(str(error).split()))[:300]
        raise DeviceError(
            f"expected a Ray cluster that can be reached at {printable(address or 'this machine')}, got: {reason}; "
            "try 'ray start --head', and RAY_AUTH_MODE=token where it asks for a token",
            setting="address",
        ) from error
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)  # which Ray has taken
