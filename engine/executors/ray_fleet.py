"""Workers that are actors of a Ray cluster: pictures and results go through its object store.

The ledger stays with whoever started the batch. Ray restarts no actor and tries no task again: a job whose worker died
is tried again by the ledger, which counts; and of a generator that Ray began anew, events would be lost, as it counts
by their numbers.
"""

import contextlib
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nstx.models.errors import DeviceError, NstxError, OutputError, UsageError
from nstx.models.printable import printable
from nstx.models.storage.inputs import read_input
from nstx.models.version import __version__

from ..batches.fleet import Crew, FleetChoice, Worker
from ..batches.folder import BatchFolder
from ..batches.results import acknowledge
from ..batches.together import BatchSizes
from ..jobs.ledger import Ledger, LostClaimError
from ..jobs.records import Claim
from .cluster import RayCluster
from .desk import Desk
from .parcels import pack_jobs
from .remote import RemoteWorker

_MOST_FILES = 64
"""In the object store at a time, of those that no worker has at the moment."""

_MOST_BYTES = 4 << 30  # of a file; weights in float64 are the largest
_POLL, _LINGER, _CLOSING = 0.2, 0.5, 0.5  # seconds
_PLACING = 30.0
"""Seconds after which it is said that the cluster has no room for a worker."""


@dataclass(slots=True, eq=False, kw_only=True)
class _Actor(Worker):
    """An actor that makes jobs, and the thread of this process that serves it.

    Attributes:
        actor: None before it is asked for.
        death: what ended it, if it died.
    """

    thread: threading.Thread = field(default_factory=threading.Thread)
    actor: Any = None
    death: BaseException | None = None


