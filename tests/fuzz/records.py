"""Folders of comparisons whose records, films and traces say what cannot be, with right checksums."""

import contextlib
import functools
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from nstx.engine.comparison.make import Watcher, make_comparison
from nstx.engine.comparison.plan import ComparisonPlan, plan_comparison
from nstx.models.errors import NstxError
from nstx.models.storage.seals import digest_bytes, digest_json

from .damage import damage
from .inputs import Input
from .plain_data import change_data

_RUNS = ("conv1_1", "conv1_2")


class _MissingError(NstxError):
    """A run would have to be made again."""


class _NoWork(Watcher):
    """Stops before anything is computed."""

    @contextlib.contextmanager
    def working(self, text: str) -> Iterator[None]:
        if text == "computing targets":
            raise _MissingError("expected records that fit, got others")
        yield


def _plan() -> ComparisonPlan:
    return plan_comparison(
        "default", {"content_layers": _RUNS}, size=16, steps=1, style_layers="conv1_1", threads=1
    )


@functools.cache
def _whole() -> Mapping[str, bytes]:
    """Return the files of a comparison that is done: the folder ``d`` and its pictures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for index, picture in enumerate(("a.png", "b.png")):
            pixels = np.random.default_rng(index).integers(0, 255, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(folder / picture)
        make_comparison(folder / "a.png", [(folder / "b.png", 1.0)], _plan(), folder / "d")
        names = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in names}


def make_record(random: Random) -> Input:
    """Return a comparison's folder of which something was changed; what is drawn is missing."""
    files = dict(_whole())
    drawn = [
        name for name in files if re.fullmatch(r"d/[^/]+", name) and Path(name).stem not in _RUNS
    ]
    for name in drawn:
        if name != "d/compare.json" or random.random() < 0.5:
            del files[name]
    name = f"d/runs/{random.choice(_RUNS)}"
    draw = random.random()
    if draw < 0.6:
        change, files[f"{name}.json"] = _change_record(files[f"{name}.json"], random)
    elif draw < 0.85:
        change = _change_file(files, name, random)
    else:
        name = "d/compare.json"
        files[name] = _whole()[name]
        change, data = change_data(json.loads(files[name]), random)
        files[name] = _write(data)
        if random.random() < 0.2:
            change, files[name] = damage(files[name], random)
    return Input(f"{name} {change}", files)


def _write(data: Any) -> bytes:
    return json.dumps(data).encode("utf-8", "surrogatepass")


def _change_record(record: bytes, random: Random) -> tuple[str, bytes]:
    if random.random() < 0.1:
        return damage(record, random)
    fields = json.loads(record)
    del fields["checksum"]
    part = random.choice(("result", "result", "result", "files", "all"))
    if part == "all":
        change, fields = change_data(fields, random)
    else:
        change, fields[part] = change_data(fields[part], random)
    if not isinstance(fields, dict):
        return change, _write(fields)
    sealed = {key: value for key, value in fields.items() if key != "format"}
    return f"{part} {change}", _write({**fields, "checksum": digest_json(sealed)})


def _change_file(files: dict[str, bytes], name: str, random: Random) -> str:
    """Change a film, a trace or a picture, and the record so that it fits."""
    run = Path(name).name
    changed = random.choice((f"{name}.jpg", f"{name}.jsonl", f"d/{run}.png"))
    if changed.endswith(".jsonl") and random.random() < 0.7:
        lines = [json.loads(line) for line in files[changed].splitlines()]
        change, lines = change_data(lines, random)
        lines = lines if isinstance(lines, list) else [lines]
        files[changed] = b"".join(_write(line) + b"\n" for line in lines)
    else:
        change, files[changed] = damage(files[changed], random)
    fields = json.loads(files[f"{name}.json"])
    fields["files"][changed.removeprefix("d/")] = digest_bytes(files[changed])
    sealed = {key: value for key, value in fields.items() if key not in ("format", "checksum")}
    files[f"{name}.json"] = _write({**fields, "checksum": digest_json(sealed)})
    return f"{changed} {change}"


def read_comparison(path: Path) -> None:
    """Draw the comparison if its records fit, and check the page."""
    folder = path.parent
    styles = [(folder / "b.png", 1.0)]
    # Frames are whole by the time they are encoded, which takes longest.
    with mock.patch("nstx.engine.comparison.drawing.encode_animation", return_value=b""):
        make_comparison(folder / "a.png", styles, _plan(), folder / "d", _NoWork())
    page = (folder / "d" / "index.html").read_text(encoding="utf-8")
    assert "<script>alert(1)</script>" not in page
