"""The record of a run in a comparison's folder, and what is believed of it.

A folder may come from anybody, so a record is not trusted: every field that is used is checked
here, with its type and range, and its files have the names that follow from the run's. A record
that does not fit is taken for none, and its run is made again.
"""

import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from io import BufferedReader
from typing import Any, NamedTuple

from nstx.models.errors import ImageError
from nstx.models.storage.plain_data import (
    parse_json,
    take_field,
    take_list,
    take_number,
    take_object,
    take_text,
    take_whole,
)
from nstx.models.storage.seals import DIGEST, digest_json

from ..drawing.film_strip import check_film
from ..formats.png_frame import SIGNATURE
from ..settings import MAX_SIDE

RUNS = "runs"
RUN_NAME = r"[\w+-][\w.+-]{0,99}"
"""Names of runs, as `nstx.engine.comparison.plan` makes them: without separators of paths."""

MOST_BYTES = 1 << 31
"""Of a file of a run."""

_FORMAT = "nstx-run-1"
_MOST_STEPS = 1_000_000
_MOST_FRAMES = 100
_LONGEST_LINE = 1 << 14  # of a trace, in bytes


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


class RunKey(NamedTuple):
    """What a run is of, as sha256.

    Attributes:
        digest: of everything that the result depends on, nstx's version included.
        request: of the pictures and settings alone.
        comparison: of those that all runs of a comparison have in common, whatever it compares.
    """

    digest: str
    request: str
    comparison: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run that is done.

    Attributes:
        digest, request, comparison: as `RunKey` has them.
        files: the sha256 of its picture, trace and film, by name.
        result: its size, costs, steps and seconds.
    """

    name: str
    digest: str
    request: str
    comparison: str
    files: Mapping[str, str]
    result: Mapping[str, Any]

    @property
    def key(self) -> RunKey:
        """What the run is of."""
        return RunKey(self.digest, self.request, self.comparison)

    def to_json(self) -> dict[str, Any]:
        """Return the contents of the record's file."""
        fields = asdict(self)
        return {"format": _FORMAT, **fields, "checksum": digest_json(fields)}


def read_record(run: str, data: Any) -> RunRecord:
    """Return the record of a run from its file's plain data; `ValueError` if it does not fit."""
    take_text(data, "format", _FORMAT)
    names = name_files(run)
    files = take_object(data, "files")
    if files.keys() != {names.picture, names.trace, names.film}:
        raise ValueError("its files are not those of the run")
    record = RunRecord(
        name=take_text(data, "name", RUN_NAME),
        digest=take_text(data, "digest", DIGEST),
        request=take_text(data, "request", DIGEST),
        comparison=take_text(data, "comparison", DIGEST),
        files={name: take_text(files, name, DIGEST) for name in files},
        result=take_object(data, "result"),
    )
    if record.name != run or take_field(data, "checksum") != digest_json(asdict(record)):
        raise ValueError("it is of another run, or was changed")
    _check_result(record.result)
    return record


def _check_result(result: Mapping[str, Any]) -> None:
    for name in ("width", "height"):
        take_whole(result, name, 1, MAX_SIDE)
    take_whole(result, "steps", 0, _MOST_STEPS)
    take_number(result, "initial_cost", 0)
    cost = take_object(result, "cost")
    for name in ("total", "content", "style"):
        take_number(cost, name, 0)
    take_number(take_object(result, "seconds"), "optimize", 0)
    if not all(isinstance(text, str) for text in take_list(result, "warnings", _MOST_FRAMES)):
        raise ValueError("its warnings are no texts")
    steps = take_list(result, "film_steps", _MOST_FRAMES)
    whole = [take_whole({"film step": step}, "film step", 0, _MOST_STEPS) for step in steps]
    if not whole or whole != sorted(whole):
        raise ValueError("its film has no steps, or they do not ascend")


def read_trace(data: bytes) -> list[dict[str, Any]]:
    """Return the lines of a run's trace; `ValueError` if one is none."""
    return [_read_line(line) for line in data.splitlines()]


def _read_line(text: bytes) -> dict[str, Any]:
    line: dict[str, Any] = parse_json(text)
    take_whole(line, "step", 0, _MOST_STEPS)
    take_whole(line, "scale", 0, _MOST_STEPS)
    take_number(line, "total", 0)
    return line


def _check_trace(file: BufferedReader, steps: int) -> None:
    """Check a trace line by line, so that one of any length takes no more memory than a line."""
    for count in itertools.count():
        line = file.readline(_LONGEST_LINE)
        if not line:
            return
        if count == steps or len(line) == _LONGEST_LINE:
            raise ValueError("its trace is not of so many steps")
        _read_line(line)


def check_file(file: BufferedReader, name: str, record: RunRecord) -> None:
    """Check that a file of a run, which is open, is the one of its record; `ValueError` if not.

    Of pictures, the size is compared, and their pixels are left alone.
    """
    names, result = name_files(record.name), record.result
    if hashlib.file_digest(file, "sha256").hexdigest() != record.files[name]:
        raise ValueError("its contents have changed")
    file.seek(0)
    if name == names.trace:
        _check_trace(file, result["steps"])
    elif name == names.film:
        try:
            check_film(file, len(result["film_steps"]))
        except ImageError as error:
            raise ValueError(str(error)) from error
    else:
        sizes = [side.to_bytes(4, "big") for side in (result["width"], result["height"])]
        if file.read(24) != SIGNATURE + b"\0\0\0\x0dIHDR" + b"".join(sizes):
            raise ValueError("its picture has another size")
