"""Comparisons' folders of strangers: a record that does not fit is none, and nothing leaves the folder."""

import io
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nstx.engine.comparison import folder as comparison_folder
from nstx.engine.comparison.digests import Inputs
from nstx.engine.comparison.folder import DRAWN, SUMMARY, ComparisonFolder
from nstx.engine.comparison.page import make_page
from nstx.engine.comparison.plan import plan_comparison
from nstx.engine.comparison.records import RunKey, RunRecord, name_files, read_record, read_trace
from nstx.engine.drawing.contact_sheet import Tile
from nstx.engine.drawing.film_strip import Film, pack_film
from nstx.models.errors import OutputError
from nstx.models.storage.seals import digest_bytes, digest_json

KEY = RunKey("a" * 64, "b" * 64, "c" * 64)
RESULT: dict[str, Any] = {
    "width": 24,
    "height": 16,
    "steps": 2,
    "initial_cost": 4.0,
    "cost": {"total": 2.0, "content": 1.0, "style": 1.0},
    "seconds": {"optimize": 0.5},
    "warnings": [],
    "film_steps": [1, 2],
}
NAMES = name_files("conv1_1")


def png(width: int = 24, height: int = 16) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, format="PNG")
    return buffer.getvalue()


def film(count: int = 2, side: int = 16) -> bytes:
    return pack_film(
        Film(tuple([np.zeros((side, side, 3), np.uint8)] * count), tuple(range(count)))
    )


TRACE = b'{"step": 1, "scale": 1, "total": 3.0}\n{"step": 2, "scale": 1, "total": 2.0}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one run that is done."""
    path = tmp_path / "d"
    (path / "runs").mkdir(parents=True)
    write(path, {NAMES.picture: png(), NAMES.trace: TRACE, NAMES.film: film()}, RESULT)
    return path


def write(folder: Path, files: dict[str, bytes], result: dict[str, Any]) -> None:
    """Write the files of a run, and the record that fits them."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
    digests = {
        name: digest_bytes((folder / name).read_bytes())
        for name in NAMES
        if "json" not in name[-4:]
    }
    record = RunRecord(name="conv1_1", **KEY._asdict(), files=digests, result=result)
    (folder / NAMES.record).write_text(json.dumps(record.to_json()))


def change(folder: Path, **fields: Any) -> None:
    """Change fields of the record, and its checksum with them."""
    path = folder / NAMES.record
    data = {**json.loads(path.read_text()), **fields}
    rest = {name: value for name, value in data.items() if name not in ("format", "checksum")}
    path.write_text(json.dumps({**data, "checksum": digest_json(rest)}))


def find(folder: Path) -> RunRecord | None:
    return ComparisonFolder(folder).find("conv1_1", KEY)


def test_a_run_that_is_done_is_found(folder: Path) -> None:
    assert find(folder)
    change(folder)
    record = find(folder)
    assert record is not None
    assert record == read_record("conv1_1", record.to_json())
    assert asdict(record)["result"] == RESULT


def result(**fields: Any) -> dict[str, Any]:
    return {"result": {**RESULT, **fields}}


@pytest.mark.parametrize(
    "fields",
    [
        {"result": {}},
        {"result": []},
        {"result": None},
        result(width=0),
        result(width="24"),
        result(width=10**9),
        result(height=17),
        result(steps="<img src=x onerror=alert(1)>"),
        result(steps=True),
        result(steps=-1),
        result(steps=10**400),
        result(initial_cost=float("nan")),
        result(initial_cost=-1),
        result(initial_cost=None),
        result(cost=None),
        result(cost={"total": 1}),
        result(cost={"total": "1", "content": 1, "style": 1}),
        result(cost={"total": 10**400, "content": 1, "style": 1}),
        result(seconds={"optimize": "</td>"}),
        result(seconds=3),
        result(warnings="text"),
        result(warnings=[1]),
        result(film_steps="abc"),
        result(film_steps=[]),
        result(film_steps=[2, 1]),
        result(film_steps=[1, 2.5]),
        result(film_steps=list(range(3))),
        result(film_steps=list(range(1000))),
        {"name": "../conv1_1"},
        {"name": "conv1_2"},
        {"name": ["conv1_1"]},
        {"digest": "a" * 63},
        {"digest": 5},
        {"request": None},
        {"comparison": {}},
        {"files": {}},
        {"files": []},
        {"files": {"../../secret": "a" * 64}},
        {"files": {"/etc/passwd": "a" * 64, NAMES.trace: "a" * 64, NAMES.film: "a" * 64}},
        {"files": dict.fromkeys((NAMES.picture, NAMES.trace, NAMES.film), 7)},
        {"format": "nstx-run-0"},
        {"format": None},
    ],
    ids=str,
)
def test_a_record_that_does_not_fit_is_none(folder: Path, fields: dict[str, Any]) -> None:
    change(folder, **fields)
    assert find(folder) is None


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"null", b"[]", b"5", b"9" * 5000, b"[" * 100_000, b'{"a":' * 5000, b"\xff{}"],
    ids=lambda text: repr(text[:8]),
)
def test_a_record_or_summary_that_is_no_json_is_none(folder: Path, text: bytes) -> None:
    (folder / NAMES.record).write_bytes(text)
    (folder / SUMMARY).write_bytes(text)
    read = ComparisonFolder(folder)
    assert (read.records, read.summary) == ({}, None)


def test_records_of_more_than_any_run_has_are_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result that is kept takes twenty times the memory of its text."""
    change(folder, **result(x=[[]] * 10_000))
    assert find(folder)
    monkeypatch.setattr(comparison_folder, "_MOST_RECORDS", 10_000)  # of all
    assert find(folder) is None
    monkeypatch.undo()
    change(folder, **result(x=[[]] * 20_000))
    assert find(folder) is None


