"""Has the jobs of a service made: starts workers, notes what they tell, stops what takes too long."""

import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from nstx.models.errors import NstxError
from nstx.models.printable import printable

from ..archive.describing import describe_job
from ..archive.events import EventTable
from ..archive.folder import ServiceFolder, job_of
from ..archive.limits import ServiceLimits
from ..archive.retention import Retention
from ..batches.fleet import Event, Fleet, FleetChoice
from ..jobs.ledger import Ledger
from ..jobs.records import FINAL, JobRecord

_log = logging.getLogger("nstx")

_TICK = 0.5  # seconds from one look at what runs to the next
_SWEEP = 60.0
_PATIENCE = 5.0  # seconds that workers have to keep what they do
_ORPHANS = 3.0  # seconds that workers of a service that was killed have to give back their jobs
_LETTING_GO = 10.0  # seconds after which a canceled job's worker is not waited for
_RECENT = 50  # jobs that ended otherwise than well, of which it is looked whether that was told
_BACK_OFF = (1.0, 5.0, 15.0, 60.0)

Observer = Callable[[str, Mapping[str, Any]], None]
"""Is told of jobs as `Supervisor` sees them: ``begun``, ``step``, ``ended`` and ``died``, with data."""


class Supervisor:
    """A thread that runs the workers of a service, and writes what happens.

    Args:
        folder: of the service, that this process has for itself.
        choice: of workers.
        limits: of time, and of what is kept.
        observe: is told of everything, in that thread.

    Attributes:
        trouble: why no jobs are made just now; None if they are.
        has_begun: set once what a service before has left is looked through; until then no job may be taken.
    """

    def __init__(
        self, folder: ServiceFolder, choice: FleetChoice, limits: ServiceLimits, observe: Observer
    ) -> None:
        self._folder, self._choice, self._limits = folder, choice, limits
        self._observe = observe
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nstx-supervisor", daemon=True)
        self._active: dict[str, int] = {}
        self._let_go: dict[str, float] = {}
        self._steps: dict[str, float] = {}
        self._looked = self._swept = 0.0
        self.trouble: str | None = "starting"
        self.has_begun = threading.Event()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Have the workers keep what they do, and end."""
        self._stopping.set()
        self._thread.join(_PATIENCE)

    def _run(self) -> None:
        failures = 0
        with Ledger(self._folder.batch.ledger) as ledger:
            self._ledger, self._events = ledger, EventTable(self._folder.events)
            self._retention = Retention(self._folder, self._limits, ledger, self._events)
            try:
                self._begin()
                while not self._stopping.is_set():
                    began = time.monotonic()
                    try:
                        self._supervise()
                    except NstxError as error:
                        self.trouble = str(error)
                        _log.warning("no jobs are made: %s", error)
                    failures = 0 if time.monotonic() > began + _BACK_OFF[-1] else failures + 1
                    self._stopping.wait(_BACK_OFF[min(failures, len(_BACK_OFF)) - 1])
            finally:
                self._events.close()

    def _begin(self) -> None:
        """Wait for workers of a service that was killed, which give back their jobs; take those of dead ones."""
        deadline = time.monotonic() + _ORPHANS
        while self._ledger.counts()["running"] and time.monotonic() < deadline:
            self._stopping.wait(0.1)
        self._ledger.abandon_all()
        self._retention.reconcile()
        for record in self._ledger:
            self._tell_state(record)
        self.has_begun.set()

    def _supervise(self) -> None:
        events = Fleet(self._folder.batch, self._choice).run()
        try:
            for event in events:
                self.trouble = None
                if self._stopping.is_set():
                    return
                self._take(event)
                if time.monotonic() > self._looked + _TICK:
                    self._looked = time.monotonic()
                    self._look()
        finally:
            events.close()  # type: ignore[attr-defined]
            for name in list(self._active):
                self._drop(name)

    def _take(self, event: Event) -> None:
        kind, name = event["event"], str(event.get("job", ""))
        if kind == "begun":
            self._active[name] = event["worker"]
            self._steps[name] = time.monotonic()
            self._note(name, "status", {"status": "running"})
            self._observe("begun", event)
        elif kind == "step":
            now = time.monotonic()
            seconds = now - self._steps.get(name, now)
            self._steps[name] = now
            self._note(name, "step", {key: event[key] for key in ("step", "steps", "cost")})
            self._observe("step", {**event, "seconds": seconds})
        elif kind == "shown":
            url = f"/v1/jobs/{job_of(name)}/preview?step={event['step']}"
            self._note(name, "preview", {"step": event["step"], "url": url})
        elif kind in ("succeeded", "failed", "let_go"):
            self._drop(name)
        elif kind == "died":
            self._observe("died", event)
            _log.warning("a worker ended with %s: %s", event["code"], printable(event["text"]))
            for job in [job for job, worker in self._active.items() if worker == event["worker"]]:
                self._drop(job)
        elif kind == "warning":
            _log.warning("%s", printable(event["text"]))

    def _drop(self, name: str) -> None:
        """Take note that no worker has a job any more, and tell how it stands."""
        self._active.pop(name, None)
        self._let_go.pop(name, None)
        self._steps.pop(name, None)
        record = self._ledger.find(name)
        if record is not None:
            self._tell_state(record)

    def _tell_state(self, record: JobRecord) -> None:
        """Tell how a job stands that no worker has, if that is news."""
        job = job_of(record.id)
        last = self._events.last(job)
        if record.state in FINAL:
            if last is None or last.kind not in FINAL:
                self._folder.remove_uploads(job)
                self._note(record.id, record.state, describe_job(record, self._folder, None))
                self._observe("ended", _ended(record))
        elif last is None or last.data.get("status", "running") != record.state:
            self._note(record.id, "status", {"status": record.state})

    def _look(self) -> None:
        """Stop what takes too long; tell of jobs that were canceled; remove what is too old."""
        now, clock = time.time(), time.monotonic()
        for record in self._ledger.page(state="running"):
            if record.started is not None and now > record.started + self._limits.max_seconds:
                message = f"expected a job of at most {self._limits.max_seconds:g} seconds, got a longer one; try a smaller size"
                self._ledger.cancel(record.id, {"type": "TimeLimit", "message": message})
        recent = [
            self._ledger.newest(most=_RECENT, state=state) for state in ("canceled", "failed")
        ]
        for record in [*itertools.chain(*recent), *self._stopped()]:
            waits = record.id in self._active
            if waits and clock < self._let_go.setdefault(record.id, clock) + _LETTING_GO:
                continue
            self._active.pop(record.id, None)
            self._tell_state(record)
        if clock > self._swept + _SWEEP:
            self._swept = clock
            self._retention.sweep(set(self._active))

    def _stopped(self) -> list[JobRecord]:
        """Return active jobs that have ended otherwise than by their worker."""
        records = [self._ledger.find(name) for name in self._active]
        return [record for record in records if record is not None and record.state in FINAL]

    def _note(self, name: str, kind: str, data: Mapping[str, Any]) -> None:
        self._events.append([(job_of(name), kind, data)])


def _ended(record: JobRecord) -> dict[str, Any]:
    seconds = None
    if record.started is not None and record.ended is not None:
        seconds = record.ended - record.started
    return {"status": record.state, "seconds": seconds}
