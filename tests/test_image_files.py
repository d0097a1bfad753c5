"""Writing pictures: every format, whole or not at all."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import frame_count, random_pixels
from PIL import Image

from nstx.engine.drawing.animation import check_animation, write_animation
from nstx.engine.formats.encoders import encode_samples
from nstx.engine.pictures import writing as image_files
from nstx.engine.pictures.picture import Picture, Pixels
from nstx.engine.pictures.reading import read_image
from nstx.engine.pictures.writing import SUFFIXES, check_output_size, encode_image, write_image
from nstx.engine.transfer.progress import FrameCollector, Step
from nstx.models.cost import Cost
from nstx.models.errors import ImageError, OutputError, UsageError
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


UNIT = np.linspace(0, 1, 12 * 20 * 3).reshape(12, 20, 3)


@pytest.mark.parametrize(
    ("path", "picture", "message"),
    [
        ("p.png", None, "a Picture or an array of pixels, got None; try result.picture"),
        ("p.png", "b.jpg", "an array of pixels, got 'b.jpg'; try"),
        ("p.png", [[1, 2]], "an array of pixels, got a value of type list; try"),
        (UNIT, "p.png", "path, got a value of type ndarray; try path='out.png'"),
        (Picture(UNIT.astype("u1"), None), "p.png", "path, got a value of type Picture; try"),
        (None, UNIT, "path, got None; try"),
        (b"p.png", UNIT, "path, got a value of type bytes; try"),
        ("p.png", UNIT, r"the scale 0–255, got values of 0 … 1; try pixels \* 255"),
        ("p.npy", UNIT - 0.4, r"0–255, got values of -0.4 … 0.6; try pixels \* 255"),
        ("p.png", (UNIT * 65535).astype("u2"), "0–255, got values of 0 … 65535; try pixels / 257"),
        ("p.png", UNIT * 1e6, r"0–255 in an array, got values of 0 … 1e\+06; try"),
        ("p.png", np.where(UNIT > 0.5, np.nan, 200), "finite numbers in an array, got NaN"),
        ("p.png", np.where(UNIT > 0.5, np.inf, 200), "finite numbers in an array, got NaN"),
        ("p.png", UNIT[0], r"numbers \(height, width, 3\), got float64 \(20, 3\); try"),
        ("p.png", UNIT[:0], r"numbers \(height, width, 3\), got float64 \(0, 20, 3\); try"),
        ("p.png", UNIT > 0.5, "numbers .* got bool"),
        ("p.png", UNIT.astype(complex), "numbers .* got complex128"),
        ("p.png", UNIT.astype(object), "numbers .* got object"),
    ],
    ids=str,
)
def test_what_cannot_be_written_is_one_line_of_nstx(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Any, picture: Any, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((UsageError, ImageError), match=f"^expected .*{message}") as caught:
        write_image(path, picture)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["u1", "f8", "i8", "f2", ">f4"])
def test_arrays_of_any_number_are_written(tmp_path: Path, kind: str) -> None:
    pixels = np.rint(UNIT * 255)
    write_image(tmp_path / "p.png", pixels.astype(kind))
    np.testing.assert_array_equal(read_image(tmp_path / "p.png").pixels, pixels)
    write_image(tmp_path / "p.png", np.rint(pixels / 50).astype(kind))
    assert read_image(tmp_path / "p.png").pixels.max() == 5
    write_image(tmp_path / "p.png", np.zeros((9, 9, 3), kind))
    assert read_image(tmp_path / "p.png").pixels.max() == 0


def test_grey_and_rgba_arrays_are_written(tmp_path: Path) -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_image(tmp_path / "p.png", grey)  # type: ignore[arg-type]
    np.testing.assert_array_equal(read_image(tmp_path / "p.png").pixels[..., 1], grey)
    write_image(tmp_path / "p.png", np.dstack([grey] * 4))
    np.testing.assert_array_equal(read_image(tmp_path / "p.png").alpha, grey)


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


def _kinds_of_samples() -> dict[str, tuple[np.ndarray[Any, Any], bool]]:
    """Pictures, and whether a PNG of them is searched for runs alone: large ones with nothing that repeats."""
    noise = random_pixels(1000, 1000, seed=0).astype(np.uint8)
    return {
        "noise": (noise, True),
        "transparent": (np.concatenate([noise, noise[..., :1]], axis=-1), True),
        "grey": (noise[..., 0], True),
        "tiles": (np.tile(noise[:50, :50], (20, 20, 1)), False),
        "small": (noise[:900], False),
    }


@pytest.mark.parametrize("kind", _kinds_of_samples())
def test_a_large_png_without_repetitions_is_searched_for_runs_alone(kind: str) -> None:
    samples, is_fast = _kinds_of_samples()[kind]
    data, usual = encode_samples(samples, "PNG", {}), io.BytesIO()
    Image.fromarray(samples).save(usual, format="PNG")
    assert (data == usual.getvalue()) is not is_fast
    assert len(data) <= 1.05 * len(usual.getvalue())
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(np.asarray(image), samples)
