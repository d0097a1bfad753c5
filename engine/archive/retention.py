"""What is kept of jobs that have ended, and for how long."""

import time
from collections.abc import Collection

from ..jobs.ledger import Ledger
from ..jobs.records import FINAL, JobRecord
from .events import EventTable
from .folder import ServiceFolder, is_id, job_of
from .limits import ServiceLimits


class Retention:
    """Removes jobs that ended long ago, and the oldest where all take too much; for one thread.

    Attributes:
        kept_bytes: what was kept after the last look.
    """

    def __init__(
        self, folder: ServiceFolder, limits: ServiceLimits, ledger: Ledger, events: EventTable
    ) -> None:
        self._folder, self._limits = folder, limits
        self._ledger, self._events = ledger, events
        self.kept_bytes = 0

    def sweep(self, busy: Collection[str] = ()) -> int:
        """Remove what is too old or too much, but for jobs that a worker has not let go of; return how many jobs."""
        ended = [record for record in self._ledger if record.state in FINAL]
        ended.sort(key=lambda record: record.ended or 0.0)
        sizes = {record.id: self._folder.size(record.id) for record in ended}
        total, removed = sum(sizes.values()), 0
        oldest = time.time() - 3600 * self._limits.keep_hours
        for record in ended:
            if (record.ended or 0.0) >= oldest and total <= self._limits.keep_bytes:
                break
            if record.id not in busy:
                self._remove(record)
                total, removed = total - sizes[record.id], removed + 1
        self.kept_bytes = total
        return removed

    def reconcile(self) -> None:
        """Remove what belongs to no job, as of a request that was being taken when a service was killed."""
        known = {job_of(record.id) for record in self._ledger}
        for job in self._folder.known() - known:
            self._folder.remove_rest(job)
        self._events.remove(self._events.jobs() - known)
        for path in self._folder.batch.path.iterdir():
            if path.is_file() and is_id(path.stem) and path.stem not in known:
                path.unlink(missing_ok=True)

    def _remove(self, record: JobRecord) -> None:
        # The row first: a job that is known has its pictures.
        if self._ledger.remove(record.id):
            self._folder.remove(record.id)
            self._events.remove([job_of(record.id)])
