"""The folder of a comparison: which of its runs are done, and which of its files are ours.

::

    DIR/compare.json        the inputs, the runs with their costs, all files that are ours
    DIR/NAME.png            the picture of a run
    DIR/runs/NAME.json      the record of the run: its digest, its result, the sha256 of its files
    DIR/runs/NAME.jsonl     its trace
    DIR/runs/NAME.jpg       how its picture developed (`nstx.engine.drawing.film_strip`)

A run is done if its record has the digest of everything that the result depends on, and its files
have the contents that the record names. The record is written last.
"""

import contextlib
import hashlib
import json
import os
import re
import stat
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from io import BufferedReader
from pathlib import Path
from typing import Any

from nstx.models.errors import OutputError
from nstx.models.printable import printable
from nstx.models.storage.files import check_folder, write_output
from nstx.models.storage.inputs import open_input, read_input
from nstx.models.storage.plain_data import parse_json, take_list, take_object, take_text
from nstx.models.storage.seals import DIGEST, digest_bytes
from nstx.models.version import __version__

from .records import (
    MOST_BYTES,
    RUN_NAME,
    RUNS,
    RunKey,
    RunRecord,
    check_file,
    name_files,
    read_record,
)

SUMMARY = "compare.json"
_FORMAT = "nstx-compare-1"
_MOST_JSON = 1 << 22
_MOST_RECORD, _MOST_RECORDS = 1 << 16, 1 << 24
"""Bytes of one, of which there are some thousand, and of all: plain data may take twenty times as much memory."""

_MOST_FILES = 10_000

DRAWN = (
    "sheet.png",
    "animation.gif",
    "animation.webp",
    "animation.mp4",
    "costs.png",
    "index.html",
)
"""Files that are drawn from the runs."""

_OURS = re.compile(
    f"{re.escape(SUMMARY)}|{'|'.join(map(re.escape, DRAWN))}"
    rf"|{RUN_NAME}\.png|{RUNS}/{RUN_NAME}\.(json|jsonl|jpg)"
)


