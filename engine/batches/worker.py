"""A worker of a batch: ``python -m nstx.engine.batches.worker TASK``.

TASK has the fields of `WorkerTask` as JSON. Lines of JSON on stdout tell what becomes of its jobs; it ends when nothing
waits, or when its standard input does, as that of a child of a dead process.
"""

import contextlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstx.models.errors import NstxError, OutputError

from ..jobs.ledger import Ledger
from .folder import BatchFolder
from .heart import BEAT, Heart
from .together import BatchSizes

if TYPE_CHECKING:
    from .making import Maker

STEP_SECONDS = 0.2
"""From one line about a step to the next."""

_LINGER = 0.5
"""Seconds from one look for further jobs to the next."""

UNFORESEEN = 70
"""The exit code of a worker that met what nobody foresaw, whose job may be tried again by another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTask:
    """What a worker has to do.

    Attributes:
        folder: of the batch.
        name: that no other worker has.
        most: jobs that it claims at a time; None has it measured which number is the fastest.
        workers: that share what waits.
        threads: of the CPU, for jobs that do not say; None leaves it to the library.
        max_memory: bytes of main memory, for jobs that do not say; None takes what is free.
        checkpoint_every: minutes from one checkpoint to the next; None keeps none.
        lingers: whether it waits for further jobs, until it is to end.
        beat: seconds from one heartbeat to the next, by which it learns that a job was canceled.
    """

    folder: str
    name: str
    most: int | None = 1
    workers: int = 1
    threads: int | None = None
    max_memory: int | None = None
    checkpoint_every: float | None = None
    lingers: bool = False
    beat: float = BEAT


class _Lines(logging.Handler):
    """Writes lines of JSON, of any thread's, one of a job's steps now and then; a handler of warnings, too."""

    def __init__(self, handle: int) -> None:
        super().__init__(logging.WARNING)
        self._handle, self._writing = handle, threading.Lock()
        self._last = 0.0

    def __call__(self, event: str, job: str = "", **details: Any) -> None:
        if event == "step":
            now = time.monotonic()
            if now < self._last + STEP_SECONDS:
                return
            self._last = now
        data = (json.dumps({"event": event, "job": job, **details}) + "\n").encode()
        # Where nobody listens any more, the lifeline ends the worker.
        with self._writing, contextlib.suppress(OSError):
            while data:
                data = data[os.write(self._handle, data) :]

    def emit(self, record: logging.LogRecord) -> None:
        self("warning", text=record.getMessage())


def run_worker(
    task: WorkerTask,
    tell: _Lines,
    heart: Heart,
    load: Callable[[], type["Maker"]] | None = None,
) -> int:
    """Make jobs until none waits, or the worker is to end; return the exit code.

    ``load`` returns what makes them, if another than `Maker`.
    """
    folder = BatchFolder(Path(task.folder))
    sizes = BatchSizes(task.most, task.workers)
    with Ledger(folder.ledger) as ledger, heart:
        maker = None
        while not heart.stopping:
            claims = ledger.claim(task.name, sizes.choose)
            if not claims:
                if not task.lingers:
                    break
                heart.rest(_LINGER)
                continue
            heart.hold(claims)
            tell("claimed", claims[0].id, pid=os.getpid())
            if maker is None:
                # Only now: it loads what computes.
                maker = (load or _load)()(
                    folder, ledger, heart, tell, sizes=sizes,
                    threads=task.threads, max_memory=task.max_memory, checkpoint_every=task.checkpoint_every,
                )  # fmt: skip
            try:
                maker.make(claims)
            except OutputError:
                heart.release()  # no job's fault
                raise
            # After anything else the attempts count, as those of a worker that died.
            if heart.stopping:
                heart.release()
    return 0


def _load() -> type["Maker"]:
    from .making import Maker

    return Maker


def work(load: Callable[[], type["Maker"]] | None = None) -> int:
    """Do what the command line of this process says, and return the exit code; ``load`` as of `run_worker`."""
    # What libraries print goes where errors go.
    handle = os.dup(1)
    os.dup2(2, 1)
    tell = _Lines(handle)
    logger = logging.getLogger("nstx")
    logger.handlers, logger.propagate = [tell], False
    task = WorkerTask(**json.loads(sys.argv[1]))
    heart = Heart(BatchFolder(Path(task.folder)).ledger, lifeline=0, beat=task.beat)
    try:
        return run_worker(task, tell, heart, load)
    except NstxError as error:
        tell("stuck", message=str(error))
        return 7 if isinstance(error, OutputError) else 2
    except Exception:  # noqa: BLE001  (a process says how it ends)
        import traceback

        traceback.print_exc()
        return UNFORESEEN


def end_worker(code: int) -> None:
    """End this process: the system takes memory and devices apart faster than Python does."""
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    end_worker(work())
