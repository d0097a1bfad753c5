"""Large results: written some rows at a time, with the pixels that they would have otherwise."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from profiles import ADOBE

from nstx.engine.formats import row_writers
from nstx.engine.pictures import writing
from nstx.engine.pictures.picture import Encoding, Picture
from nstx.engine.pictures.reading import read_image
from nstx.engine.pictures.writing import write_image
from nstx.models.errors import OutputError

SIZE = (61, 47)


@pytest.fixture
def small_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all pictures be large, and bands have some rows."""
    monkeypatch.setattr(writing, "_MOST_AT_ONCE", 0)
    monkeypatch.setattr(row_writers, "_PIECE", 700)
    monkeypatch.setattr(row_writers, "_TILE", 16)


def picture(*, opaque: bool, profile: bytes | None = None) -> Picture:
    rng = np.random.default_rng(1)
    pixels = rng.uniform(-9, 264, (*SIZE, 3)).astype(np.float32)
    alpha = None if opaque else rng.integers(0, 256, SIZE, dtype=np.uint8)
    return Picture(
        pixels, alpha, encoding=Encoding(depth=16, profile=profile), manifest={"version": "1"}
    )


@pytest.mark.parametrize("opaque", [True, False])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("saving", [{}, {"keep_profile": True}, {"in_haste": True}])
def test_a_large_picture_is_written_with_the_same_pixels(
    suffix: str, depth: Any, opaque: bool, saving: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    whole = picture(opaque=opaque, profile=ADOBE)
    write_image(tmp_path / f"a{suffix}", whole, depth=depth, **saving)
    monkeypatch.setattr(writing, "_MOST_AT_ONCE", 0)
    monkeypatch.setattr(writing, "_MOST_IN_HASTE", 0)
    monkeypatch.setattr(row_writers, "_PIECE", 700)
    monkeypatch.setattr(row_writers, "_TILE", 16)
    write_image(tmp_path / f"b{suffix}", whole, depth=depth, **saving)
    before, after = (read_image(tmp_path / f"{name}{suffix}") for name in "ab")
    assert before.file_sha256 != after.file_sha256
    if "in_haste" in saving:  # uncompressed
        stored = whole.height * whole.width * (3 if opaque else 4) * depth // 8
        assert (tmp_path / f"b{suffix}").stat().st_size >= stored
    np.testing.assert_array_equal(before.pixels, after.pixels)
    assert (before.alpha is None) is opaque is (after.alpha is None)
    if before.alpha is not None and after.alpha is not None:
        np.testing.assert_array_equal(before.alpha, after.alpha)
    assert before.encoding == after.encoding
    with Image.open(tmp_path / f"a{suffix}") as one, Image.open(tmp_path / f"b{suffix}") as other:
        assert one.mode == other.mode
        assert _comment(one) == _comment(other)


def _comment(image: Image.Image) -> object:
    exif = image.getexif()
    return exif.get_ifd(0x8769).get(0x9286, exif.get(0x9286))


@pytest.mark.usefixtures("small_bands")
def test_a_tiff_beyond_four_gib_is_a_bigtiff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for most, is_big in ((2**32, False), (10, True)):
        monkeypatch.setattr(row_writers, "_MOST_CLASSIC", most)
        write_image(tmp_path / "a.tif", picture(opaque=True), depth=8)
        with tifffile.TiffFile(tmp_path / "a.tif") as file:
            assert file.is_bigtiff is is_big
        assert read_image(tmp_path / "a.tif").size == SIZE


@pytest.mark.usefixtures("small_bands")
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_large_picture_that_cannot_be_written_replaces_nothing(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"before")
    bands = row_writers.Rows.bands

    def fail(self: row_writers.Rows, rows: int) -> Any:
        yield next(bands(self, rows))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(row_writers.Rows, "bands", fail)
    with pytest.raises(OutputError, match="No space left"):
        write_image(path, picture(opaque=True))
    assert path.read_bytes() == b"before"
    assert [item.name for item in tmp_path.iterdir()] == [path.name]
