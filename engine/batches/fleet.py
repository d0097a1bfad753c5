"""The workers of a batch: started, listened to, restarted when they die, and ended with whoever started them."""

import json
import os
import queue
import subprocess
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Generic, TypeVar

from nstx.models.errors import DeviceError, OutputError
from nstx.models.printable import printable

from ..jobs.ledger import Ledger
from .folder import BatchFolder
from .heart import BEAT, GRACE
from .worker import WorkerTask

Event = Mapping[str, Any]
"""What a worker tells: ``event``, ``job``, ``worker`` (its place, from 0), and what belongs to the event."""

_POLL = 0.2  # seconds
_COUNTING = 0.5  # seconds between two looks into the ledger
_ENDING = 5.0  # seconds that workers have to end by themselves when no job is left
_KILLING = 0.5  # seconds beyond their own grace, after which workers are killed
_READING = 0.5  # seconds to read what a worker that has ended wrote
_MOST_BARREN = 3  # workers in a row that die before they claim anything
_LAST_LINES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetChoice:
    """How the jobs of a batch are made.

    Attributes:
        workers: processes.
        most: jobs that each claims at a time, which are evaluated together where they can be; None has it measured
            which number is the fastest.
        threads: of each worker, for jobs that do not say; None leaves them to the library.
        max_memory: bytes of each worker, for jobs that do not say; None takes what is free.
        gpus: of CUDA, that workers are dealt to in turn; 0 without any.
        checkpoint_every: minutes from one checkpoint to the next; None keeps none.
        lingers: whether they wait for jobs that are added later, until whoever runs them ends it.
        beat: seconds from one heartbeat of a worker to the next.
        program: the module that a worker runs, as `nstx.engine.batches.worker`.
    """

    workers: int
    most: int | None = 1
    threads: int | None = None
    max_memory: int | None = None
    gpus: int = 0
    checkpoint_every: float | None = None
    lingers: bool = False
    beat: float = BEAT
    program: str = "nstx.engine.batches.worker"


@dataclass(slots=True, eq=False, kw_only=True)
class Worker:
    """What makes jobs.

    Attributes:
        place: among the workers, from 0.
        name: that no other has.
        claimed: whether it has come to claiming anything.
    """

    place: int
    name: str
    claimed: bool = False


_W = TypeVar("_W", bound=Worker)


class Crew(Generic[_W]):
    """The workers of one batch, of any kind.

    Args:
        folder: of the batch, that this process has for itself.
        choice: how many there are, of what kind.
    """

    def __init__(self, folder: BatchFolder, choice: FleetChoice) -> None:
        self._folder, self._choice = folder, choice
        self._workers: dict[int, _W] = {}
        self._events: queue.SimpleQueue[tuple[_W, Event | None]] = queue.SimpleQueue()
        self._barren = 0
        self.restarts = 0

    def run(self) -> Iterator[Event]:
        """Yield what workers tell until no job waits or runs; end them when the generator is closed.

        Between events it yields one that is ``idle`` now and then.

        Raises:
            OutputError: results cannot be written, or the ledger cannot.
            DeviceError: workers die before they have claimed anything.
        """
        with Ledger(self._folder.ledger) as ledger:
            try:
                yield from self._run(ledger)
            finally:
                self._end(ledger)

    def _run(self, ledger: Ledger) -> Iterator[Event]:
        looked = busy = 0.0
        while True:
            if time.monotonic() >= looked + _COUNTING or not self._workers:
                looked = time.monotonic()
                ledger.expire()
                counts = ledger.counts()
                self._start(counts["queued"])
                if counts["queued"] + counts["running"]:
                    busy = looked
                # One that was stopped by its owner, and lost its job, does not end by itself.
                is_over = not self._workers or looked > busy + _ENDING
                if is_over and not self._choice.lingers:
                    return
            try:
                worker, event = self._events.get(timeout=_POLL)
            except queue.Empty:
                yield {"event": "idle"}
                continue
            if event is not None:
                yield self._take(worker, event)
            elif (ended := self._bury(worker, ledger)) is not None:
                yield ended

    def _take(self, worker: _W, event: Event) -> Event:
        if event["event"] == "claimed":
            worker.claimed, self._barren = True, 0
        if event["event"] == "stuck":
            raise event.get("error") or OutputError(str(event["message"]))
        return {**event, "worker": worker.place}

    def _start(self, waiting: int) -> None:
        """Start workers where there are fewer than chosen, and than jobs that nobody has come for."""
        coming = sum(not worker.claimed for worker in self._workers.values())
        needed = -(-waiting // (self._choice.most or 1)) - coming
        for place in range(self._choice.workers):
            if needed > 0 and place not in self._workers:
                self._workers[place] = self._spawn(place)
                needed -= 1

    def _spawn(self, place: int) -> _W:
        """Start a worker, whose events come to the queue, and None after them."""
        raise NotImplementedError

    def _close(self, worker: _W) -> tuple[object, str] | None:
        """Clear up after a worker that has ended; return by what, and a word of it, if it died."""
        raise NotImplementedError

    def _end(self, ledger: Ledger) -> None:
        """End the workers; what they had waits again."""
        raise NotImplementedError

    def _bury(self, worker: _W, ledger: Ledger) -> Event | None:
        """Take a worker out that has ended; return what there is to tell of it, if it died."""
        del self._workers[worker.place]
        ending = self._close(worker)
        if ending is None:
            return None
        (code, last), shown = ending, ""
        ledger.abandon(worker.name)
        self.restarts += 1
        if not worker.claimed:
            self._barren += 1
        if self._barren >= _MOST_BARREN:
            shown = f": {printable(last)[:300]}" if last else ""
            raise DeviceError(
                f"expected workers that start, got {self._barren} that ended with {code}{shown}; "
                "try 'nstx optimize' with one of the pictures"
            )
        return {"event": "died", "worker": worker.place, "code": code, "text": last[:300]}


@dataclass(slots=True, eq=False, kw_only=True)
class _Process(Worker):
    """A process that makes jobs.

    Attributes:
        lines: the last of its stderr.
        readers: threads that read what it writes.
    """

    process: "subprocess.Popen[bytes]"
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LAST_LINES))
    readers: list[threading.Thread] = field(default_factory=list)


