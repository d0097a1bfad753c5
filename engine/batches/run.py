"""A batch from beginning to end: planned, made by its workers, and what has come of it."""

import contextlib
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nstx.export.runtime.session import physical_cores
from nstx.models.errors import NstxError
from nstx.models.printable import printable

from ..devices.device import settle
from ..devices.free_memory import free_memory
from ..gradients.choice import choose_backend
from ..jobs.ledger import Ledger
from ..jobs.records import JobRecord
from ..planning.fitting import MARGIN
from ..planning.memory_model import load_of, memory_needed
from ..settings import Settings
from .asked import AskedJob
from .fleet import Crew, Event, Fleet, FleetChoice, share_machine
from .folder import BatchFolder
from .names import check_names
from .planning import Planner

_MOST_BY_ITSELF = 8
"""Workers on a CPU, unless more are asked for."""

Together = int | Literal["auto"] | None
"""Jobs that are evaluated together: a number, ``auto`` for that which is measured to be the fastest, or None for either."""

_TYPICAL = (384, 512)  # height and width of a result whose size is not known before it is read
_CHUNK = 500  # jobs that are added at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch that was planned into the ledger of its folder.

    Attributes:
        names: of its results, in the order in which they were asked for.
        fingerprints: of its jobs, by their names.
        missing: how many are to be made.
        other: results that are there, and not as they were made: they stay, even if another is asked for.
    """

    folder: BatchFolder
    names: tuple[str, ...]
    fingerprints: Mapping[str, str]
    missing: int
    other: tuple[str, ...]

    def records(self) -> Iterator[JobRecord]:
        """Yield what is known of each job, in the order in which they came to the ledger."""
        names = set(self.names)
        with Ledger(self.folder.ledger) as ledger:
            yield from (record for record in ledger if record.id in names)

    def run(
        self,
        choice: FleetChoice,
        take: Callable[[Event], None],
        crew: Callable[[BatchFolder, FleetChoice], Crew[Any]] = Fleet,
    ) -> None:
        """Make what is missing by a crew, and have each event taken; errors as `Crew.run`.

        What ends ``take`` by an exception ends the batch: what runs waits again, or goes on from its checkpoint.
        """
        with contextlib.closing(self.events(choice, crew)) as events:
            for event in events:
                take(event)

    def events(
        self, choice: FleetChoice, crew: Callable[[BatchFolder, FleetChoice], Crew[Any]] = Fleet
    ) -> Generator[Event, None, None]:
        """Yield what workers tell as they make what is missing, as `run` does; closing it ends the batch."""
        events = crew(self.folder, choice).run()
        try:
            yield from events
        finally:
            events.close()  # type: ignore[attr-defined]
        self.folder.sweep()


def plan_batch(
    folder: BatchFolder,
    asked: Sequence[AskedJob],
    *,
    attempts: int = 3,
    planner: Planner | None = None,
    before: Batch | None = None,
) -> Batch:
    """Plan jobs into the ledger of a folder that this process has for itself; no others wait there afterwards.

    Args:
        folder: of the results.
        asked: all that is asked for.
        attempts: of a job.
        planner: which may know the files already.
        before: what was planned earlier, and is being made: only what is new or has changed is planned.

    Raises:
        UsageError: two results have one name, or one cannot be.
        OutputError: a result would replace a picture that is read, or the ledger cannot be written.
        WeightsError: there are no weights.
    """
    names = tuple(item.output for item in asked)
    check_names(names)
    for name in names:
        folder.place(name)
    folder.check_inputs(names, {path for item in asked for path in item.files})
    jobs = list((planner or Planner()).plan(asked, attempts))
    fingerprints, known = {job.id: job.fingerprint for job in jobs}, set(names)
    with Ledger(folder.ledger) as ledger:
        if before is None:
            ledger.abandon_all()
        else:
            jobs = [job for job in jobs if before.fingerprints.get(job.id) != job.fingerprint]
        other, digests = folder.look(ledger, {job.id for job in jobs})
        # What a person changed by hand is not replaced, whatever else changed.
        jobs = [job for job in jobs if job.id not in other]
        jobs = [folder.note_replaced(job, digests) for job in jobs]
        missing = sum(ledger.add(jobs[at : at + _CHUNK]) for at in range(0, len(jobs), _CHUNK))
        ledger.cancel_others(known)
    return Batch(
        folder=folder,
        names=names,
        fingerprints=fingerprints,
        missing=missing,
        other=tuple(name for name in names if name in other),
    )


def choose_fleet(
    settings: Collection[Settings],
    missing: int,
    *,
    workers: int | None = None,
    most: Together = None,
    checkpoint_every: float | None = None,
    lingers: bool = False,
) -> FleetChoice:
    """Return how jobs of these settings are made on this machine: a worker for each GPU, or core.

    There are fewer where memory is short, or jobs are. ``most`` is how many jobs a worker claims at a time: ``auto``
    is as many as are measured to be the fastest; None is ``auto`` on accelerators that keep no checkpoints, and else
    1, by which a file has the bytes of a run alone.
    """
    device = settle(choose_device(settings))
    gpus = _count_gpus() if device.is_cuda else 0
    cores = physical_cores()
    free = free_memory(swap=False)
    together = settle_together(most, not device.is_cpu and checkpoint_every is None)
    least = together or 1
    if workers is None:
        workers = gpus or 1
        if device.is_cpu:
            needed = MARGIN * least * max(map(_memory_of, settings))
            room = int(free / max(1.0, needed))
            workers = max(1, min(cores, _MOST_BY_ITSELF, room))
    if not lingers:
        workers = max(1, min(workers, -(-missing // least)))
    choice = FleetChoice(
        workers=workers,
        most=together,
        gpus=gpus,
        checkpoint_every=checkpoint_every,
        lingers=lingers,
    )
    if not device.is_cpu:
        return share_machine(choice, cores, None)
    # One alone may swap, as a run alone may; several would for one another.
    return share_machine(choice, cores, free if workers > 1 else free_memory())


def choose_device(settings: Collection[Settings]) -> str:
    """Return the device that workers of such jobs have: an accelerator, if one of them may be made by it."""
    return next((item.device for item in settings if item.device != "cpu"), "cpu")


def settle_together(most: Together, is_measured: bool) -> int | None:
    """Return how many jobs a worker claims at a time, where None stands for one, or for what is to be measured."""
    if most is None:
        return None if is_measured else 1
    return None if most == "auto" else most


def _memory_of(settings: Settings) -> int:
    """Return the bytes that a job needs; 0 of one that cannot be made here, which it will say itself."""
    long_side = settings.size or max(settings.width or 0, settings.height or 0)
    size = long_side * _TYPICAL[0] // _TYPICAL[1], long_side
    try:
        return memory_needed(load_of(settings, size, choose_backend(settings, size)))
    except NstxError:
        return 0


def _count_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def describe_record(record: JobRecord) -> dict[str, Any]:
    """Return a job as plain data: for ``--json``, and a line of an export."""
    seconds = None
    if record.started is not None and record.ended is not None:
        seconds = round(record.ended - record.started, 3)
    request = record.request
    settings = request.get("settings", {})
    return {
        "output": record.id,
        "state": record.state,
        "content": request.get("content"),
        "styles": request.get("styles"),
        **({} if request.get("targets") is None else {"targets": request["targets"]}),
        "preset": settings.get("preset"),
        "attempts": record.attempts,
        "seconds": seconds,
        "sha256": record.sha256 if record.state == "succeeded" else None,
        "result": record.result if record.state == "succeeded" else None,
        "error": record.error,
        "fingerprint": record.fingerprint,
    }


def describe_other(names: Iterable[str]) -> Iterator[str]:
    """Yield, in words, which results are not as they were made."""
    for name in names:
        yield f"{printable(name)} was changed since it was made, and stays; move it away to have it made again"
