"""What a ledger says of its jobs: what is asked for, where it stands, and who has it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from sqlite3 import Row
from typing import Any, Literal, get_args

from nstx.models.errors import UsageError
from nstx.models.printable import printable
from nstx.models.storage.plain_data import parse_json

State = Literal["queued", "running", "succeeded", "failed", "canceled"]
STATES: tuple[State, ...] = get_args(State)
"""Of a job."""

FINAL: tuple[State, ...] = ("succeeded", "failed", "canceled")
"""States that a job stays in, and the last events of one."""

LONGEST_ID = 1024
"""Characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """What is asked for.

    Attributes:
        id: a name that no other job of the ledger has.
        kind: jobs of one kind may be claimed together, such as those of one size and objective.
        fingerprint: of all that the result follows from; a job of another one is another job.
        request: what a worker needs to know, as plain data.
        attempts: claims after which a job that its workers did not survive has failed.
    """

    id: str
    kind: str
    fingerprint: str
    request: Mapping[str, Any] = field(default_factory=dict)
    attempts: int = 3

    def __post_init__(self) -> None:
        if not 1 <= len(self.id) <= LONGEST_ID:
            raise UsageError(
                f"expected a job's id of 1 … {LONGEST_ID} characters, got {len(self.id)}; try a shorter one"
            )
        if self.attempts < 1:
            raise UsageError(
                f"expected 1 or more attempts at {printable(self.id)[:80]}, got {self.attempts}; try 3"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A job that a worker has for itself, until it is finished, failed or released, or the lease runs out.

    Attributes:
        fence: larger than that of every earlier claim of the ledger. Whoever had the job before has a smaller one,
            and can write nothing about it any more.
        attempt: the number of this claim among the job's own, from 1.
        checkpoint: what an earlier attempt has noted, to go on from; None if nothing.
        sha256: of a result that an earlier attempt was about to publish; None if none was.
    """

    id: str
    fence: int
    attempt: int
    kind: str
    fingerprint: str
    request: Mapping[str, Any]
    checkpoint: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A job as it stands.

    Attributes:
        number: in the order in which jobs came, from 1.
        attempts: claims so far, those that were released not counted.
        worker: who has it, or had it last.
        progress: what its worker has noted of it last; None if nothing.
        sha256: of its file, if it is known; of one that succeeded it is.
        result: of one that succeeded.
        error: of one that failed: its type and message.
        created: seconds since 1970, as ``started`` and ``ended``; None if it has not come to that.
    """

    number: int
    id: str
    state: State
    kind: str
    fingerprint: str
    request: Mapping[str, Any]
    attempts: int
    worker: str | None
    progress: Mapping[str, Any] | None
    sha256: str | None
    result: Mapping[str, Any] | None
    error: Mapping[str, Any] | None
    created: float
    started: float | None
    ended: float | None


def read_claim(row: Row, fence: int) -> Claim:
    """Return the claim of a row of the table as it was before."""
    return Claim(
        id=row["id"],
        fence=fence,
        attempt=row["attempts"] + 1,
        kind=row["kind"],
        fingerprint=row["fingerprint"],
        request=_read(row["request"]) or {},
        checkpoint=row["checkpoint"],
        sha256=row["sha256"],
    )


def read_record(row: Row) -> JobRecord:
    """Return a row of the table."""
    plain = {name: _read(row[name]) for name in ("progress", "result", "error")}
    names = ("number", "id", "state", "kind", "fingerprint", "attempts", "worker", "sha256")
    times = ("created", "started", "ended")
    return JobRecord(
        request=_read(row["request"]) or {},
        **plain,
        **{name: row[name] for name in (*names, *times)},
    )


def _read(text: str | None) -> Any:
    return None if text is None else parse_json(text)
