"""The folder of a comparison: what of it is done already, and which files in it are ours.

::

    DIR/compare.json        what was asked for, the runs, their costs, all files that are ours
    DIR/NAME.png            the picture of a run
    DIR/runs/NAME.json      the record of that run: its digest, its result, the sha256 of its files
    DIR/runs/NAME.jsonl     its trace
    DIR/runs/NAME.jpg       how its picture developed (`nstx.engine.drawing.film_strip`)

A run is done if there is a record with the digest of all that its result depends on, and the files
that the record names have the contents that it names. The record is written last.
"""

import json
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nstx.models.errors import ImageError, OutputError
from nstx.models.storage.files import check_folder, write_output
from nstx.models.storage.seals import digest_bytes, digest_file, digest_json
from nstx.models.version import __version__
from nstx.models.weights.load import weights_digest

from ..settings import INITS, Settings

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
"""What is drawn from the runs."""

# Settings that a result does not depend on, but for rounding.
_WITHOUT_EFFECT = ("threads", "use_cache")


@dataclass(frozen=True, slots=True)
class Inputs:
    """The pictures of a comparison.

    Attributes:
        content: the content picture's file.
        styles: the style pictures' files with their weights.
    """

    content: Path
    styles: tuple[tuple[Path, float], ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files."""
        return self.content, *(path for path, _ in self.styles)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run that is done.

    Attributes:
        name: of the run.
        digest: of all that its result depends on.
        files: sha256 of each of its files, by the name within the folder.
        result: costs, steps and seconds, as plain data.
    """

    name: str
    digest: str
    files: Mapping[str, str]
    result: Mapping[str, Any]


class RunDigests:
    """Digests of runs; each picture and weight file is read once.

    Args:
        inputs: the pictures.

    Raises:
        ImageError: one of them cannot be read.
    """

    def __init__(self, inputs: Inputs) -> None:
        self._known: dict[str, str] = {}
        self._weights: dict[str, str] = {}
        self.content = self._file(inputs.content)
        self.styles = [(self._file(path), weight) for path, weight in inputs.styles]

    def of(self, settings: Settings) -> str:
        """Return the sha256 of the pictures' bytes, the settings and the package's version.

        Raises:
            ImageError: the picture to start from cannot be read.
            WeightsError: the weights cannot be read.
        """
        said = {k: v for k, v in asdict(settings).items() if k not in _WITHOUT_EFFECT}
        # Paths may be written differently another time; what they hold counts.
        if settings.init not in INITS:
            said["init"] = self._file(Path(settings.init))
        if settings.weights not in self._weights:
            self._weights[settings.weights] = weights_digest(settings.weights)
        said["weights"] = self._weights[settings.weights]
        return digest_json(
            {
                "version": __version__,
                "content": self.content,
                "styles": self.styles,
                "settings": said,
            }
        )

    def _file(self, path: Path) -> str:
        key = str(path)
        if key not in self._known:
            try:
                if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
                    raise ImageError(
                        f"expected a picture at {path}, got a device or pipe; try a file"
                    )
                self._known[key] = digest_file(path)
            except OSError as error:
                raise ImageError(
                    f"expected a picture at {path}, got: {error.strerror or error}; "
                    "try another path"
                ) from error
        return self._known[key]


class SweepFolder:
    """A folder of a comparison, which need not exist yet; what is in it is read once.

    Args:
        path: of the folder.

    Raises:
        OutputError: a file stands in its place.
    """

    def __init__(self, path: Path) -> None:
        check_folder(path)
        self.path = path
        self.summary = self._read_json(SUMMARY, _FORMAT)
        self.records: dict[str, RunRecord] = {}
        for file in sorted((path / RUNS).glob("*.json")):
            said = self._read_json(f"{RUNS}/{file.name}", _RECORD_FORMAT)
            if said is not None:
                self._add(file.stem, said)

    def _add(self, name: str, said: Mapping[str, Any]) -> None:
        try:
            record = RunRecord(name, str(said["digest"]), dict(said["files"]), dict(said["result"]))
            if said["checksum"] != digest_json(asdict(record)):
                return
        except (KeyError, TypeError, ValueError):
            return
        self.records[name] = record

    def _read_json(self, name: str, kind: str) -> dict[str, Any] | None:
        """Return one of our files; None if it is missing, damaged, or somebody else's."""
        try:
            said = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return said if isinstance(said, dict) and said.get("format") == kind else None

    def find(self, name: str, digest: str) -> RunRecord | None:
        """Return the record of a run that is done."""
        record = self.records.get(name)
        if record is None or record.digest != digest or not self.are_whole(record.files):
            return None
        return record

    def digest(self, name: str) -> str:
        """Return the sha256 of a file that was written."""
        return digest_file(self.path / name)

    def are_whole(self, files: Mapping[str, str]) -> bool:
        """Whether files are there and have the sha256 that is named."""
        try:
            return all(digest_file(self.path / name) == sha256 for name, sha256 in files.items())
        except OSError:
            return False

    def drawn(self, digest: str) -> dict[str, str] | None:
        """Return the sha256 of each file that was drawn from runs, if it was from these runs.

        Args:
            digest: of all that is drawn.
        """
        drawn = (self.summary or {}).get("drawn")
        if not isinstance(drawn, dict) or drawn.get("from") != digest:
            return None
        files = drawn.get("files")
        return files if isinstance(files, dict) and self.are_whole(files) else None

    def check_free(self, names: Iterable[str]) -> None:
        """Check that nothing stands where files are to go, but what an earlier comparison wrote.

        Raises:
            OutputError: something does.
        """
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
        for name, record in self.records.items():
            ours |= {*record.files, f"{RUNS}/{name}.json"}
        if ours:
            # Whoever lost compare.json has lost the list of what was drawn from the runs.
            ours |= {SUMMARY, *DRAWN}
        return ours

    def keep(self, record: RunRecord) -> None:
        """Write the record of a run whose files are written.

        Raises:
            OutputError: it cannot be written.
        """
        self.records[record.name] = record
        said = asdict(record)
        self.write_json(
            f"{RUNS}/{record.name}.json",
            {"format": _RECORD_FORMAT, **said, "checksum": digest_json(said)},
        )

    def write_summary(self, data: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
        """Write compare.json, unless it says the same already; return what it says.

        Args:
            data: what is said of the runs.
            names: of the files that are ours from now on, or have been.

        Raises:
            OutputError: it cannot be written.
        """
        present = {name for name in self._ours() if os.path.lexists(self.path / name)}
        files = sorted({*names, *present})
        said = json.loads(json.dumps({"format": _FORMAT, **data, "files": files}))
        if said != self.summary:
            self.write_json(SUMMARY, said)
            self.summary = said
        assert self.summary is not None
        return self.summary

    def write_json(self, name: str, data: Mapping[str, Any]) -> None:
        """Write plain data to a file in the folder."""
        text = json.dumps(data, indent=1, allow_nan=False)
        self.write(name, f"{text}\n".encode())

    def write(self, name: str, data: bytes) -> str:
        """Write a file in the folder and return its sha256.

        Raises:
            OutputError: it cannot be written.
        """
        write_output(self.path / name, data)
        return digest_bytes(data)
