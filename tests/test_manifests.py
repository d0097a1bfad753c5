"""Manifests: what the file of a result says of its run."""

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import random_pixels
from PIL import Image

import nstx
from nstx.engine.devices.device import Device
from nstx.engine.formats.comment import LONGEST_COMMENT, find_comment
from nstx.engine.manifests.pictures import describe_picture
from nstx.engine.pictures.picture import Picture
from nstx.engine.pictures.reading import read_image
from nstx.engine.pictures.writing import DEEP_SUFFIXES, SUFFIXES, write_image
from nstx.engine.settings import OF_THIS_MACHINE
from nstx.models.printable import last_part

Nstx = Callable[..., tuple[int, str, str]]

TINY: dict[str, Any] = {
    "size": 32, "steps": 2, "style_layers": "conv1_1", "content_layers": "conv1_2", "device": "cpu",
    "precision": "fp32", "threads": 1,
}  # fmt: skip


@pytest.fixture
def files(save_picture: Callable[..., Path]) -> tuple[Path, Path]:
    return save_picture("content.png", 33, 40), save_picture("style.png", 30, 40, seed=1)


def manifest_in(path: Path) -> Any:
    """Return the manifest in a picture's file; None without one."""
    with Image.open(
        io.BytesIO(path.read_bytes()), formats=["PNG", "JPEG", "WEBP", "AVIF", "TIFF"]
    ) as image:
        text = find_comment(image)
    return None if text is None else json.loads(text)


def test_a_result_carries_its_run_and_no_path(files: tuple[Path, Path], tmp_path: Path) -> None:
    content, style = files
    result = nstx.stylize(content, [(style, 2.0), style], **TINY)
    result.save(tmp_path / "out.png")
    manifest = manifest_in(tmp_path / "out.png")
    assert [(item["role"], item["path"], item["weight"]) for item in manifest["inputs"]] == [
        ("content", "content.png", None), ("style", "style.png", 2.0), ("style", "style.png", 1.0),
    ]  # fmt: skip
    assert manifest["inputs"][0]["sha256"] == nstx.read_image(content).file_sha256
    assert manifest["version"] == nstx.__version__
    assert manifest["complete"] is True
    assert manifest["saved"] == {"depth": 8, "keep_profile": False}
    assert str(tmp_path) not in json.dumps(manifest)
    named = {field.name for field in dataclasses.fields(nstx.Settings)} - {*OF_THIS_MACHINE}
    assert manifest["settings"].keys() == named
    result.save(tmp_path / "without.png", manifest=False)
    assert manifest_in(tmp_path / "without.png") is None
    carrying, bare = (read_image(tmp_path / name) for name in ("out.png", "without.png"))
    np.testing.assert_array_equal(carrying.pixels, bare.pixels)
    nstx.write_image(tmp_path / "again.png", result.picture)
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "out.png").read_bytes()


def test_equal_runs_give_equal_files_in_any_folder_and_without_a_cache(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    content, style = files
    (tmp_path / "other").mkdir()
    others = [path.rename(tmp_path / "other" / path.name) for path in map(_copy, files)]
    nstx.stylize(content, style, **TINY).save(tmp_path / "a.png")
    nstx.stylize(others[0], others[1], **TINY, use_cache=False).save(tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def _copy(path: Path) -> Path:
    copy = path.parent / "copies" / path.name
    copy.parent.mkdir(exist_ok=True)
    copy.write_bytes(path.read_bytes())
    return copy


_WAYS = [
    (suffix, depth)
    for suffix in SUFFIXES
    for depth in (8, 16)
    if suffix in DEEP_SUFFIXES or depth == 8
    if suffix != ".npy"
]


@pytest.mark.parametrize(("suffix", "depth"), _WAYS)
def test_every_format_carries_a_manifest_beside_the_same_pixels(
    suffix: str, depth: Any, tmp_path: Path
) -> None:
    pixels = random_pixels(24, 37, 5)
    alpha = np.full((24, 37), 128, np.uint8) if suffix not in (".jpg", ".jpeg") else None
    manifest = {"text": "naïve \U0001f600 " * 20}
    written = [tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"]
    write_image(written[0], Picture(pixels, alpha, manifest=manifest), depth=depth)
    write_image(written[1], Picture(pixels, alpha), depth=depth)
    read = [read_image(path) for path in written]
    np.testing.assert_array_equal(read[0].pixels, read[1].pixels)
    assert manifest_in(written[0])["text"] == manifest["text"]
    assert manifest_in(written[1]) is None
    assert read[0].manifest is None


def test_numbers_carry_none_and_what_is_too_long_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = random_pixels(16, 16, 5)
    write_image(tmp_path / "a.npy", Picture(pixels, None, manifest={"a": 1}))
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), pixels)
    for length, is_there in ((LONGEST_COMMENT - 60, True), (LONGEST_COMMENT, False)):
        write_image(tmp_path / "a.jpg", Picture(pixels, None, manifest={"a": "x" * length}))
        assert (manifest_in(tmp_path / "a.jpg") is not None) == is_there
    assert [record.message for record in caplog.records] == [
        "the picture carries no manifest, as that is too long; try fewer styles"
    ]


@pytest.mark.parametrize("path", ["/a/b/c.png", "c.png", "C:\\a\\c.png", "/a/d:c.png", "a\\c.png"])
def test_of_a_path_the_last_part_is_told(path: str) -> None:
    assert last_part(path) == "c.png"


def test_what_is_written_on_the_way_carries_none(
    nstx: Nstx, files: tuple[Path, Path], tmp_path: Path
) -> None:
    tiny = ("--size", 32, "--steps", 2, "--style-layers", "conv1_1", "--content-layers", "conv1_2")
    ways = ("--save-every", 1, "--save-init", tmp_path / "i.png", "--watch", tmp_path / "w.png")
    assert nstx("optimize", *files, "-o", tmp_path / "o.png", *tiny, *ways)[0] == 0
    carries = {path.name: manifest_in(path) is not None for path in tmp_path.glob("?*.png")}
    del carries["content.png"], carries["style.png"]
    assert carries == {
        "o.png": True, "o_0001.png": False, "o_0002.png": False, "i.png": False, "w.png": False,
    }  # fmt: skip
    assert nstx("optimize", *files, "-o", tmp_path / "n.png", *tiny, "--no-manifest")[0] == 0
    assert manifest_in(tmp_path / "n.png") is None


def test_on_a_device_it_does_not_matter_how_many_threads_a_host_has(
    files: tuple[Path, Path],
) -> None:
    """A worker of a batch has others than a run alone; but the host adds up what comes by tiles."""
    content, style = files
    job = nstx.prepare_job(content, [(style, 1.0)], **TINY)
    choice = dataclasses.replace(job.opened.choice, device=Device("cuda"))
    elsewhere = dataclasses.replace(job, opened=dataclasses.replace(job.opened, choice=choice))
    settings = dataclasses.replace(job.settings, tile=64)
    by_tiles = dataclasses.replace(elsewhere, settings=settings)
    threads = [
        describe_picture(run, is_complete=True)["settings"]["threads"]
        for run in (job, elsewhere, by_tiles)
    ]
    assert threads == [1, None, 1]
