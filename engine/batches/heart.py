"""What keeps a worker's jobs its own while it works, and lets go of them when nobody waits for it any more."""

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from nstx.models.errors import NstxError
from nstx.models.storage.leftovers import remove_leftovers

from ..jobs.ledger import Ledger
from ..jobs.records import Claim

BEAT = 10.0
"""Seconds from one heartbeat to the next, of which a lease is several."""

GRACE = 1.0
"""Seconds that a worker has to end by itself when it is asked to; an evaluation of a large picture takes longer."""

_log = logging.getLogger("nstx")


class Heart:
    """Beats for the jobs that a worker has claimed, in a thread of its own, for the time of a block.

    Args:
        ledger: the file.
        lifeline: a file that is at its end when the worker is to end, or whoever started it is dead; None without one.
        beat: seconds from one heartbeat to the next.
        end: ends the process.
    """

    def __init__(
        self,
        ledger: Path,
        lifeline: int | None = None,
        *,
        beat: float = BEAT,
        end: Callable[[int], None] = os._exit,
    ) -> None:
        self._ledger, self._lifeline, self._seconds, self._end = ledger, lifeline, beat, end
        self._claims: dict[str, Claim] = {}
        self._progress: dict[str, Mapping[str, Any]] = {}
        self._lock, self._over = threading.Lock(), threading.Event()
        self._stopping = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._beat, name="nstx-beat", daemon=True).start()
        if self._lifeline is not None:
            threading.Thread(target=self._watch, name="nstx-lifeline", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    @property
    def stopping(self) -> bool:
        """Whether the worker is to end."""
        return self._stopping.is_set()

    def rest(self, seconds: float) -> None:
        """Wait, unless the worker is to end."""
        self._stopping.wait(seconds)

    def stop(self) -> None:
        """Have the worker end."""
        self._stopping.set()

    def forget(self, jobs: Iterable[str]) -> None:
        """Have jobs lost that another worker has by now, or nobody."""
        with self._lock:
            for job in jobs:
                self._claims.pop(job, None)

    def hold(self, claims: Sequence[Claim]) -> None:
        """Beat for these jobs from now on."""
        with self._lock:
            self._claims.update({claim.id: claim for claim in claims})

    def drop(self, claim: Claim) -> None:
        """Beat no more for a job, which has ended."""
        with self._lock:
            self._claims.pop(claim.id, None)
            self._progress.pop(claim.id, None)

    def note(self, job: str, progress: Mapping[str, Any]) -> None:
        """Note how far a job is, for the next heartbeat."""
        with self._lock:
            self._progress[job] = progress

    def is_lost(self, claim: Claim) -> bool:
        """Whether a job that was held is another worker's, or canceled."""
        return self._claims.get(claim.id) != claim

    def should_stop(self, claims: Sequence[Claim]) -> bool:
        """Whether there is no use in going on with these jobs."""
        return self.stopping or all(map(self.is_lost, claims))

    def release(self) -> None:
        """Give back what is held, by a connection of this thread's own."""
        with self._lock:
            claims, self._claims = [*self._claims.values()], {}
        with Ledger(self._ledger) as ledger:
            ledger.release(claims)

    def _beat(self) -> None:
        while not self._over.wait(self._seconds):
            try:
                self._beat_once()
            except NstxError as error:
                # The lease lasts for some more heartbeats.
                _log.warning("a heartbeat was missed: %s", error)

    def _beat_once(self) -> None:
        with self._lock:
            claims, progress = [*self._claims.values()], dict(self._progress)
        if not claims:
            return
        with Ledger(self._ledger) as ledger:
            kept = ledger.beat(claims, progress)
        with self._lock:
            for claim in claims:
                if claim not in kept and self._claims.get(claim.id) == claim:
                    del self._claims[claim.id]

    def _watch(self) -> None:
        assert self._lifeline is not None
        with contextlib.suppress(OSError):
            while os.read(self._lifeline, 1024):
                pass
        self._stopping.set()
        if self._over.wait(GRACE):
            return
        try:
            with contextlib.suppress(NstxError):
                self.release()
            remove_leftovers()
        finally:
            self._end(0)
