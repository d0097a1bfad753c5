"""What happened to jobs, in a table of its own: numbered within each job, so that who lost touch can go on.

It follows from the ledger, and is written by the service alone; what a loss of power takes of it is told anew.
"""

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nstx.models.storage.plain_data import parse_json

from ..jobs.records import FINAL
from ..jobs.table import connect, table_errors, writing

KEPT = 1000
"""Events of a job that are kept, besides the first and the last."""

_SLACK = 200
_PAGE = 500
_TABLE = """CREATE TABLE IF NOT EXISTS events (
    job TEXT NOT NULL,
    number INTEGER NOT NULL,
    kind TEXT NOT NULL,
    data TEXT NOT NULL,
    time REAL NOT NULL,
    PRIMARY KEY (job, number)
) WITHOUT ROWID"""


class JobEvent(NamedTuple):
    """Something that happened to a job; its number grows within the job, from 1."""

    number: int
    kind: str
    data: Mapping[str, Any]


class EventTable:
    """The file of what happened, opened for one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = connect(
            path, lambda opened: opened.execute(_TABLE), synchronous="NORMAL"
        )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def append(self, events: Iterable[tuple[str, str, Mapping[str, Any]]]) -> None:
        """Take note of events: of a job, of a kind, with data. One that comes after a final one is dropped."""
        with table_errors(self._path), writing(self._connection):
            for job, kind, data in events:
                last = self._last(job)
                number = 0 if last is None else last.number
                if last is not None and last.kind in FINAL:
                    continue
                self._connection.execute(
                    "INSERT INTO events VALUES (?, ?, ?, ?, ?)",
                    (job, number + 1, kind, json.dumps(data), time.time()),
                )
                if number % _SLACK == 0 and number > KEPT:
                    self._connection.execute(
                        "DELETE FROM events WHERE job = ? AND number > 1 AND number <= ?",
                        (job, number + 1 - KEPT),
                    )

    def after(self, job: str, number: int) -> list[JobEvent]:
        """Return the next events of a job after a number, oldest first, at most `_PAGE`."""
        with table_errors(self._path):
            rows = self._connection.execute(
                "SELECT number, kind, data FROM events WHERE job = ? AND number > ? ORDER BY number LIMIT ?",
                (job, number, _PAGE),
            ).fetchall()
        return [JobEvent(row[0], row[1], parse_json(row[2])) for row in rows]

    def last(self, job: str) -> JobEvent | None:
        """Return a job's last event; None if there is none."""
        with table_errors(self._path):
            return self._last(job)

    def remove(self, jobs: Iterable[str]) -> None:
        """Forget what happened to jobs."""
        with table_errors(self._path), writing(self._connection):
            self._connection.executemany("DELETE FROM events WHERE job = ?", [(j,) for j in jobs])

    def jobs(self) -> set[str]:
        """Return the ids of the jobs of which there are events."""
        with table_errors(self._path):
            return {row[0] for row in self._connection.execute("SELECT DISTINCT job FROM events")}

    def _last(self, job: str) -> JobEvent | None:
        row = self._connection.execute(
            "SELECT number, kind, data FROM events WHERE job = ? ORDER BY number DESC LIMIT 1",
            (job,),
        ).fetchone()
        return None if row is None else JobEvent(row[0], row[1], parse_json(row[2]))
