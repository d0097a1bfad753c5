"""The file of a ledger: a table of SQLite, opened so that what is committed survives a loss of power.

A file that somebody else has made may hold triggers and views, which are code: so only one with the very table that is
made here is used.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from nstx.models.errors import OutputError, UsageError
from nstx.models.printable import printable

_APPLICATION = 0x6E737478  # "nstx"
_VERSION = 1
_PATIENCE = 30.0
"""Seconds for which another process may hold the table."""

_SCHEMA = {
    "jobs": """CREATE TABLE jobs (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    kind TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    request TEXT NOT NULL,
    most_attempts INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    fence INTEGER NOT NULL DEFAULT 0,
    worker TEXT,
    lease REAL,
    checkpoint TEXT,
    sha256 TEXT,
    progress TEXT,
    result TEXT,
    error TEXT,
    created REAL NOT NULL,
    started REAL,
    ended REAL
)""",
    "fences": "CREATE TABLE fences (last INTEGER NOT NULL)",
    "jobs_by_state": "CREATE INDEX jobs_by_state ON jobs (state, number)",
    "jobs_by_kind": "CREATE INDEX jobs_by_kind ON jobs (state, kind, number)",
}


def open_table(path: Path) -> sqlite3.Connection:
    """Return a connection to a ledger's file, which is made if it is not there; for one thread.

    Raises:
        UsageError: the file is no ledger of this version.
        OutputError: it cannot be opened or written.
    """
    connection = connect(path, lambda opened: _check(opened, path), synchronous="FULL")
    connection.row_factory = sqlite3.Row
    return connection


def connect(
    path: Path,
    make_tables: Callable[[sqlite3.Connection], object],
    *,
    synchronous: Literal["NORMAL", "FULL"],
) -> sqlite3.Connection:
    """Return a connection to a file, which is made if it is not there; for one thread.

    Args:
        path: of the file.
        make_tables: makes what is to be in it, or checks what there is, before anything else is changed.
        synchronous: ``FULL`` survives a loss of power; ``NORMAL`` may lose the last of it.

    Raises:
        UsageError, OutputError: as `table_errors`.
    """
    with table_errors(path):
        connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            make_tables(connection)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {synchronous}")
        except BaseException:
            connection.close()
            raise
    return connection


@contextlib.contextmanager
def table_errors(path: Path) -> Iterator[None]:
    """Turn errors of SQLite's into those that a person reads."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise OutputError(
            f"expected a ledger that can be read and written at {printable(path)}, got: "
            f"{printable(error)[:200]}; try another folder, on a local disk"
        ) from error
    except sqlite3.DatabaseError as error:
        raise UsageError(
            f"expected a ledger of nstx at {printable(path)}, got: {printable(error)[:200]}; try "
            "another folder, or move that file away"
        ) from error


@contextlib.contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[None]:
    """Have the table for this connection alone, for the time of a block; what fails in it is as if it had not been."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a new file, or check those of an old one."""
    if _describe(connection) == (0, 0, {}):
        with writing(connection):
            # Another process may have been first.
            if _describe(connection) == (0, 0, {}):
                for statement in _SCHEMA.values():
                    connection.execute(statement)
                connection.execute("INSERT INTO fences VALUES (0)")
                connection.execute(f"PRAGMA application_id = {_APPLICATION}")
                connection.execute(f"PRAGMA user_version = {_VERSION}")
    if _describe(connection) != (_APPLICATION, _VERSION, _SCHEMA):
        raise UsageError(
            f"expected a ledger of this version of nstx at {printable(path)}, got another file; try another "
            "folder, or move that file away"
        )


def _describe(connection: sqlite3.Connection) -> tuple[int, int, dict[str, str]]:
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    schema = dict(rows.fetchall())
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return application, version, schema
