"""Masks, maps and starts too large to be held whole, and what is evaluated and compared beside such pictures."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from comparisons import draw_little
from large import lower_bounds
from numpy.typing import NDArray
from PIL import Image

import nstx as library
from nstx.engine.pictures import picture
from nstx.engine.pictures.picture import Picture
from nstx.engine.pictures.reading import read_image
from nstx.engine.preparation.inputs import read_start, take_content
from nstx.engine.regions import maps
from nstx.engine.regions.maps import take_map
from nstx.engine.regions.masks import fit_mask, take_mask
from nstx.engine.streaming import reduced
from nstx.engine.streaming.reduced import Fit
from nstx.engine.targets.paintings import take_painting
from nstx.models.errors import ImageError, UsageError

SIZE, OWN = (17, 23), (61, 83)
FIT = Fit(size=lambda _: SIZE, allowed=True)
CONTENT = Picture(np.zeros((*SIZE, 3), np.uint8), None)
RED, BLUE = (255, 0, 0), (0, 0, 255)
LIGHT: Any = {
    "content_layers": "conv1_2", "style_layers": "conv1_1", "size": 24, "steps": 2, "scales": 1, "threads": 1, "clean": False,
    "device": "cpu", "precision": "fp32",
}  # fmt: skip

Save = Callable[[Path, NDArray[Any]], None]


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    lower_bounds(monkeypatch)


def draw_mask() -> NDArray[np.uint8]:
    """Return a disc with a soft edge."""
    rows, columns = np.mgrid[: OWN[0], : OWN[1]]
    edge = 25 - np.hypot(rows - 30, columns - 50)
    mask: NDArray[np.uint8] = (255 * (edge / 6).clip(0, 1)).astype(np.uint8)
    return mask


def draw_map() -> NDArray[np.uint8]:
    """Return a red map with a blue disc."""
    drawn = np.empty((*OWN, 3), np.uint8)
    drawn[:] = RED
    drawn[draw_mask() > 127] = BLUE
    return drawn


def by_pillow(mode: str = "", **options: Any) -> Save:
    def save(path: Path, values: NDArray[Any]) -> None:
        image = Image.fromarray(values)
        (image.convert(mode) if mode else image).save(path, **options)

    return save


def by_tifffile(**options: Any) -> Save:
    def save(path: Path, values: NDArray[Any]) -> None:
        kind = "rgb" if values.ndim == 3 else "minisblack"
        tifffile.imwrite(path, values, photometric=kind, **options)

    return save


def in_16_bits(path: Path, mask: NDArray[Any]) -> None:
    by_tifffile(rowsperstrip=7)(path, mask.astype(np.uint16) * 257)


def in_alpha(path: Path, mask: NDArray[Any]) -> None:
    by_pillow()(path, np.dstack([np.full((*OWN, 3), 255, np.uint8), mask]))


def mixed(path: Path, mask: NDArray[Any]) -> None:
    """Save a mask as the grey of a picture that is as opaque as it is."""
    by_pillow()(path, np.dstack([np.full((*OWN, 3), 250, np.uint8), mask]))


MASKS: dict[str, tuple[str, Save]] = {
    "png": ("a.png", by_pillow()),
    "png rgb": ("a.png", by_pillow("RGB")),
    "png palette": ("a.png", by_pillow("P")),
    "png 1 bit": ("a.png", by_pillow("1")),
    "png alpha": ("a.png", in_alpha),
    "tiff alpha": ("a.tif", mixed),
    "tiff strips": ("a.tif", by_pillow(compression="tiff_lzw")),
    "tiff tiles": ("a.tif", by_tifffile(tile=(16, 16), compression="zlib")),
    "tiff 16 bits": ("a.tif", in_16_bits),
    "bigtiff": ("a.tif", by_tifffile(bigtiff=True)),
}


@pytest.mark.parametrize("kind", MASKS)
def test_a_large_mask_is_that_which_is_read_whole_and_resized(kind: str, tmp_path: Path) -> None:
    name, save = MASKS[kind]
    save(tmp_path / name, draw_mask())
    taken = take_mask(tmp_path / name, CONTENT, FIT)
    whole = take_mask(read_image(tmp_path / name), CONTENT)
    assert taken.values is not None
    assert whole.values is not None
    assert whole.values.shape == OWN
    np.testing.assert_array_equal(taken.values, fit_mask(whole.values, *SIZE))
    assert taken.file == whole.file


def test_a_large_mask_in_jpeg_is_nearly_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reduced, "MOST_PIXELS", 2000)  # as its decoder holds a half
    path = tmp_path / "a.jpg"
    by_pillow(quality=95)(path, draw_mask())
    values = take_mask(path, CONTENT, FIT).values
    whole = take_mask(read_image(path), CONTENT).values
    assert values is not None
    assert whole is not None
    assert np.abs(values - fit_mask(whole, *SIZE).astype(float)).mean() < 6  # of 255


MAPS: dict[str, tuple[str, Save]] = {
    "png": ("a.png", by_pillow()),
    "png palette": ("a.png", by_pillow("P")),
    "tiff strips": ("a.tif", by_pillow(compression="tiff_deflate")),
    "tiff tiles": ("a.tif", by_tifffile(tile=(16, 16))),
}


@pytest.mark.parametrize("kind", MAPS)
def test_a_large_map_keeps_its_colours_unmixed(kind: str, tmp_path: Path) -> None:
    name, save = MAPS[kind]
    save(tmp_path / name, draw_map())
    taken = take_map(tmp_path / name, CONTENT, {BLUE: "blue"}, FIT)
    whole = take_map(read_image(tmp_path / name), CONTENT, {BLUE: "blue"})
    rows, columns = (
        np.floor((np.arange(new) + 0.5) * old / new).astype(int)
        for new, old in zip(SIZE, OWN, strict=True)
    )
    assert taken.colours == whole.colours == (BLUE, RED)
    np.testing.assert_array_equal(taken.labels, whole.labels[np.ix_(rows, columns)])
    assert taken.file == whole.file


def test_a_large_transparent_map_has_holes_without_edges(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    by_pillow()(path, np.dstack([draw_map(), np.where(draw_mask() > 127, 255, 0).astype(np.uint8)]))
    taken = take_map(path, CONTENT, {BLUE: "blue"}, FIT)
    assert taken.colours == (BLUE,)
    assert set(np.unique(taken.labels)) == {0, maps.NONE}


def test_a_large_map_in_jpeg_has_the_colours_that_fill_areas(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    by_pillow(quality=90)(path, draw_map())
    colours = take_map(path, CONTENT, {BLUE: "blue", RED: "red"}, FIT).colours
    assert colours == (BLUE, RED)


def test_a_large_map_is_bounded_whatever_its_colours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maps, "_MOST_PIXELS", 2000)
    wide = Fit(size=lambda own: (3 * own[0], 3 * own[1]), allowed=True)
    by_pillow()(tmp_path / "a.png", draw_map())
    height, width = take_map(tmp_path / "a.png", CONTENT, {RED: "red"}, wide).labels.shape
    assert 1900 < height * width <= 2000
    noise = np.random.default_rng(0).integers(0, 256, (90, 122, 3), np.uint8)
    by_pillow()(tmp_path / "b.png", noise)
    with pytest.raises(UsageError, match="none that fill an area"):
        take_map(tmp_path / "b.png", CONTENT, {RED: "red"}, wide)
    by_pillow()(tmp_path / "c.png", noise.repeat(8, 0).repeat(8, 1))
    monkeypatch.setattr(maps, "_MOST_PIXELS", 2**16)
    with pytest.raises(UsageError, match="at most 63 flat colours, got more"):
        take_map(tmp_path / "c.png", CONTENT, {tuple(noise[0, 0].tolist()): "first"}, wide)


def test_proportions_are_those_of_the_files(tmp_path: Path) -> None:
    content, mask = tmp_path / "c.png", tmp_path / "m.png"
    by_pillow("RGB")(content, draw_mask())
    by_pillow()(mask, draw_mask())
    square = library.choose_settings(width=20, height=20)
    picture = take_content(content, square)
    assert (picture.size, picture.own_size) == ((20, 20), OWN)
    fit = Fit(size=lambda _: (20, 20), allowed=True)
    values = take_mask(mask, picture, fit).values
    assert values is not None
    assert values.shape == (20, 20)
    by_pillow()(tmp_path / "other.png", draw_mask()[:, :-6])
    for take in (lambda path: take_mask(path, picture, fit), lambda path: take_map(path, picture, {}, fit)):  # fmt: skip
        with pytest.raises(UsageError, match="proportions, 83×61, got 77×61 in"):
            take(tmp_path / "other.png")


def test_a_mask_is_measured_some_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = np.dstack([draw_map(), draw_mask()])
    content = Picture(np.zeros((*OWN, 3), np.uint8), None)
    whole = take_mask(drawn, content).values
    assert whole is not None
    monkeypatch.setattr(picture, "_BAND", 300)
    np.testing.assert_array_equal(take_mask(drawn, content).values, whole)


def test_proportions_are_compared_before_pixels_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("L", (10, 400)).save(path)
    data = bytearray(path.read_bytes())
    data[-13] ^= 1  # of the checksum of its pixels
    path.write_bytes(data)
    with pytest.raises(UsageError, match="proportions, 23×17, got 10×400 in"):
        take_mask(path, CONTENT, FIT)
    with pytest.raises(UsageError, match="proportions, 23×17, got 10×400 in"):
        take_map(path, CONTENT, {}, FIT)


def test_a_painting_has_a_large_mask(tmp_path: Path) -> None:
    painting, mask = tmp_path / "a.png", tmp_path / "m.png"
    by_pillow()(painting, draw_map())
    by_pillow()(mask, draw_mask())
    whole = take_mask(read_image(mask), CONTENT).values
    assert whole is not None
    taken = take_painting(f"{painting}@{mask}", FIT)
    assert taken.size == SIZE
    assert taken.alpha is not None
    np.testing.assert_array_equal(taken.alpha, fit_mask(whole, *SIZE))
    small = tmp_path / "b.png"
    Image.fromarray(draw_map()).resize((35, 26)).save(small)  # of no more pixels than any may have
    assert take_painting(f"{small}@{mask}", FIT).size == (26, 35)
    with pytest.raises(ImageError, match="got 83×61; try "):
        take_painting(f"{small}@{mask}")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A large photograph, painting, mask, map and start, and a small result."""
    noise = np.random.default_rng(1).integers(0, 256, (4, 61, 83, 3), np.uint8)
    values = {
        "content.png": noise[0], "style.tif": noise[1], "start.png": noise[2], "mask.png": draw_mask(),
        "map.png": draw_map(), "result.png": noise[3, :18, :24],
    }  # fmt: skip
    for name, pixels in values.items():
        Image.fromarray(pixels).save(tmp_path / name)
    return {Path(name).stem: tmp_path / name for name in values}


