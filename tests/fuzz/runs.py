"""What asks for a run: pictures whose manifests say what cannot be, and files of jobs, each by a command that ends early."""

import csv
import functools
import io
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from nstx import stylize
from nstx.engine.formats.comment import carry_comment

from .commands import TEXTS
from .damage import damage
from .inputs import Input
from .plain_data import change_data

_PICTURES = (
    "a.png",
    "b.png",
    "a.png@conv1_1",
    "b.png@a.png",
    "a.png:2",
    "a.png:0",
    "alpha",
    "none.png",
    "",
)
_OPTIONS: Mapping[str, tuple[Any, ...]] = {
    "content": ("a.png", "b.png", "none.png", ""),
    "style": (*_PICTURES, ["a.png", "b.png:2"], [], [1], "a.png;b.png"),
    "output": (
        "1.png",
        "2.png",
        "deep/1.jpg",
        "../1.png",
        "/1.png",
        "con.png",
        "1.xyz",
        "\x1b[2J.png",
    ),
    "size": (32, "32", 0, -1, "big", 1e400),
    "steps": (1, "2", 10**9, None),
    "mask": _PICTURES,
    "regions": _PICTURES,
    "style_for": ("red=a.png", ["red=a.png", "blue=b.png:2"], "red", "=a.png", "grue=a.png"),
    "colors": ("style", "only", "matched", "pink"),
    "keep_profile": (True, "yes", "maybe", 1),
    "depth": ("8", "16", 16, "17"),
}


@functools.cache
def _pictures() -> Mapping[str, bytes]:
    files = {}
    for index, name in enumerate(("a.png", "b.png")):
        buffer = io.BytesIO()
        pixels = np.random.default_rng(index).integers(0, 255, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(buffer, "PNG")
        files[name] = buffer.getvalue()
    return files


@functools.cache
def _manifest() -> str:
    """Return the manifest of a run of both pictures."""
    with tempfile.TemporaryDirectory() as name:
        for file, data in _pictures().items():
            (Path(name) / file).write_bytes(data)
        a, b = Path(name) / "a.png", Path(name) / "b.png"
        result = stylize(
            a, [(b, 2.0)], size=16, steps=1, style_layers="conv1_1", content_layers="conv1_2",
            threads=1, clean=False,
        )  # fmt: skip
        return json.dumps(
            {**(result.picture.manifest or {}), "saved": {"depth": 8, "keep_profile": False}}
        )


def make_manifest(random: Random) -> Input:
    """Return a picture with a manifest of which something was changed, beside the pictures that it names."""
    data, changes = json.loads(_manifest()), []
    for _ in range(random.choice((1, 1, 2, 3))):
        part = random.choice(("inputs", "inputs", "settings", "saved", "all"))
        if part == "all" or not isinstance(data, dict) or part not in data:
            change, data = change_data(data, random)
        elif part == "inputs" and isinstance(data[part], list) and random.random() < 0.3:
            change = _double(data[part], random)
        else:
            change, data[part] = change_data(data[part], random)
        changes.append(f"{part} {change}")
    text = json.dumps(data)
    if random.random() < 0.1:
        change, raw = damage(text.encode("ascii"), random)
        changes, text = [*changes, change], raw.decode("ascii", "replace").replace("\ufffd", "?")
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "PNG", **carry_comment(text[:60_000], "PNG"))
    picture = buffer.getvalue()
    if random.random() < 0.05:
        change, picture = damage(picture, random)
        changes.append(change)
    command = ["optimize", "--from", "out.png", "-o", "again.png", "--weights", "missing.pth"]
    return _ask(command, "; ".join(changes), {"out.png": picture}, random)


def _double(inputs: list[Any], random: Random) -> str:
    """Add an input that is another one in another role, or with what a style may have."""
    item = dict(random.choice(inputs)) if inputs and isinstance(inputs[0], dict) else {}
    item["role"] = random.choice(("content", "style", "init", "mask", "regions", "targets", "soul"))
    name = random.choice(("colors", "layers", "mask", "weight", "path"))
    item[name] = random.choice(("#ff0000", "conv1_1", "a.png", "alpha", "../a.png", 0, None))
    inputs.insert(random.randrange(len(inputs) + 1), item)
    return f"double {item['role']} {name}"


def make_jobs(random: Random) -> Input:
    """Return a file of jobs, in CSV or lines of JSON, with odd values, and sometimes damage."""
    rows = [_make_row(random) for _ in range(random.choice((1, 1, 2, 5)))]
    suffix = random.choice((".csv", ".jsonl"))
    if suffix == ".csv":
        names = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(names)
        writer.writerows([[_as_cell(row.get(name, "")) for name in names] for row in rows])
        data = text.getvalue().encode("utf-8", "surrogatepass")
    else:
        data = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    change = f"{suffix} {rows!a}"[:100]
    draw = random.random()
    if draw < 0.2:
        change, data = damage(data, random)
    elif draw < 0.25:
        data = random.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\0", b'"')) + data
    command = ["batch", "--jobs", f"jobs{suffix}", "-o", "made", "--weights", "missing.pth"]
    return _ask(command, change, {f"jobs{suffix}": data}, random)


def _make_row(random: Random) -> dict[str, Any]:
    row: dict[str, Any] = {"content": "a.png", "style": "b.png"}
    for name in random.sample(list(_OPTIONS), random.choice((0, 1, 1, 2, 4))):
        row[name] = random.choice(_OPTIONS[name])
    if random.random() < 0.2:
        row[random.choice((*_OPTIONS, "weights", "siez", "", "jobs"))] = random.choice(TEXTS)
    if random.random() < 0.1:
        _, row = change_data(row, random)
    return row if isinstance(row, dict) else {"content": row}


def _as_cell(value: Any) -> str:
    return ";".join(map(str, value)) if isinstance(value, list) else str(value)


def _ask(arguments: list[str], change: str, files: Mapping[str, bytes], random: Random) -> Input:
    """Return the input of a command line of `run_command`, which cannot come to its work."""
    arguments = [*arguments, *["--json"] * (random.random() < 0.3)]
    command = json.dumps({"arguments": arguments, "environment": {}}).encode()
    return Input(change, {"command.json": command, **_pictures(), **files})