class Fleet(Crew[_Process]):
    """Workers that are processes of this machine."""

    def _spawn(self, place: int) -> _Process:
        choice = self._choice
        task = WorkerTask(
            folder=str(self._folder.path), name=f"{place}-{uuid.uuid4().hex}", most=choice.most,
            workers=choice.workers, threads=choice.threads, max_memory=choice.max_memory,
            checkpoint_every=choice.checkpoint_every, lingers=choice.lingers, beat=choice.beat,
        )  # fmt: skip
        environment = dict(os.environ)
        if choice.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = _gpus(environment, choice.gpus)[
                place % choice.gpus
            ]
        # A group of its own: Ctrl-C is for whoever started it, who tells it.
        process = subprocess.Popen(
            [sys.executable, "-m", choice.program, json.dumps(asdict(task))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )  # fmt: skip
        worker = _Process(place=place, name=task.name, process=process)
        worker.readers += [
            threading.Thread(target=target, args=(worker,), daemon=True)
            for target in (_keep_lines, self._listen)
        ]
        for reader in worker.readers:
            reader.start()
        return worker

    def _listen(self, worker: _Process) -> None:
        assert worker.process.stdout is not None
        for line in worker.process.stdout:
            try:
                event = json.loads(line)
            except ValueError:  # half a line of one that was killed
                continue
            self._events.put((worker, event))
        worker.process.wait()
        worker.readers[0].join(_READING)
        self._events.put((worker, None))

    def _close(self, worker: _Process) -> tuple[object, str] | None:
        _close(worker)
        code = worker.process.returncode
        last = next((line for line in reversed(worker.lines) if line.strip()), "")
        return (code, last) if code else None

    def _end(self, ledger: Ledger) -> None:
        """Ask the workers to end, and kill those that do not; what they had waits again."""
        for worker in self._workers.values():
            assert worker.process.stdin is not None
            worker.process.stdin.close()
        deadline = time.monotonic() + GRACE + _KILLING
        for worker in self._workers.values():
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            # Unless it gave them back itself.
            ledger.abandon(worker.name)
            _close(worker)
        self._workers.clear()


def _keep_lines(worker: _Process) -> None:
    assert worker.process.stderr is not None
    for line in worker.process.stderr:
        worker.lines.append(line.decode(errors="replace").rstrip())


def _close(worker: _Process) -> None:
    """Close the pipes of a worker that has ended, but for those that a child of its own may hold open."""
    process = worker.process
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.close()
    for reader, pipe in zip(worker.readers, (process.stderr, process.stdout), strict=True):
        reader.join(_READING)
        if not reader.is_alive():
            pipe.close()


def _gpus(environment: Mapping[str, str], count: int) -> Sequence[str]:
    """Return the names of the devices that this process may use."""
    visible = [name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return visible or [str(index) for index in range(count)]


def share_machine(choice: FleetChoice, cores: int, free: int | None) -> FleetChoice:
    """Return a choice with what each of its workers has of so many cores, and of the bytes of memory that are free."""
    return replace(
        choice,
        threads=max(1, cores // choice.workers),
        max_memory=None if free is None else free // choice.workers,
    )