def test_a_run_of_large_files_goes_on_to_the_same_picture(
    files: dict[str, Path], tmp_path: Path
) -> None:
    def run(**options: Any) -> library.Result:
        painting = f"{files['style']}@{files['mask']}"
        return library.stylize(
            files["content"], painting, init=files["start"], mask=files["mask"], regions=files["map"],
            style_for={"blue": str(files["style"])}, **LIGHT, **options,
        )  # fmt: skip

    whole = run()
    steps: list[Any] = []
    run(checkpoint=tmp_path / "k", on_step=steps.append, should_stop=lambda: bool(steps))
    resumed = library.resume(tmp_path / "k")
    assert resumed.steps == whole.steps == 2
    np.testing.assert_array_equal(resumed.pixels, whole.pixels)


def test_a_large_start_needs_a_size(files: dict[str, Path]) -> None:
    settings = library.choose_settings(size=24, init=files["start"])
    start = read_start(settings, SIZE)
    assert start is not None
    assert (start.size, start.own_size) == (SIZE, OWN)
    with pytest.raises(ImageError, match="got 83×61; try --size, or --large"):
        read_start(library.choose_settings(init=files["start"]), SIZE)


def test_a_picture_is_evaluated_beside_large_ones_and_is_none_but_at_a_size(
    files: dict[str, Path], nstx: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = [
        "--content", files["content"], "--style", f"{files['style']}@{files['mask']}", "--mask", files["mask"],
        "--regions", files["map"], "--style-for", f"blue={files['style']}", "--content-layers", "conv1_2",
        "--style-layers", "conv1_1", "--artefacts",
    ]  # fmt: skip
    code, out, err = nstx("evaluate", files["result"], *named, "--json")
    assert code == 0, err
    assert json.loads(out)["cost"]["total"] > 0
    code, _, err = nstx("evaluate", files["start"], *named)
    assert code == 3
    assert "got 83×61; try nstx evaluate --size 2000, or a smaller copy of it" in err
    monkeypatch.setenv("NSTX_SIZE", "20")  # of results
    for name, size, more in (
        ("start", (29, 40), ["--size", 40]),
        ("result", (18, 24), ["--size", 40]),
        ("result", (17, 23), ["--size", 23]),
        ("result", (18, 24), []),
    ):
        code, out, err = nstx("evaluate", files[name], *named[:6], *named[10:-1], "--json", *more)
        assert code == 0, err
        figures = json.loads(out)
        assert (figures["height"], figures["width"]) == size


def test_large_files_are_compared(
    files: dict[str, Path], nstx: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_little(monkeypatch)
    command = [
        "compare", files["content"], f"{files['style']}@{files['mask']}", "-o", tmp_path / "runs", "--mask",
        files["mask"], "--regions", files["map"], "--style-for", f"blue={files['style']}", 
        "--style-layers", "conv1_1", "--content-layers", "conv1_2", "--init", files["start"], "--steps", 1,
    ]  # fmt: skip
    code, _, err = nstx(*command)
    assert code == 3
    assert "try --size, or --large" in err
    code, out, err = nstx(*command, "--size", 28, "--json")
    assert code == 0, err
    data = json.loads(out)
    assert len(data["made"]) == 1
    assert {item["role"] for item in data["inputs"]} == {"content", "style", "mask", "regions", "init"}  # fmt: skip
