"""Writing pictures: every format, whole or not at all."""

from pathlib import Path

import numpy as np
import pytest
from pictures import frame_count, random_pixels
from PIL import Image

from nstx.engine.drawing.animation import check_animation, write_animation
from nstx.engine.pictures import writing as image_files
from nstx.engine.pictures.picture import Pixels
from nstx.engine.pictures.reading import read_image
from nstx.engine.pictures.writing import SUFFIXES, check_output_size, encode_image, write_image
from nstx.engine.transfer.progress import FrameCollector, Step
from nstx.models.cost import Cost
from nstx.models.errors import OutputError
from nstx.models.storage.files import check_output


def step_of(number: int, pixels: Pixels) -> Step:
    cost = Cost(total=1.0, content=1.0, style=0.0, total_variation=0.0)
    return Step(
        step=number, steps=200, scale=1, scales=1, cost=cost, evaluations=number, seconds=0.1,
        picture=pixels,
    )  # fmt: skip


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".npy"])
def test_lossless_formats_give_back_what_was_written(tmp_path: Path, suffix: str) -> None:
    pixels = random_pixels(21, 33, 0)
    write_image(tmp_path / f"p{suffix}", pixels)
    expected = pixels if suffix == ".npy" else np.rint(pixels)
    np.testing.assert_array_equal(read_image(tmp_path / f"p{suffix}").pixels, expected)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp", ".avif", ".JPG"])
def test_lossy_formats_come_close(tmp_path: Path, suffix: str) -> None:
    pixels = random_pixels(64, 64, 0)
    write_image(tmp_path / f"p{suffix}", pixels)
    difference = read_image(tmp_path / f"p{suffix}").pixels.astype(np.float32) - pixels
    assert np.sqrt(np.mean(difference**2)) < 12


def test_equal_pixels_give_equal_bytes() -> None:
    pixels = random_pixels(21, 33, 0)
    for suffix in image_files.SUFFIXES:
        assert encode_image(pixels, suffix) == encode_image(pixels.copy(), suffix)


def test_values_outside_the_range_are_clipped_when_they_are_rounded(tmp_path: Path) -> None:
    pixels = np.full((12, 12, 3), -40.0, np.float32)
    pixels[6:] = 300
    write_image(tmp_path / "p.png", pixels)
    assert set(np.unique(read_image(tmp_path / "p.png").pixels)) == {0, 255}


def test_a_failed_write_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.png"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nstx.models.storage.cache.os.fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_image(path, random_pixels(12, 12, 0))
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["p.png"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out", "ends in"),
        ("out.bmp", "ends in"),
        ("missing/out.png", "mkdir"),
        ("folder.png", "folder"),
    ],
)
def test_outputs_that_cannot_be_are_refused_beforehand(
    tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OutputError, match=message):
        check_output(tmp_path / name, SUFFIXES)


def test_a_size_that_the_format_cannot_hold_is_refused_beforehand() -> None:
    check_output_size(Path("p.png"), 20000, 20000)
    with pytest.raises(OutputError, match="16383"):
        check_output_size(Path("p.webp"), 20000, 100)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animation_has_its_frames_and_ends_with_the_result(tmp_path: Path, suffix: str) -> None:
    collector = FrameCollector(100)
    for step in range(1, 101):
        side = 24 if step <= 50 else 48
        collector.take(step_of(step, np.full((side, side, 3), step * 2.0, np.float32)))
    frames = collector.finish(np.full((48, 48, 3), 250.0, np.float32))
    assert 40 < len(frames) <= 61
    assert {frame.shape for frame in frames} == {(48, 48, 3)}
    path = tmp_path / f"a{suffix}"
    write_animation(path, frames)
    with Image.open(path) as image:
        assert frame_count(image) > 40
        image.seek(frame_count(image) - 1)
        assert abs(np.asarray(image.convert("RGB")).mean() - 250) < 3


def test_animation_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"\.gif"):
        check_animation(tmp_path / "a.avi")


def test_a_name_of_the_greatest_length_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 251 + ".png")
    write_image(path, random_pixels(12, 12, 0))
    assert path.is_file()