class ComparisonFolder:
    """A folder of a comparison, which need not exist yet; its records are read once.

    ``summary`` is what compare.json holds, None if it is missing or damaged; ``records`` go by the
    names of the runs. `OutputError` if a file stands in the folder's place.
    """

    def __init__(self, path: Path) -> None:
        check_folder(path)
        self.path = path
        self.summary = self._read_summary()
        self.records: dict[str, RunRecord] = {}
        left = _MOST_RECORDS
        for file in sorted((path / RUNS).glob("*.json")):
            with contextlib.suppress(OSError, OutputError, ValueError):
                left -= min(file.stat().st_size, _MOST_RECORD)
                if left >= 0:
                    self.records[file.stem] = self._read_record(file.stem)

    def _read_record(self, run: str) -> RunRecord:
        return read_record(run, self._read_json(name_files(run).record, _MOST_RECORD))

    def _read_summary(self) -> dict[str, Any] | None:
        """Return the contents of compare.json as far as they are used, or None.

        They are its ``comparison``, ``files`` and ``drawn``, and what is written along.
        """
        try:
            data = self._read_json(SUMMARY)
            take_text(data, "format", _FORMAT)
            if "comparison" in data:
                take_text(data, "comparison", DIGEST)
            for name in take_list(data, "files", _MOST_FILES):
                take_text({"file": name}, "file", _OURS.pattern)
            drawn = data.get("drawn")
            if drawn is not None:
                take_text(drawn, "from", DIGEST)
                files = take_object(drawn, "files")
                for name in files:
                    take_text(files, name, DIGEST)
                if not files.keys() <= set(DRAWN):
                    raise ValueError("others were drawn")
        except (OutputError, ValueError):
            return None
        summary: dict[str, Any] = data
        return summary

    def _read_json(self, name: str, most_bytes: int = _MOST_JSON) -> Any:
        """Return the plain data in one of our files; `OutputError` or `ValueError` if it has none."""
        path = self.path / name
        return parse_json(
            read_input(path, kind="plain data", most_bytes=most_bytes, error=OutputError)
        )

    def _open(self, name: str) -> BufferedReader:
        path = self.path / name
        return open_input(path, kind="a file of ours", most_bytes=MOST_BYTES, error=OutputError)

    def find(self, run: str, key: RunKey) -> RunRecord | None:
        """Return the record of a run if it is done, or done under a name that the plan had before."""
        if run in self.records:
            same = [self.records[run]]
        else:
            same = [record for record in self.records.values() if record.key == key]
        return next((r for r in same if r.key == key and self._is_intact(r)), None)

    def _is_intact(self, record: RunRecord) -> bool:
        try:
            for name in record.files:
                with self._open(name) as file:
                    check_file(file, name, record)
        except (OSError, OutputError, ValueError):
            return False
        return True

    def digest(self, name: str) -> str:
        """Return the sha256 of a file; `OutputError` if it cannot be read."""
        with self._open(name) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _has(self, files: Mapping[str, str]) -> Iterator[str]:
        """Yield the names of files that have a sha256."""
        for name, sha256 in files.items():
            with contextlib.suppress(OutputError):
                if self.digest(name) == sha256:
                    yield name

    @property
    def drawn(self) -> dict[str, str]:
        """The sha256 of each drawn file as compare.json has it."""
        files: dict[str, str] = ((self.summary or {}).get("drawn") or {}).get("files", {})
        return files

    def find_drawn(self, digest: str) -> dict[str, str] | None:
        """Return the sha256 of each drawn file, if they are intact and have this digest."""
        drawn = (self.summary or {}).get("drawn")
        if drawn is None or drawn["from"] != digest:
            return None
        return self.drawn if set(self._has(self.drawn)) == self.drawn.keys() else None

    def check_same(self, keys: Mapping[str, RunKey]) -> None:
        """Check that no finished work of another comparison would be replaced; `OutputError` if so.

        ``keys`` are those of the runs to come, by their names.
        """
        comparison = next(iter(keys.values())).comparison
        where = f"expected a new folder, or that of this comparison, got {printable(self.path)}"
        before = [record.comparison for record in self.records.values()]
        if self.summary is not None:
            before = [self.summary.get("comparison", "")]
        if any(other != comparison for other in before):
            raise OutputError(
                f"{where} with one {self._difference()}; try another folder, or --force to replace it"
            )
        for name, key in keys.items():
            record = self.records.get(name)
            if record and record.comparison == comparison and record.request != key.request:
                raise OutputError(
                    f"{where} with a {printable(name)} of other settings; try several values, such "
                    "as --steps 50,100, another folder, or --force to replace it"
                )

    def _difference(self) -> str:
        """Return in words how a comparison differs whose digest is another one."""
        version = (self.summary or {}).get("version", __version__)
        if version != __version__ or "comparison" not in (self.summary or {"comparison": ""}):
            # Whether its settings are the same, only that version knows.
            return f"that nstx {printable(version)[:20]} made, in a way that this one cannot go on with"
        return "of other pictures, sizes or settings"

    def check_free(self, names: Iterable[str]) -> None:
        """Check that only files of ours would be overwritten; `OutputError` if not.

        A link is never ours: what it leads to would be replaced.
        """
        ours = self._ours()
        for name in (RUNS, *names):
            path = self.path / name
            try:
                mode = path.lstat().st_mode
            except OSError:
                continue
            kind = stat.S_ISDIR if name == RUNS else stat.S_ISREG
            if not kind(mode) or (name != RUNS and name not in ours):
                raise OutputError(
                    f"expected nothing at {printable(path)}, got a file that no comparison wrote; "
                    "try another folder"
                )

    def _ours(self) -> set[str]:
        ours = set((self.summary or {}).get("files", ()))
        for run, record in self.records.items():
            ours |= {*record.files, name_files(run).record}
        if ours:
            # Without compare.json, the list of drawn files is lost.
            ours |= {SUMMARY, *DRAWN}
        return ours

    def rename(self, record: RunRecord, name: str) -> RunRecord:
        """Give a run that is done another name, and return its record; it is done at every moment."""
        files = {}
        for before, after in zip(name_files(record.name), name_files(name), strict=True):
            if before in record.files:
                with self._open(before) as file:
                    files[after] = self.write(after, file.read())
        renamed = replace(record, name=name, files=files)
        self.keep(renamed)
        self._remove(record)
        return renamed

    def remove_others(
        self, comparison: str, runs: Container[str], drawn: Mapping[str, str]
    ) -> None:
        """Remove what is left of a comparison that was replaced.

        Args:
            comparison: the digest of the one that stays.
            runs: names of runs that stay in any case.
            drawn: what was drawn of the one before, by name with the sha256, and is drawn no more.
        """
        for record in list(self.records.values()):
            if record.comparison != comparison and record.name not in runs:
                self._remove(record)
        self._unlink(*self._has(drawn))

    def _remove(self, record: RunRecord) -> None:
        """Remove a run's files, as far as they are what its record says, and the record."""
        self._unlink(*self._has(record.files), name_files(record.name).record)
        del self.records[record.name]

    def _unlink(self, *names: str) -> None:
        for name in names:
            with contextlib.suppress(OSError):
                (self.path / name).unlink()

    def keep(self, record: RunRecord) -> None:
        """Write the record of a run whose files are written."""
        self.records[record.name] = record
        self._write_json(name_files(record.name).record, record.to_json())

    def write_summary(self, data: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
        """Write compare.json, unless it is the same already; return its contents.

        ``names`` are those of the files that are ours from now on.
        """
        present = {name for name in self._ours() if os.path.lexists(self.path / name)}
        files = sorted({*names, *present})
        summary: dict[str, Any] = json.loads(
            json.dumps({"format": _FORMAT, **data, "files": files})
        )
        if summary != self.summary:
            self._write_json(SUMMARY, summary)
            self.summary = summary
        return summary

    def _write_json(self, name: str, data: Mapping[str, Any]) -> None:
        text = json.dumps(data, indent=1, allow_nan=False)
        self.write(name, f"{text}\n".encode())

    def write(self, name: str, data: bytes) -> str:
        """Write a file and return its sha256."""
        write_output(self.path / name, data)
        return digest_bytes(data)
