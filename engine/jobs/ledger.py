"""The ledger: jobs in one table, claimed by workers of any number of processes, each with a lease and a fence.

A worker that dies keeps its jobs no longer than its lease, which its heartbeats prolong. A job that is claimed again
has a larger fence, and whoever had it before can write nothing about it any more. A result is published in two
transactions: the first says which bytes they will be, the second renames the file and ends the job; so whoever claims a job
that died between them sees that its file is there, and does nothing twice. (Fencing tokens: Kleppmann 2016, "How to
do distributed locking".)
"""

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from nstx.models.errors import NstxError

from .reading import LedgerReader
from .records import Claim, NewJob, read_claim
from .table import table_errors, writing

LEASE = 60.0
"""Seconds that a worker keeps a job from one heartbeat to the next."""

_DIED = {
    "type": "WorkerDied",
    "message": "expected a worker that ends the job, got none that survived it; try it alone, or with a smaller size",
}
"""The error of a job that none of its attempts has ended."""

Most = int | Callable[[str, int], int]
"""Of jobs that are claimed at a time: a number, or what gives it by their kind and how many of it wait."""


class LostClaimError(NstxError):
    """A job that its worker has lost: the lease ran out, or it was canceled or changed."""


class Ledger(LedgerReader):
    """A ledger's file, opened for one thread, to write in it; see `LedgerReader`."""

    def add(self, jobs: Iterable[NewJob]) -> int:
        """Add jobs, and return how many of them are to be made.

        One that is there with its fingerprint stays as it is, unless it has failed or was canceled: then it is
        queued again, as is one of another fingerprint, whose result would be another. One that waits is made as it
        is asked for now: its files may have moved.
        """
        queued = 0
        with table_errors(self._path), writing(self._connection):
            for job in jobs:
                row = self._row("SELECT state, fingerprint FROM jobs WHERE id = ?", job.id)
                is_same = row is not None and row["fingerprint"] == job.fingerprint
                state = row["state"] if row is not None and is_same else None
                if state in (None, "failed", "canceled"):
                    self._put(job)
                elif state == "queued":
                    self._connection.execute(
                        "UPDATE jobs SET request = ?, kind = ?, most_attempts = ?, attempts = 0 WHERE id = ?",
                        (json.dumps(job.request), job.kind, job.attempts, job.id),
                    )
                queued += state != "succeeded"
        return queued

    def claim(
        self, worker: str, most: Most = 1, *, lease: float = LEASE, kind: str | None = None
    ) -> list[Claim]:
        """Give a worker the next jobs of one kind, oldest first, and return them; none if none waits.

        Jobs whose leases have run out wait again, or have failed where they have no attempt left. ``most`` is how many
        there are at most, or says it by the kind and how many of it wait.
        """
        with table_errors(self._path), writing(self._connection):
            now = self._now()
            self._take_back("lease < ?", now)
            if kind is None:
                first = self._row(
                    "SELECT kind FROM jobs WHERE state = 'queued' ORDER BY number LIMIT 1"
                )
                if first is None:
                    return []
                kind = first["kind"]
            if not isinstance(most, int):
                count = "SELECT count(*) FROM jobs WHERE state = 'queued' AND kind = ?"
                most = most(kind, self._connection.execute(count, (kind,)).fetchone()[0])
            waiting = self._connection.execute(
                "SELECT * FROM jobs WHERE state = 'queued' AND kind = ? ORDER BY number LIMIT ?",
                (kind, most),
            ).fetchall()
            (last,) = self._connection.execute("SELECT last FROM fences").fetchone()
            fences = range(last + 1, last + 1 + len(waiting))
            for row, fence in zip(waiting, fences, strict=True):
                self._connection.execute(
                    "UPDATE jobs SET state = 'running', worker = ?, lease = ?, fence = ?, "
                    "attempts = attempts + 1, started = ?, ended = NULL WHERE number = ?",
                    (worker, now + lease, fence, now, row["number"]),
                )
            self._connection.execute("UPDATE fences SET last = ?", (last + len(waiting),))
        return [read_claim(row, fence) for row, fence in zip(waiting, fences, strict=True)]

    def beat(
        self, claims: Sequence[Claim], progress: Mapping[str, Any] | None = None
    ) -> list[Claim]:
        """Prolong the leases of a worker's claims, and return those that it still has.

        A lease that has run out is prolonged too, if nobody has claimed the job since. ``progress`` has a note of
        some jobs, by their ids.
        """
        kept = []
        with table_errors(self._path), writing(self._connection):
            for claim in claims:
                note = (progress or {}).get(claim.id)
                if self._change(
                    claim, "lease = ?, progress = coalesce(?, progress)",
                    self._now() + LEASE, None if note is None else json.dumps(note),
                ):  # fmt: skip
                    kept.append(claim)
        return kept

    def note_checkpoint(self, claim: Claim, checkpoint: str) -> None:
        """Note what a later attempt can go on from: once it is safe on the disk. `LostClaimError` if it is lost."""
        with table_errors(self._path), writing(self._connection):
            self._change_or_raise(claim, "checkpoint = ?", checkpoint)

    def publish(
        self, claim: Claim, sha256: str, result: Mapping[str, Any], put: Callable[[], object]
    ) -> None:
        """End a job with its result.

        Args:
            claim: of the job.
            sha256: of the result's file.
            result: what is known of it, as plain data.
            put: moves the file, which is whole and safe on the disk, into its place, in no time.

        `LostClaimError` if the claim is lost: then nothing is put.
        """
        with table_errors(self._path), writing(self._connection):
            self._change_or_raise(claim, "sha256 = ?, result = ?", sha256, json.dumps(result))
        self.acknowledge(claim, put)

    def acknowledge(self, claim: Claim, put: Callable[[], object] = lambda: None) -> None:
        """End a job whose file an earlier attempt has made: its sha256 is the claim's.

        ``put`` moves it into its place, if it is not there yet. `LostClaimError` if the claim is lost: then nothing is
        put.
        """
        with table_errors(self._path), writing(self._connection):
            # Nobody can claim the job in this block.
            self._change_or_raise(claim, "lease = lease")
            put()
            self._change_or_raise(
                claim, "state = 'succeeded', lease = NULL, error = NULL, ended = ?", self._now()
            )

    def fail(self, claim: Claim, error: Mapping[str, Any], *, again: bool = False) -> bool:
        """End a job that cannot be made; ``again`` queues it once more, if it has attempts left.

        Return whether it waits again. `LostClaimError` if the claim is lost: then nothing is changed.
        """
        with table_errors(self._path), writing(self._connection):
            row = self._row("SELECT attempts, most_attempts FROM jobs WHERE id = ?", claim.id)
            state = "failed"
            if again and row is not None and row["attempts"] < row["most_attempts"]:
                state = "queued"
            ended = None if state == "queued" else self._now()
            self._change_or_raise(
                claim, "state = ?, error = ?, lease = NULL, ended = ?",
                state, json.dumps(error), ended,
            )  # fmt: skip
        return state == "queued"

    def release(self, claims: Sequence[Claim]) -> None:
        """Queue jobs again that a worker gives back, as if they had not been claimed."""
        with table_errors(self._path), writing(self._connection):
            for claim in claims:
                self._change(claim, "state = 'queued', lease = NULL, attempts = attempts - 1")

    def abandon(self, worker: str) -> None:
        """Take the jobs of a worker that has died, without waiting for their leases to run out."""
        with table_errors(self._path), writing(self._connection):
            self._take_back("worker = ?", worker)

    def abandon_all(self) -> None:
        """Take the jobs of all workers, as whoever has the ledger alone, and has not begun any yet, may do."""
        with table_errors(self._path), writing(self._connection):
            self._take_back("lease < ?", math.inf)

    def expire(self) -> None:
        """Take the jobs whose leases have run out, as a claim would; without writing anything if there are none."""
        with table_errors(self._path):
            late = "SELECT 1 FROM jobs WHERE state = 'running' AND lease < ? LIMIT 1"
            if self._row(late, self._now()) is None:
                return
        with table_errors(self._path), writing(self._connection):
            self._take_back("lease < ?", self._now())

    def cancel(self, job: str, error: Mapping[str, Any] | None = None) -> bool:
        """Cancel a job that waits or runs, or have it fail by an error; return whether it did.

        Its worker learns of it by its next heartbeat.
        """
        state = "canceled" if error is None else "failed"
        with table_errors(self._path), writing(self._connection):
            done = self._connection.execute(
                "UPDATE jobs SET state = ?, error = ?, lease = NULL, ended = ? "
                "WHERE id = ? AND state IN ('queued', 'running')",
                (state, None if error is None else json.dumps(error), self._now(), job),
            )
            return done.rowcount > 0

    def remove(self, job: str) -> bool:
        """Forget a job that has ended; return whether it was there."""
        with table_errors(self._path), writing(self._connection):
            done = self._connection.execute(
                "DELETE FROM jobs WHERE id = ? AND state IN ('succeeded', 'failed', 'canceled')",
                (job,),
            )
            return done.rowcount > 0

    def cancel_others(self, jobs: Collection[str]) -> None:
        """Cancel the jobs that wait, but for these."""
        with table_errors(self._path), writing(self._connection):
            rows = self._connection.execute("SELECT id FROM jobs WHERE state = 'queued'").fetchall()
            others = [(self._now(), row["id"]) for row in rows if row["id"] not in jobs]
            self._connection.executemany(
                "UPDATE jobs SET state = 'canceled', ended = ? WHERE id = ?", others
            )

    def queue_again(self, job: str) -> None:
        """Queue a job once more that has ended, as when its result is gone."""
        with table_errors(self._path), writing(self._connection):
            self._connection.execute(
                "UPDATE jobs SET state = 'queued', attempts = 0, checkpoint = NULL, sha256 = NULL, progress = NULL, "
                "result = NULL, error = NULL, ended = NULL "
                "WHERE id = ? AND state IN ('succeeded', 'failed', 'canceled')",
                (job,),
            )

    def _put(self, job: NewJob) -> None:
        """Queue a new job, or an old one anew, under its number."""
        self._connection.execute(
            "INSERT INTO jobs (id, state, kind, fingerprint, request, most_attempts, created) "
            "VALUES (:id, 'queued', :kind, :fingerprint, :request, :most, :now) ON CONFLICT (id) DO UPDATE SET "
            "state = 'queued', kind = :kind, fingerprint = :fingerprint, request = :request, most_attempts = :most, "
            "attempts = 0, worker = NULL, lease = NULL, checkpoint = NULL, sha256 = NULL, progress = NULL, "
            "result = NULL, error = NULL, started = NULL, ended = NULL",
            {
                "id": job.id, "kind": job.kind, "fingerprint": job.fingerprint, "most": job.attempts,
                "request": json.dumps(job.request), "now": self._now(),
            },
        )  # fmt: skip

    def _take_back(self, condition: str, value: object) -> None:
        """Queue the running jobs of a condition again; without an attempt left they have failed."""
        self._connection.execute(
            "UPDATE jobs SET lease = NULL, "
            "state = CASE WHEN attempts < most_attempts THEN 'queued' ELSE 'failed' END, "
            "error = CASE WHEN attempts < most_attempts THEN error ELSE ? END, "
            "ended = CASE WHEN attempts < most_attempts THEN NULL ELSE ? END "
            f"WHERE state = 'running' AND {condition}",
            (json.dumps(_DIED), self._now(), value),
        )

    def _change(self, claim: Claim, change: str, *values: object) -> bool:
        """Change the row of a claim; return whether it is still its worker's."""
        done = self._connection.execute(
            f"UPDATE jobs SET {change} WHERE id = ? AND fence = ? AND state = 'running'",
            (*values, claim.id, claim.fence),
        )
        return done.rowcount > 0

    def _change_or_raise(self, claim: Claim, change: str, *values: object) -> None:
        if not self._change(claim, change, *values):
            raise LostClaimError(
                f"expected a claim that holds, got that of attempt {claim.attempt}, which was lost to another worker, "
                "or canceled; try the same command again, which makes what is missing"
            )