class RayFleet(Crew[_Actor]):
    """Workers that are actors of a cluster.

    Args:
        folder: of the batch, that this process has for itself.
        choice: of `RayCluster.choose`.
        cluster: that is open as long as they run.
    """

    def __init__(self, folder: BatchFolder, choice: FleetChoice, cluster: RayCluster) -> None:
        super().__init__(folder, choice)
        self._cluster, self._ray = cluster, cluster.ray
        self._over = threading.Event()
        self._files: OrderedDict[tuple[Path, int, int], Any] = OrderedDict()
        self._lock = threading.Lock()
        self._class = self._ray.remote(RemoteWorker).options(
            num_cpus=cluster.share(choice.workers), num_gpus=1 if choice.gpus else 0,
            max_restarts=0, max_task_retries=0, max_concurrency=4,
        )  # fmt: skip

    def _spawn(self, place: int) -> _Actor:
        worker = _Actor(place=place, name=f"ray-{place}-{uuid.uuid4().hex}")
        worker.thread = threading.Thread(target=self._serve, args=(worker,), daemon=True)
        worker.thread.start()
        return worker

    def _close(self, worker: _Actor) -> tuple[object, str] | None:
        worker.thread.join(_POLL)
        if worker.death is None:
            return None
        lines = [line for line in str(worker.death).splitlines() if line.strip()]
        return type(worker.death).__name__, lines[0] if lines else ""

    def _end(self, ledger: Ledger) -> None:
        self._over.set()
        workers = [*self._workers.values()]
        actors = [worker.actor for worker in workers if worker.actor is not None]
        with contextlib.suppress(Exception):
            closing = [actor.close.remote() for actor in actors]
            self._ray.wait(closing, num_returns=len(closing), timeout=_CLOSING)
        for actor in actors:
            with contextlib.suppress(Exception):
                self._ray.kill(actor)
        for worker in workers:
            worker.thread.join(_CLOSING)
            ledger.abandon(worker.name)  # unless it was given back
        self._workers.clear()

    def _serve(self, worker: _Actor) -> None:
        """Serve an actor to its end, in a thread of its own."""
        try:
            with Ledger(self._folder.ledger) as ledger:
                self._work(worker, ledger)
        except NstxError as error:
            self._events.put((worker, {"event": "stuck", "error": error}))
        except Exception as error:  # noqa: BLE001  (of Ray's many kinds; the ledger has it tried again)
            worker.death = None if self._over.is_set() else error
        finally:
            self._events.put((worker, None))

    def _work(self, worker: _Actor, ledger: Ledger) -> None:
        sizes = BatchSizes(self._choice.most, self._choice.workers)
        desk = Desk(self._folder, ledger, sizes, lambda event: self._events.put((worker, event)))
        worker.actor = self._class.remote(
            self._choice.threads, shares_memory=not self._choice.gpus,
            is_measured=self._choice.most is None,
        )  # fmt: skip
        try:
            if not self._greet(worker):
                return
            while not self._over.is_set():
                claims = ledger.claim(worker.name, sizes.choose)
                if not claims and not self._choice.lingers:
                    with contextlib.suppress(Exception):
                        self._ray.get(worker.actor.close.remote(), timeout=_CLOSING)
                    return
                if not claims:
                    self._over.wait(_LINGER)
                    continue
                self._events.put((worker, {"event": "claimed", "job": claims[0].id}))
                desk.hold(claims)
                left = [item for item in claims if not self._has_it(worker, desk, item, ledger)]
                self._make(worker, desk, left)
        finally:
            if self._over.is_set():
                desk.release()
            with contextlib.suppress(Exception):
                self._ray.kill(worker.actor)

    def _greet(self, worker: _Actor) -> bool:
        """Wait for an actor to be there; return whether it is, before all is over."""
        greeting, began = worker.actor.describe.remote(), time.monotonic()
        while not self._ray.wait([greeting], timeout=_POLL)[0]:
            if self._over.is_set():
                return False
            if time.monotonic() > began + _PLACING:
                began = float("inf")
                text = (
                    f"the cluster has no room yet for worker {worker.place + 1}, which waits for it"
                )
                self._events.put((worker, {"event": "warning", "text": text}))
        version = self._ray.get(greeting)["version"]
        if version != __version__:
            raise DeviceError(
                f"expected nstx {__version__} on all nodes of the cluster, got {printable(version)}; try to install that there"
            )
        return True

    def _has_it(self, worker: _Actor, desk: Desk, claim: Claim, ledger: Ledger) -> bool:
        """Whether a claim's result is there already, of one that died before it said so; or the claim is lost."""
        try:
            if not acknowledge(self._folder, ledger, claim):
                return False
            self._events.put((worker, {"event": "succeeded", "job": claim.id}))
        except LostClaimError:
            pass
        desk.drop(claim)
        return True

    def _make(self, worker: _Actor, desk: Desk, claims: Sequence[Claim]) -> None:
        whole = []
        for claim in claims:
            try:
                for path in pack_jobs([claim])[1]:
                    self._put(path)
                whole.append(claim)
            except OutputError:
                raise
            except NstxError as error:
                desk.fail(claim, error)
        if not whole:
            return
        parcels, paths = pack_jobs(whole)
        making = worker.actor.make.options(num_returns="streaming").remote(
            parcels, [path.name for path in paths], *map(self._put, paths)
        )
        for reference in making:
            event = self._ray.get(reference)
            if event["event"] == "stuck":
                raise OutputError(event["message"])
            if event["event"] == "crashed":
                desk.release()  # the attempt of the others does not count
                raise RuntimeError(event["text"])
            if lost := desk.take(event):
                worker.actor.drop.remote(lost)

    def _put(self, path: Path) -> Any:
        """Return a file's place in the object store, where it is put if need be; `UsageError` if it cannot be read."""
        try:
            status = path.stat()
            key = path, status.st_mtime_ns, status.st_size
        except (OSError, ValueError):
            key = path, 0, 0
        with self._lock:
            if key not in self._files:
                data = read_input(path, kind="a file", most_bytes=_MOST_BYTES, error=UsageError)
                self._files[key] = self._ray.put(data)
                while len(self._files) > _MOST_FILES:
                    self._files.popitem(last=False)
            self._files.move_to_end(key)
            return self._files[key]
