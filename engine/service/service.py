"""The service: jobs that strangers ask for, made by workers, and told of."""

import contextlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nstx.models.presets import PRESETS
from nstx.models.version import __version__

from ..archive import limits as fixed
from ..archive.describing import describe_job, find_picture
from ..archive.events import EventTable, JobEvent
from ..archive.folder import FORMATS, ServiceFolder, is_id
from ..archive.limits import ServiceLimits
from ..batches.fleet import FleetChoice
from ..batches.run import choose_fleet
from ..batches.together import check_counts
from ..choices import choose_settings
from ..jobs.ledger import Ledger
from ..jobs.records import FINAL, JobRecord, State
from ..settings import COLORS, INITS
from .inspection import Inspection
from .intake import Intake, find_job
from .options import FIELDS
from .refusals import Refusal
from .sent import MOST_FILES, Files
from .supervising import Observer, Supervisor

CHECKPOINT_MINUTES = 1.0
_BEAT = 1.0


class Service:
    """A service on a folder, which it has for itself from `open` to `close`; its methods may be called by any thread.

    Args:
        state: the folder, made if need be.
        limits: of what is taken and kept.
        machine: settings that belong to the machine, such as ``device`` (`nstx.engine.service.options.OF_THE_SERVER`).
        workers: processes; None chooses by the machine.
        together: jobs of one shape that a worker takes at a time. More than one are not kept as they go.
        observe: is told of jobs, as `nstx.engine.service.supervising.Observer`.

    `UsageError` of numbers of workers, and of jobs together, that are out of range.
    """

    def __init__(
        self,
        state: Path,
        limits: ServiceLimits | None = None,
        *,
        machine: Mapping[str, Any] | None = None,
        workers: int | None = None,
        together: int = 1,
        observe: Observer = lambda kind, data: None,
    ) -> None:
        check_counts(workers=workers, batch=together)
        self.limits = limits or ServiceLimits()
        self.folder = ServiceFolder(state.absolute())
        self._machine = dict(machine or {})
        self._workers, self._together, self._observe = workers, together, observe
        self._block, self._here = contextlib.ExitStack(), threading.local()
        self._inspection = Inspection()
        self._draining = threading.Event()

    def open(self) -> Self:
        """Take the folder, and begin to make what waits there.

        Raises:
            OutputError: another service has the folder, or it cannot be written.
            UsageError, DeviceError, WeightsError: the machine's settings cannot be.
        """
        self._block.enter_context(self.folder.alone())
        self._block.callback(self._inspection.close)
        self.choice = self._choose_fleet()
        self._intake = Intake(self.folder, self.limits, self._machine, self._inspection)
        self._supervisor = Supervisor(self.folder, self.choice, self.limits, self._observe)
        self._supervisor.start()
        threading.Thread(target=self._inspection.warm, daemon=True).start()
        return self

    def drain(self) -> None:
        """Take no more jobs, and have the workers keep what they do and end."""
        self._draining.set()
        self._supervisor.stop()

    def close(self) -> None:
        """End."""
        self.drain()
        self._block.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def draining(self) -> bool:
        """Whether the service is about to end."""
        return self._draining.is_set()

    @property
    def trouble(self) -> str | None:
        """Why no jobs are taken; None if they are."""
        if self.draining:
            return "stopping"
        trouble = self._supervisor.trouble
        if trouble is not None:
            return self.folder.without_paths(trouble, "")
        return "too little room on the disk" if self.folder.free < fixed.SPARE_DISK else None

    def check_open(self) -> None:
        """Raise `Refusal` if no job may be taken now, whatever it is."""
        if self.draining or not self._supervisor.has_begun.is_set():
            state = "stopping" if self.draining else "starting"
            raise Refusal(
                "unavailable",
                f"expected a server that takes jobs, got one that is {state}; try again",
                retry_after=2,
            )
        self._intake.check_queue(self._ledger)

    def submit(
        self, files: Files, options: str | None = None, key: str | None = None
    ) -> tuple[JobRecord, bool]:
        """Take a job; return it, and whether it is new: see `Intake.take`. `Refusal` if it is not taken."""
        self.check_open()
        return self._intake.take(files, options, key)

    def find(self, job: str) -> JobRecord:
        """Return a job; `Refusal` if there is none of this id."""
        record = find_job(self._ledger, job) if is_id(job) else None
        if record is None:
            raise Refusal("not-found", "expected the id of a job that is kept, got another")
        return record

    def page(self, before: int | None, most: int, state: State | None) -> Sequence[JobRecord]:
        """Return jobs before a number, the newest first."""
        return self._ledger.newest(before, most, state)

    def cancel(self, job: str) -> JobRecord:
        """Cancel a job that has not ended; return it as it then stands. `Refusal` if there is none."""
        self._ledger.cancel(self.find(job).id)
        return self.find(job)

    def picture(self, job: str) -> Path:
        """Return the file of a job's picture, whole or so far; `Refusal` if there is none."""
        record = self.find(job)
        path = find_picture(record, self.folder)
        if path is None:
            raise Refusal(
                "not-finished",
                f"expected a job with a picture, got one that is {record.state}; try its events, which say when there is one",
            )
        return path

    def shown(self, job: str, name: str) -> Path:
        """Return the file of a picture that shows how a job goes; `Refusal` if there is none."""
        path = self.folder.shown(job, name) if is_id(job) else None
        if path is None or not path.is_file():
            self.find(job)
            raise Refusal("not-found", "expected a job that has begun, got none yet; try later")
        return path

    def events(self, job: str, after: int) -> list[JobEvent]:
        """Return what happened to a job after an event of this number."""
        return self._events.after(job, after)

    def is_over(self, job: str, after: int) -> bool:
        """Return whether nothing more will happen to a job after an event of this number."""
        last = self._events.last(job)
        return last is not None and last.kind in FINAL and last.number <= after

    def describe(self, record: JobRecord) -> dict[str, Any]:
        """Return a job as plain data."""
        waits = record.state == "queued"
        ahead = self._ledger.count_before(record.number) if waits else None
        return describe_job(record, self.folder, ahead)

    def counts(self) -> dict[State, int]:
        """Return how many jobs are kept in each state."""
        return self._ledger.counts()

    def describe_service(self) -> dict[str, Any]:
        """Return what may be asked of the service, as plain data."""
        counts = self.counts()
        return {
            "version": __version__,
            "presets": list(PRESETS),
            "formats": list(FORMATS),
            "inits": list(INITS),
            "colors": list(COLORS),
            "options": list(dict.fromkeys(FIELDS)),
            "files": dict(MOST_FILES),
            "limits": {
                **asdict(self.limits),
                "max_options": fixed.MOST_OPTIONS,
                "max_parts": fixed.MOST_PARTS,
                "upload_seconds": fixed.UPLOAD_SECONDS,
            },
            "workers": self.choice.workers,
            "queue": {"queued": counts["queued"], "running": counts["running"]},
            "ready": self.trouble is None,
        }

    @property
    def _ledger(self) -> Ledger:
        """The ledger, opened for this thread."""
        if not hasattr(self._here, "ledger"):
            self._here.ledger = Ledger(self.folder.batch.ledger)
        ledger: Ledger = self._here.ledger
        return ledger

    @property
    def _events(self) -> EventTable:
        if not hasattr(self._here, "events"):
            self._here.events = EventTable(self.folder.events)
        events: EventTable = self._here.events
        return events

    def _choose_fleet(self) -> FleetChoice:
        settings = choose_settings(**self._machine)
        choice = choose_fleet(
            [settings], 1, workers=self._workers, most=self._together, lingers=True,
            checkpoint_every=CHECKPOINT_MINUTES,
        )  # fmt: skip
        return replace(choice, beat=_BEAT, program="nstx.engine.service.worker")
