"""What a ledger's file says: its jobs by their ids, and page by page."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from sqlite3 import Row
from types import TracebackType
from typing import Self

from .records import STATES, JobRecord, State, read_record
from .table import open_table, table_errors

_PAGE = 500


class LedgerReader:
    """A ledger's file, opened for one thread.

    Args:
        path: of the file, which is made if need be; on a local disk.
        now: returns seconds since 1970.

    Every method raises `OutputError` where the file cannot be read or written.
    """

    def __init__(self, path: Path, *, now: Callable[[], float] = time.time) -> None:
        self._path, self._now = path, now
        self._connection = open_table(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def counts(self) -> dict[State, int]:
        """Return how many jobs there are in each state."""
        with table_errors(self._path):
            rows = self._connection.execute("SELECT state, count(*) FROM jobs GROUP BY state")
            counts = dict(rows.fetchall())
        return {state: counts.get(state, 0) for state in STATES}

    def find(self, job: str) -> JobRecord | None:
        """Return a job by its id; None if there is none."""
        with table_errors(self._path):
            row = self._row("SELECT * FROM jobs WHERE id = ?", job)
        return None if row is None else read_record(row)

    def page(
        self, after: int = 0, most: int = _PAGE, state: State | None = None
    ) -> list[JobRecord]:
        """Return the next jobs after a number, oldest first; all of them, or those in a state."""
        with table_errors(self._path):
            rows = self._connection.execute(
                "SELECT * FROM jobs WHERE number > ? AND (? IS NULL OR state = ?) ORDER BY number LIMIT ?",
                (after, state, state, most),
            )
            return list(map(read_record, rows.fetchall()))

    def newest(
        self, before: int | None = None, most: int = _PAGE, state: State | None = None
    ) -> list[JobRecord]:
        """Return the jobs before a number, or the last ones, the newest first; all of them, or those in a state."""
        with table_errors(self._path):
            rows = self._connection.execute(
                "SELECT * FROM jobs WHERE (? IS NULL OR number < ?) AND (? IS NULL OR state = ?) "
                "ORDER BY number DESC LIMIT ?",
                (before, before, state, state, most),
            )
            return list(map(read_record, rows.fetchall()))

    def count_before(self, number: int) -> int:
        """Return how many jobs wait that came before one of this number."""
        with table_errors(self._path):
            row = self._row(
                "SELECT count(*) FROM jobs WHERE state = 'queued' AND number < ?", number
            )
        return 0 if row is None else int(row[0])

    def __iter__(self) -> Iterator[JobRecord]:
        """Yield all jobs, oldest first, a page of them in memory at a time."""
        last = 0
        while records := self.page(last):
            yield from records
            last = records[-1].number

    def _row(self, query: str, *values: object) -> Row | None:
        row: Row | None = self._connection.execute(query, values).fetchone()
        return row
