"""Jobs that are evaluated together: which can be, and how many at a time are made the fastest."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nstx.models.errors import ImageError
from nstx.models.values import check_whole, refuse

from ..jobs.records import Claim
from ..planning.fitting import most_together

if TYPE_CHECKING:
    from ..transfer.job import Job
    from ..transfer.progress import Step
    from .asked import AskedJob

MOST_COUNT = 256
"""Workers at most, and jobs that each of them evaluates together."""

_MOST_ATTEMPTS = 100
"""At a job."""

MOST = 64
"""That are tried together, where nobody says how many."""

_GAIN = 1.05
"""By which more at a time must be faster, as they take more memory."""

Ready = tuple[Claim, "AskedJob", "Job"]
"""A job that is claimed, as it was asked for and as it is prepared."""


def check_counts(**counts: Any) -> None:
    """Check ``workers``, ``batch`` and ``attempts``, as far as they are numbers; `UsageError` if one is out of range."""
    for name, value in counts.items():
        most = _MOST_ATTEMPTS if name == "attempts" else MOST_COUNT
        if value not in (None, "auto") and not 1 <= check_whole(name, value) <= most:
            raise refuse(f"1 … {most}", name, value, 1)


class BatchSizes:
    """How many jobs of a kind a worker claims at a time: as many as it is told, or as many as are the fastest.

    What is measured is the work itself: one job, then two, four, … as long as that is faster by a twentieth and
    memory holds them.

    Args:
        most: that it is told; None has it measured.
        workers: that share what waits, so that none has all of the rest.
    """

    def __init__(self, most: int | None = 1, workers: int = 1) -> None:
        self._most, self._workers = most, workers
        self._rates: dict[str, dict[int, float]] = {}
        self._limits: dict[str, int] = {}

    def choose(self, kind: str, waiting: int) -> int:
        """Return how many jobs of a kind to claim, of those that wait."""
        if self._most is not None:
            return self._most
        return max(1, min(self._fastest(kind), -(-waiting // self._workers)))

    def note(self, kind: str, count: int, rate: float | None) -> None:
        """Note how many evaluations of a picture a second there were, of so many at a time; None is not known."""
        if rate is not None:
            self._rates.setdefault(kind, {})[count] = rate

    def limit(self, kind: str, count: int) -> None:
        """Note that memory does not hold more than this of a kind."""
        self._limits[kind] = max(1, min(count, self._limits.get(kind, MOST)))

    def fit(self, claim: Claim, job: "Job") -> None:
        """Ask the model of memory how many jobs like this one it holds; on the CPU, as others are not predicted."""
        if self._most is None and claim.kind not in self._limits:
            choice = job.opened.choice
            self.limit(claim.kind, most_together(job.settings, job.sizes[-1], choice, MOST))

    def _fastest(self, kind: str) -> int:
        rates, limit = self._rates.get(kind, {}), self._limits.get(kind, MOST)
        if not rates:
            return 1
        top, largest = max(rates.values()), max(rates)
        count = min(count for count, rate in rates.items() if rate * _GAIN >= top)
        if count == largest and 2 * largest <= limit:
            count = 2 * largest
        return min(count, limit)


class Meter:
    """Counts the evaluations of runs at their last scale, from the first step there to the last, and the time."""

    def __init__(self) -> None:
        self._first: dict[int, int] = {}
        self._last: dict[int, int] = {}
        self._began = self._ended = 0.0

    def take(self, run: int, step: "Step") -> None:
        """Take a step of a run, by its number."""
        if step.scale < step.scales:
            return
        self._ended = time.perf_counter()
        if not self._first:
            self._began = self._ended
        self._first.setdefault(run, step.evaluations)
        self._last[run] = step.evaluations

    @property
    def rate(self) -> float | None:
        """Evaluations of a picture a second; None of fewer than two steps."""
        count = sum(self._last[run] - first for run, first in self._first.items())
        seconds = self._ended - self._began
        return count / seconds if count > 0 and seconds > 0 else None


def check_files(claim: Claim, job: "Job") -> None:
    """Check that a job is made of the files that it was planned with."""
    planned = claim.request.get("files")
    digests = {digest for item in job.inputs for digest in (item.sha256, item.mask_sha256)}
    now = sorted(digest for digest in digests if digest is not None)
    if planned is not None and planned != now:
        raise ImageError(
            "expected the pictures that the batch was planned with, got files that have changed since; "
            "try the same command again"
        )


def group_jobs(ready: Sequence[Ready]) -> list[list[Ready]]:
    """Return jobs in groups that can be one batch: of one backend and equal scales."""
    groups: dict[object, list[Ready]] = {}
    for item in ready:
        groups.setdefault((id(item[2].opened), item[2].sizes), []).append(item)
    return list(groups.values())
