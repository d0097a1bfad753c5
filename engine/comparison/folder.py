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

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from nstx.models.errors import OutputError
from nstx.models.storage.files import check_folder, write_output
from nstx.models.storage.seals import digest_bytes, digest_file, digest_json

SUMMARY, RUNS = "compare.json", "runs"
_FORMAT, _RECORD_FORMAT = "nstx-compare-1", "nstx-run-1"

DRAWN = (
    "sheet.png",
    "animation.gif",
    "animation.webp",
    "animation.mp4",
    "costs.png",
    "index.html",
)
"""Files that are drawn from the runs."""


class RunFiles(NamedTuple):
    """Names of a run's files within the folder."""

    picture: str
    record: str
    trace: str
    film: str


def name_files(run: str) -> RunFiles:
    """Return the names of the files of a run."""
    stem = f"{RUNS}/{run}"
    return RunFiles(f"{run}.png", f"{stem}.json", f"{stem}.jsonl", f"{stem}.jpg")


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run that is done: the sha256 of its files by name, its costs, steps and seconds.

    ``digest`` is that of everything that the result depends on.
    """

    name: str
    digest: str
    files: Mapping[str, str]
    result: Mapping[str, Any]


class ComparisonFolder:
    """A folder of a comparison, which need not exist yet; its records are read once.

    ``summary`` is what compare.json holds, None if it is missing or damaged; ``records`` go by the
    names of the runs. `OutputError` if a file stands in the folder's place.
    """

    def __init__(self, path: Path) -> None:
        check_folder(path)
        self.path = path
        self.summary = self._read_json(SUMMARY, _FORMAT)
        self.records: dict[str, RunRecord] = {}
        for file in sorted((path / RUNS).glob("*.json")):
            record = self._read_record(file.stem)
            if record is not None:
                self.records[file.stem] = record

    def _read_record(self, run: str) -> RunRecord | None:
        fields = self._read_json(name_files(run).record, _RECORD_FORMAT) or {}
        try:
            record = RunRecord(
                run, str(fields["digest"]), dict(fields["files"]), dict(fields["result"])
            )
            return record if fields["checksum"] == digest_json(asdict(record)) else None
        except (KeyError, TypeError, ValueError):
            return None

    def _read_json(self, name: str, kind: str) -> dict[str, Any] | None:
        """Return one of our files; None if it is missing, damaged, or not ours."""
        try:
            data = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return data if isinstance(data, dict) and data.get("format") == kind else None

    def find(self, run: str, digest: str) -> RunRecord | None:
        """Return the record of a run if it is done."""
        record = self.records.get(run)
        if record is None or record.digest != digest or not self._is_intact(record.files):
            return None
        return record

    def _is_intact(self, files: Mapping[str, str]) -> bool:
        try:
            return all(self.digest(name) == sha256 for name, sha256 in files.items())
        except OSError:
            return False

    def digest(self, name: str) -> str:
        """Return the sha256 of a file; `OSError` if it cannot be read."""
        return digest_file(self.path / name)

    def find_drawn(self, digest: str) -> dict[str, str] | None:
        """Return the sha256 of each drawn file, if they are intact and have this digest."""
        drawn = (self.summary or {}).get("drawn")
        if not isinstance(drawn, dict) or drawn.get("from") != digest:
            return None
        files = drawn.get("files")
        return files if isinstance(files, dict) and self._is_intact(files) else None

    def check_free(self, names: Iterable[str]) -> None:
        """Check that only files of ours would be overwritten; `OutputError` if not."""
        ours = self._ours()
        for name in names:
            if name not in ours and os.path.lexists(self.path / name):
                raise OutputError(
                    f"expected nothing at {self.path / name}, got a file that no comparison "
                    "wrote; try another folder"
                )

    def _ours(self) -> set[str]:
        listed = (self.summary or {}).get("files")
        ours = set(map(str, listed)) if isinstance(listed, list) else set()
        for run, record in self.records.items():
            ours |= {*record.files, name_files(run).record}
        if ours:
            # Without compare.json, the list of drawn files is lost.
            ours |= {SUMMARY, *DRAWN}
        return ours

    def keep(self, record: RunRecord) -> None:
        """Write the record of a run whose files are written."""
        self.records[record.name] = record
        fields = asdict(record)
        data = {"format": _RECORD_FORMAT, **fields, "checksum": digest_json(fields)}
        self._write_json(name_files(record.name).record, data)

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
