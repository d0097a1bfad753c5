"""A worker on a node that has neither the ledger nor the pictures: they come as bytes, and results go as bytes.

It is the worker of a local batch, with a folder and a ledger of its own in the node's temporary files.
"""

import contextlib
import logging
import os
import queue
import re
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nstx.export.runtime.session import physical_cores
from nstx.models.errors import OutputError
from nstx.models.printable import printable
from nstx.models.version import __version__

from ..batches.fleet import Event
from ..batches.folder import BatchFolder
from ..batches.heart import Heart
from ..batches.together import BatchSizes
from ..batches.worker import STEP_SECONDS
from ..devices.free_memory import free_memory
from ..jobs.ledger import Ledger
from .parcels import Parcel, unpack_job

if TYPE_CHECKING:
    from ..batches.making import Maker

ALIVE = 2.0
"""Seconds after which a worker that has nothing to tell says that it is there."""

_PREFIX = "nstx-node-"


class RemoteWorker:
    """Makes jobs of parcels, one group after the other, in a thread of its own.

    Args:
        threads: of the CPU, for jobs that do not say how many.
        shares_memory: whether main memory is shared by as many workers as there are cores for; else all is its own.
        is_measured: whether it is measured how many jobs at a time are made the fastest.
    """

    def __init__(self, threads: int, *, shares_memory: bool, is_measured: bool) -> None:
        _sweep()
        self._root = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        self._folder = BatchFolder(self._root / "results")
        self._heart = Heart(self._folder.ledger)
        self._threads = threads
        self._sizes = _ToldSizes(None if is_measured else 1, self._tell)
        share = min(1.0, threads / physical_cores())
        self._memory = int(free_memory(swap=False) * share) if shares_memory else None
        self._inbox: queue.SimpleQueue[_Group] = queue.SimpleQueue()
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._last_step = 0.0
        logger = logging.getLogger("nstx")
        logger.handlers, logger.propagate = [_Warnings(self._tell)], False
        threading.Thread(target=self._work, name="nstx-work", daemon=True).start()

    def describe(self) -> dict[str, Any]:
        """Return what is to be the same on all machines, and which process this is."""
        return {"version": __version__, "pid": os.getpid()}

    def make(
        self, parcels: Sequence[Parcel], names: Sequence[str], *files: bytes
    ) -> Iterator[Event]:
        """Make jobs of files, and yield what there is to tell, at least every few seconds, until it is ``over``.

        Of a result that is ``made``, that is the file's bytes, too. ``stuck`` and ``crashed`` are ends as well: nothing
        can be written here, or something happened that nobody foresaw.
        """
        self._inbox.put(_Group(parcels, names, files))
        while True:
            try:
                event = self._events.get(timeout=ALIVE)
            except queue.Empty:
                event = {"event": "alive"}
            yield event
            if event["event"] in ("over", "stuck", "crashed"):
                return

    def drop(self, jobs: Sequence[str]) -> None:
        """Let go of jobs that are another worker's by now, or canceled."""
        self._heart.forget(jobs)

    def close(self) -> None:
        """End what runs, and remove what is here."""
        self._heart.stop()
        shutil.rmtree(self._root, ignore_errors=True)

    def _tell(self, event: str, job: str = "", **details: Any) -> None:
        if event == "step":
            now = time.monotonic()
            if now < self._last_step + STEP_SECONDS:
                return
            self._last_step = now
        elif event == "succeeded":
            place = self._folder.place(job)
            event, details = "made", {"data": place.read_bytes(), "result": details}
            place.unlink()
        elif event == "failed":
            # Where its files are here says nothing to whoever asked for it.
            here = re.escape(f"{self._root}{os.sep}") + r"(inputs.\d+.)?"
            message = re.sub(here, "", str(details["error"]["message"]))
            details["error"] = {**details["error"], "message": message}
        self._events.put({"event": event, "job": job, **details})

    def _work(self) -> None:
        from ..batches.making import Maker

        with self._folder.alone(), Ledger(self._folder.ledger) as ledger:
            maker = Maker(
                self._folder, ledger, self._heart, self._tell, sizes=self._sizes,
                threads=self._threads, max_memory=self._memory, notes_places=False,
            )  # fmt: skip
            while not self._heart.stopping:
                group = self._inbox.get()
                try:
                    self._make(group, ledger, maker)
                except OutputError as error:
                    self._tell("stuck", message=str(error))
                except Exception as error:  # noqa: BLE001  (whoever has the ledger says what comes of it)
                    self._tell("crashed", text=f"{type(error).__name__}: {printable(error)[:300]}")
                else:
                    self._tell("over")

    def _make(self, group: "_Group", ledger: Ledger, maker: "Maker") -> None:
        ledger.cancel_others(())
        inputs = self._root / "inputs"
        try:
            for number, (name, data) in enumerate(zip(group.names, group.files, strict=True)):
                (inputs / str(number)).mkdir(parents=True)
                (inputs / str(number) / name).write_bytes(data)
            # A fingerprint of its own: what was made here before is made again.
            ledger.add(unpack_job(parcel, inputs, uuid.uuid4().hex) for parcel in group.parcels)
            claims = ledger.claim("node", len(group.parcels), kind=group.parcels[0].kind)
            self._heart.hold(claims)
            maker.make(claims)
        except OSError as error:
            raise OutputError(
                f"expected room for pictures on a node of the cluster, got: {error.strerror or error}; "
                "try free space in its temporary folder"
            ) from error
        finally:
            shutil.rmtree(inputs, ignore_errors=True)


class _Group(NamedTuple):
    """Jobs that came together, and their files."""

    parcels: Sequence[Parcel]
    names: Sequence[str]
    files: Sequence[bytes]


class _ToldSizes(BatchSizes):
    """Tells what is measured to whoever claims."""

    def __init__(self, most: int | None, tell: Any) -> None:
        super().__init__(most)
        self._tell = tell

    def note(self, kind: str, count: int, rate: float | None) -> None:
        self._tell("rate", kind=kind, count=count, rate=rate)

    def limit(self, kind: str, count: int) -> None:
        super().limit(kind, count)
        self._tell("limit", kind=kind, count=count)


class _Warnings(logging.Handler):
    """Tells of warnings."""

    def __init__(self, tell: Any) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell("warning", text=record.getMessage())


def _sweep() -> None:
    """Remove what workers have left here that were killed."""
    import psutil

    with contextlib.suppress(OSError):
        for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
            number = folder.name.removeprefix(_PREFIX).partition("-")[0]
            if number.isascii() and number.isdigit() and not psutil.pid_exists(int(number)):
                shutil.rmtree(folder, ignore_errors=True)