def test_a_deep_result_is_none(folder: Path) -> None:
    text = (folder / NAMES.record).read_text()
    deep = "[" * 500 + "]" * 500
    (folder / NAMES.record).write_text(
        text.replace('"warnings": []', f'"warnings": [], "x": {deep}')
    )
    assert find(folder) is None


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (NAMES.picture, b""),
        (NAMES.picture, png(16, 24)),
        (NAMES.picture, film()),
        (NAMES.trace, TRACE + b"{}\n"),
        (NAMES.trace, TRACE + b"[]\n"),
        (NAMES.trace, TRACE.replace(b"3.0", b"NaN")),
        (NAMES.trace, TRACE.replace(b"3.0", b'"3"')),
        (NAMES.trace, TRACE.replace(b'"scale": 1', b'"scale": [1]')),
        (NAMES.trace, b"[" * 100_000),
        (NAMES.trace, TRACE + TRACE),
        (NAMES.trace, TRACE.replace(b" ", b" " * 9000)),
        (NAMES.trace, b"\xff"),
        (NAMES.film, b""),
        (NAMES.film, png()),
        (NAMES.film, film(3, 17)),
        (NAMES.film, film(2, 400)),
        (NAMES.film, film()[:40]),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value[:8]),
)
def test_files_that_are_not_a_runs_are_refused_whatever_their_digest(
    folder: Path, name: str, data: bytes
) -> None:
    write(folder, {name: data}, RESULT)
    assert find(folder) is None


@pytest.mark.parametrize("name", [SUMMARY, *NAMES])
@pytest.mark.parametrize("kind", ["FIFO", "device", "folder"])
def test_what_is_no_file_is_passed_over(folder: Path, name: str, kind: str) -> None:
    path = folder / name
    path.unlink(missing_ok=True)
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    read = ComparisonFolder(folder)
    assert read.summary is None
    assert (read.find("conv1_1", KEY) is None) == (name != SUMMARY)
    with pytest.raises(OutputError, match="that no comparison wrote"):
        read.check_free([SUMMARY, *NAMES])


def test_links_are_never_overwritten(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    ours = ComparisonFolder(folder)
    ours.write_summary({"comparison": KEY.comparison, "drawn": None}, [*DRAWN, *NAMES])
    ComparisonFolder(folder).check_free([SUMMARY, *DRAWN, *NAMES])
    (folder / "sheet.png").symlink_to(tmp_path / "precious")
    with pytest.raises(OutputError, match=r"sheet\.png"):
        ComparisonFolder(folder).check_free(["sheet.png"])
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "runs").symlink_to(tmp_path)
    with pytest.raises(OutputError, match="runs"):
        ComparisonFolder(tmp_path / "e").check_free([])


@pytest.mark.parametrize(
    "fields",
    [
        {"files": ["../../x"]},
        {"files": ["/etc/passwd"]},
        {"files": ["runs/../../x.json"]},
        {"files": ["thesis.doc"]},
        {"files": [["sheet.png"]]},
        {"files": "sheet.png"},
        {"files": 20_000 * ["sheet.png"]},
        {"comparison": ["c"]},
        {"drawn": 5},
        {"drawn": {"from": "a" * 64}},
        {"drawn": {"from": "a" * 64, "files": {"../x": "a" * 64}}},
        {"drawn": {"from": "a" * 64, "files": {"sheet.png": 5}}},
        {"drawn": {"from": 1, "files": {}}},
    ],
    ids=lambda fields: str(fields)[:60],
)
def test_a_summary_that_does_not_fit_is_none(folder: Path, fields: dict[str, Any]) -> None:
    whole: dict[str, Any] = {
        "format": "nstx-compare-1",
        "comparison": "c" * 64,
        "files": [],
        "drawn": None,
    }
    (folder / SUMMARY).write_text(json.dumps(whole))
    assert ComparisonFolder(folder).summary == whole
    (folder / SUMMARY).write_text(json.dumps({**whole, **fields}))
    read = ComparisonFolder(folder)
    assert (read.summary, read.drawn) == (None, {})


def test_only_what_a_record_names_by_its_contents_is_removed(folder: Path, tmp_path: Path) -> None:
    (folder / "conv2_1.png").write_text("mine")
    (folder / NAMES.film).write_text("changed")
    read = ComparisonFolder(folder)
    read.remove_others("d" * 64, (), {"costs.png": "a" * 64})
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert present == {"conv2_1.png", NAMES.film}


def test_a_trace_is_read_whole() -> None:
    assert [line["total"] for line in read_trace(TRACE)] == [3.0, 2.0]
    assert read_trace(b"") == []


EVIL = "</title><script>alert('1')</script>\"onload=x\x1b[2J.png"


def test_the_page_escapes_every_name() -> None:
    title = Inputs(Path(EVIL), ((Path(EVIL), 2.0),)).title
    plan = plan_comparison("default", {"init": (EVIL, "noise")})
    labels = [run.label for run in plan.runs]
    frame = np.zeros((16, 24, 3), np.uint8)
    tiles = {f'{n}"><b>': Tile(frame, label, EVIL) for n, label in enumerate(labels)}
    sheet = Image.new("RGB", (24, 16))
    axes = "; ".join(axis.labels[0] for axis in plan.axes)
    page = make_page(title, axes, frame, tiles, dict.fromkeys(tiles, RESULT), sheet)
    assert page.count("<script") == 1
    assert "<b>" not in page
    assert '"onload' not in page
    assert "\x1b" not in title + axes + "".join(labels)
    with pytest.raises(ValueError, match="format"):
        make_page(
            title, axes, frame, tiles, {name: {**RESULT, "steps": "<i>"} for name in tiles}, sheet
        )


def test_a_hostile_folder_has_its_runs_made_again_and_is_told_in_one_line(
    nstx: Callable[..., tuple[int, str, str]],
    save_picture: Callable[..., Path],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content, style = save_picture('a"<b>$\x1b[2J.png', 32, 32), save_picture("s.png", 32, 32, 1)
    options = ["--size", 32, "--style-layers", "conv1_1", "--content-layers", "conv1_1"]
    command = ["compare", content, style, "-o", folder, *options, "--steps", 1]
    before = (folder / NAMES.picture).read_bytes()
    code, out, err = nstx(*command)
    assert (code, out, err.count("\n")) == (7, "", 1)
    assert (folder / NAMES.picture).read_bytes() == before
    change(folder, result={})
    code, out, err = nstx(*command)
    assert (code, "a file that no comparison wrote" in err) == (7, True)
    assert "\x1b" not in err
