"""Several regions with a style each: maps of colours, what becomes of them, and what has to be the same as before."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from devices import ACCELERATED, DEVICES, PLACES, most_error
from pictures import random_pixels
from PIL import Image, ImageFilter

import nstx as library
from nstx.cli.optimize.keeping import _read_styles_for
from nstx.engine.gradients.gated import GatedBackend
from nstx.engine.pictures import picture
from nstx.engine.pictures.picture import Picture
from nstx.engine.pictures.transparency import with_alpha
from nstx.engine.regions.maps import NONE, Colour, read_colour, take_map
from nstx.engine.targets.sealed_arrays import pack_arrays, read_bytes, unpack_arrays
from nstx.models.errors import UsageError
from nstx.models.storage.files import write_output

Nstx = Callable[..., tuple[int, str, str]]

# A cost of the network's first layers alone.
LIGHT: Any = {
    "content_layers": "conv2_1",
    "style_layers": "conv1_1,conv2_1",
    "size": 64,
    "scales": 1,
    "steps": 2,
    "device": "cpu",
    "precision": "fp32",
    "threads": 1,
}
CONTENT = random_pixels(48, 64, 0).round().astype(np.uint8)
STYLES = [
    (0.5 * random_pixels(40, 40, seed) + 50 * seed).round().astype(np.uint8) for seed in (1, 2)
]
RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def draw_map(*colours: Colour, height: int = 48, width: int = 64) -> np.ndarray:
    """Return a map of upright bands."""
    bands = np.arange(width) * len(colours) // width
    return np.repeat(np.array(colours, np.uint8)[bands][None], height, 0)


BANDS = draw_map(RED, BLUE, WHITE)


def stylize(content: Any = CONTENT, styles: Any = (), **choices: Any) -> library.Result:
    return library.stylize(content, styles, **{**LIGHT, **choices})


def through_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def blurred(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(1.5)))


@pytest.mark.parametrize(
    "change",
    [lambda x: x, blurred, lambda x: through_jpeg(x, 50), lambda x: through_jpeg(x, 95)],
    ids=["exact", "blurred", "jpeg", "good jpeg"],
)
def test_colours_are_told_apart_however_a_map_was_saved(
    change: Callable[[np.ndarray], np.ndarray],
) -> None:
    content = Picture(CONTENT, None)
    drawn = draw_map(RED, WHITE, (0, 128, 0), (0, 0, 0), height=192, width=256)
    named = {(0, 128, 0): "green", RED: "red"}
    read = take_map(change(drawn), content, named)
    assert read.colours[:2] == ((0, 128, 0), RED)
    assert len(read.colours) == 4
    nearest = np.array(read.colours)[read.labels]
    assert (np.abs(nearest.astype(int) - drawn).max(2) > 40).mean() < 0.03
    assert np.abs(np.array(sorted(read.colours[2:])) - [[0] * 3, [255] * 3]).max() < 8


def test_thin_lines_of_other_colours_and_single_pixels_of_named_ones() -> None:
    drawn = draw_map(RED, WHITE)
    drawn[:, 31:33] = (128, 200, 128)
    drawn[5, 5] = BLUE
    read = take_map(drawn, Picture(CONTENT, None), {RED: "red", BLUE: "blue"})
    assert read.colours == (RED, BLUE, WHITE)
    assert np.argwhere(read.labels == 1).tolist() == [[5, 5]]
    without = take_map(drawn, Picture(CONTENT, None), {RED: "red"})
    assert without.colours == (RED, WHITE)
    alpha = np.full((48, 64), 255, np.uint8)
    alpha[:, 60:] = 0
    cut = take_map(with_alpha(drawn, alpha), Picture(CONTENT, None), {RED: "red"})
    assert (cut.labels[:, 60:] == NONE).all()
    assert (cut.labels[:, :60] != NONE).all()


def test_a_map_is_looked_at_some_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    pixels = draw_map(RED, BLUE, WHITE, (250, 5, 5))
    pixels = np.where(rng.random((48, 64, 1)) < 0.02, rng.integers(0, 256, (48, 64, 3)), pixels)
    drawn = with_alpha(pixels.astype(np.uint8), rng.integers(90, 256, (48, 64)).astype(np.uint8))
    content = Picture(CONTENT, None)
    whole = take_map(drawn, content, {BLUE: "blue"})
    assert whole.colours[0] == BLUE
    for band in (1, 200, 3000):
        monkeypatch.setattr(picture, "_BAND", band)
        part = take_map(drawn, content, {BLUE: "blue"})
        assert part.colours == whole.colours
        np.testing.assert_array_equal(part.labels, whole.labels)


def test_colours_have_names_and_numbers() -> None:
    assert {read_colour(text) for text in ("red", "#f00", "#FF0000", "ff0000", "f00")} == {RED}
    with pytest.raises(UsageError, match="expected a colour as a name or #rrggbb, got 'redd'"):
        read_colour("redd")


@pytest.mark.parametrize(
    ("choices", "setting", "message"),
    [
        ({"style_for": {"lime": 0}}, "regions", r"got lime, where there are #ff0000 \(34.4%\), #ffffff"),
        ({"style_for": {"nocolour": 0}}, None, "expected a colour"),
        ({"style_for": {}}, None, "one or more styles, got none"),
        ({"styles": 0}, "style_for", "expected a style for a colour of the map, got none"),
        ({"regions": None, "style_for": {"red": 0}}, "style_for", "try --regions map.png"),
        ({"regions": BANDS[:, :32], "style_for": {"red": 0}}, "regions", "expected a map of the content's"),
        ({"regions": CONTENT, "style_for": {"red": 0}}, "regions", "there are none that fill an area"),
        ({"mask": 255 * (BANDS[..., 0] == 0).astype(np.uint8), "style_for": {"red": 0, "blue": 1}}, "mask", "leaves nothing of #ff0000"),
        ({"colors": "only", "style_for": {"red": 0, "blue": 1}}, "colors", "expected one region for colours alone"),
    ],
)  # fmt: skip
def test_maps_that_cannot_be_are_refused(
    choices: dict[str, Any], setting: str | None, message: str
) -> None:
    if "styles" in choices:
        choices = {**choices, "styles": STYLES[choices["styles"]]}
    by_colour = {colour: STYLES[place] for colour, place in choices.pop("style_for", {}).items()}
    with pytest.raises(UsageError, match=message) as caught:
        stylize(**{"regions": BANDS, "style_for": by_colour, **choices})
    if setting is not None:
        assert caught.value.setting == setting


def test_a_colour_that_is_transparent_throughout_is_not_there() -> None:
    pixels = np.full((48, 64, 4), 255, np.uint8)
    pixels[:20] = (255, 0, 0, 0)
    with pytest.raises(UsageError, match=r"colours that are in the map .*#ffffff \(58\.3%\)"):
        take_map(pixels, Picture(pixels[..., :3], None), {(255, 0, 0): "red"})
    pixels[..., 3] = 0
    with pytest.raises(UsageError, match="none that fill an area"):
        take_map(pixels, Picture(pixels[..., :3], None), {(255, 0, 0): "red"})


@pytest.mark.parametrize("place", PLACES)
def test_one_region_is_no_region_and_equal_styles_are_one(place: Any) -> None:
    plain = stylize(styles=STYLES, **place)
    everything = stylize(regions=draw_map(RED), style_for={"red": STYLES}, **place)
    alike = stylize(
        regions=BANDS,
        style_for={"red": [(STYLES[0], 2), (STYLES[1], 2)], "#00f": STYLES[::-1]},
        styles=STYLES,
        **place,
    )
    masked = stylize(styles=STYLES[0], mask=255 * (BANDS[..., 1] == 0).astype(np.uint8), **place)
    kept = stylize(regions=BANDS, style_for={"red": STYLES[0], "blue": STYLES[0]}, **place)
    for ours, same in ((everything, plain), (alike, plain), (kept, masked)):
        assert np.array_equal(ours.pixels, same.pixels)
        assert ours.cost == same.cost


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"style_statistic": "mean-std", "colors": "matched"},
        {"scales": 2, "colors": "luminance"},
    ],
    ids=str,
)
def test_each_region_has_its_style_and_the_yardstick_agrees(
    place: Any, choices: dict[str, Any]
) -> None:
    places: Any = {"regions": BANDS, "style_for": {"red": STYLES[0], "blue": STYLES[1]}}
    result = stylize(**places, **choices, **place)
    photograph = stylize(styles=STYLES[0], steps=1, style_weight=0.0)
    assert np.array_equal(result.pixels[:, 45:], photograph.pixels[:, 45:])
    assert (np.abs(result.pixels - photograph.pixels)[:, :40]).mean() > 1
    compared = Picture(result.pixels, None)
    if choices.get("colors") != "luminance":  # whose cost is of greys
        cost = library.evaluate_picture(compared, CONTENT, **places, **{**LIGHT, **choices})
        assert cost.total == pytest.approx(result.cost.total, rel=most_error(place))
    if not choices:
        crossed = {"red": STYLES[1], "blue": STYLES[0]}
        other = library.evaluate_picture(
            compared, CONTENT, regions=BANDS, style_for=crossed, **LIGHT
        )
        assert other.style > 1.05 * cost.style


def test_the_gradient_is_0_outside_all_regions_and_where_each_is_is_its_own() -> None:
    places: Any = {"regions": BANDS, "style_for": {"red": STYLES[0], "blue": STYLES[1]}}
    job = library.prepare_job(CONTENT, **places, **{**LIGHT, "content_weight": 0.0})
    gate = job.gate(0)
    assert gate is not None
    backend = GatedBackend(job.backend(0), [gate], job.opened.arrays)
    pixels = job.start(0) + random_pixels(48, 64, 7)
    _, gradient = backend.cost_and_gradient(pixels)
    assert (gradient[:, 43:] == 0).all()
    other = library.prepare_job(
        CONTENT, regions=BANDS, style_for={"red": STYLES[0], "blue": STYLES[0][::2, ::2]},
        **{**LIGHT, "content_weight": 0.0},
    )  # fmt: skip
    _, changed = other.backend(0).cost_and_gradient(pixels)
    assert np.array_equal(changed[:, :10], gradient[:, :10])
    assert not np.allclose(changed[:, 30:40], gradient[:, 30:40], rtol=1e-2)
    areas = job.targets[0].areas
    assert areas == pytest.approx((22 / 43, 21 / 43), abs=1e-3)


def test_a_region_of_a_few_pixels_is_at_every_layer() -> None:
    drawn = draw_map(WHITE)
    drawn[20, 30:32] = RED
    choices: Any = {**LIGHT, "style_layers": "conv1_1,conv3_1"}
    job = library.prepare_job(
        CONTENT, STYLES[1], regions=drawn, style_for={"red": STYLES[0]}, **choices
    )
    assert job.targets[0].areas == pytest.approx((2 / 3072, 3070 / 3072))
    for shares in job.targets[0].shares.values():
        np.testing.assert_allclose(shares.sum((1, 2)), 1, rtol=1e-5)
    assert job.targets[0].shares["conv3_1"].shape == (2, 12, 16)
    cost, gradient = job.backend(0).cost_and_gradient(job.start(0))
    assert np.isfinite(gradient).all()
    assert cost.style > 0


@pytest.mark.parametrize("place", PLACES)
def test_what_is_transparent_is_in_no_region(place: Any) -> None:
    results = []
    for hidden in (0, 200):
        content = CONTENT.copy()
        content[:, 30:40] = hidden
        alpha = np.full((48, 64), 255, np.uint8)
        alpha[:, 30:40] = 0
        results.append(
            stylize(
                with_alpha(content, alpha), STYLES[1], regions=BANDS, style_for={"red": STYLES[0]},
                **place,
            )
        )  # fmt: skip
    assert np.array_equal(results[0].pixels, results[1].pixels)
    assert results[0].cost == results[1].cost
    with pytest.raises(UsageError, match="transparent pixels alone"):
        stylize(
            with_alpha(CONTENT, 255 * (BANDS[..., 0] == 0).astype(np.uint8)),
            STYLES[1],
            regions=BANDS,
            style_for={"red": STYLES[0]},
        )


def test_a_mask_is_what_is_left_of_regions() -> None:
    mask = np.zeros((96, 128), np.uint8)
    mask[:48] = 255
    result = stylize(styles=STYLES[1], regions=BANDS, style_for={"red": STYLES[0]}, mask=mask)
    photograph = stylize(styles=STYLES[0], steps=1, style_weight=0.0)
    assert np.array_equal(result.pixels[25:], photograph.pixels[25:])
    assert (np.abs(result.pixels - photograph.pixels)[:20]).mean() > 1


@pytest.mark.parametrize("device", DEVICES)
def test_a_batch_has_pictures_of_as_many_regions(device: str) -> None:
    choices: Any = {**LIGHT, "backend": "torch", "regions": BANDS, "device": device}
    places = [
        {"red": STYLES[0], "blue": STYLES[1]},
        {"red": STYLES[1], "white": STYLES[0]},
    ]
    alone = [stylize(**choices, style_for=of_picture) for of_picture in places]
    first = library.prepare_job(CONTENT, style_for=places[0], **choices)
    second = library.prepare_job(CONTENT, style_for=places[1], like=first, **choices)
    for single, together in zip(alone, library.run_batch([first, second]), strict=True):
        np.testing.assert_allclose(together.pixels, single.pixels, atol=1)
        assert together.cost.total == pytest.approx(single.cost.total, rel=1e-2)
    with pytest.raises(UsageError, match="another number of regions"):
        library.prepare_job(CONTENT, STYLES[0][::2], style_for=places[0], like=first, **choices)


def test_maps_on_the_command_line(tmp_path: Path, nstx: Nstx) -> None:
    names = ("content", "one", "two", "map", "out", "again")
    paths = {name: tmp_path / f"{name}.png" for name in names}
    for name, pixels in zip(names, (CONTENT, *STYLES, BANDS), strict=False):
        Image.fromarray(pixels).save(paths[name])
    layers = ["--content-layers", "conv2_1", "--style-layers", "conv1_1,conv2_1"]
    options = [*layers, "--device", "cpu", "--json"]
    run, size = ["--steps", 3, "--precision", "fp32"], ["--size", 64, "--scales", 2]
    places = ["--regions", paths["map"], "--style-for", f"#ff0000={paths['one']}:2"]
    places += ["--style-for", f"red={paths['two']}", "--style-for", f"white={paths['two']}"]
    code, out, err = nstx(
        "optimize", paths["content"], "-o", paths["out"], *options, *run, *size, *places
    )
    assert code == 0, err
    data = json.loads(out)
    assert [item["colors"] for item in data["regions"]] == [["#ff0000"], ["#ffffff"]]
    assert sum(item["area"] for item in data["regions"]) == pytest.approx(1)
    assert data["mask"]["share"] == pytest.approx(43 / 64, abs=0.02)
    assert [(item["role"], item["weight"], item["colors"]) for item in data["inputs"]] == [
        ("content", None, None),
        ("style", 2.0, "#ff0000"),
        ("style", 1.0, "#ff0000"),
        ("style", 1.0, "#ffffff"),
        ("regions", None, None),
    ]
    repeated = tmp_path / "repeated.png"
    code, out, err = nstx("optimize", "--from", paths["out"], "-o", repeated, "--device", "cpu")
    assert code == 0, err
    assert repeated.read_bytes() == paths["out"].read_bytes()
    targets, content = tmp_path / "t.safetensors", ["--content", paths["content"]]
    code, _, err = nstx("precompute", *content, "-o", targets, *options, *size, *places)
    assert code == 0, err
    code, out, err = nstx("optimize", "--targets", targets, "-o", paths["again"], *options, *run)
    assert code == 0, err
    first, second = (np.asarray(Image.open(paths[name])) for name in ("out", "again"))
    assert np.array_equal(first, second)
    again = json.loads(out)["regions"]
    assert [item["area"] for item in again] == [item["area"] for item in data["regions"]]
    code, out, err = nstx("evaluate", paths["out"], *content, *layers, "--json", *places)
    assert code == 0, err
    assert json.loads(out)["cost"]["total"] == pytest.approx(data["cost"]["total"], rel=1e-4)
    check_refusals(nstx, paths, targets)
    check_damage(targets)


def check_refusals(nstx: Nstx, paths: dict[str, Path], targets: Path) -> None:
    content, out = paths["content"], paths["out"].with_name("new.png")
    for arguments, message in (
        (["optimize", content, "-o", out], "got no STYLE"),
        (["optimize", content, "-o", out, "--style-for", paths["one"]], "as COLOUR=STYLE"),
        (["optimize", content, "-o", out, "--style-for", "red="], "as COLOUR=STYLE"),
        (["optimize", "--targets", targets, "-o", out, "--regions", paths["map"]], "without --regions"),
        (["optimize", content, "-o", paths["map"], "--regions", paths["map"], "--style-for", f"red={paths['one']}"], "map.png"),
        (["precompute", "--content", content, "--regions", paths["map"]], "try -o FILE"),
        (["evaluate", content, "--content", content], "got none; try --style painting.jpg"),
    ):  # fmt: skip
        code, _, err = nstx(*arguments)
        assert code != 0
        assert message in err


def check_damage(targets: Path) -> None:
    with targets.open("rb") as file:
        arrays, description = unpack_arrays(read_bytes(file))
    parts = arrays["0/parts"]
    for changed in (parts[:1], parts[0], parts.astype(np.float32), parts * 0, parts[:, :-1], np.repeat(parts, 40, 0)):  # fmt: skip
        damaged = {**arrays, "0/parts": np.ascontiguousarray(changed)}
        write_output(targets, pack_arrays(damaged, description))
        with pytest.raises(UsageError):
            library.read_targets(targets)
    lacking = {name: array for name, array in arrays.items() if not name.endswith("/parts")}
    write_output(targets, pack_arrays(lacking, description))
    with pytest.raises(UsageError):
        library.read_targets(targets)


@pytest.mark.parametrize(
    "place", [{"backend": "torch", "precision": "bf16"}, *ACCELERATED], ids=str
)
def test_a_run_with_a_map_goes_on_from_its_checkpoint(
    place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pictures = {"content": CONTENT, "one": STYLES[0], "two": STYLES[1], "map": BANDS}
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(f"{name}.png")
    blend = ["one.png@conv1_1", ("two.png", 3)]
    by_colour: Any = {"red": blend, "white": blend}
    choices: Any = {
        **LIGHT, "steps": 4, "styles": "two.png", "regions": "map.png", "style_for": by_colour,
        **place,
    }  # fmt: skip
    whole = library.stylize("content.png", **choices)
    count = iter(range(100))
    library.stylize(
        "content.png", checkpoint="kept", should_stop=lambda: next(count) > 2, **choices
    )
    monkeypatch.chdir(tmp_path.parent)
    resumed = library.resume(tmp_path / "kept")
    assert np.array_equal(resumed.pixels, whole.pixels)
    monkeypatch.chdir(tmp_path)
    for other in ({"regions": draw_map(WHITE, BLUE, RED)}, {"style_for": {**by_colour, "white": "two.png"}}):  # fmt: skip
        with pytest.raises(UsageError, match=r"another (style|regions)|place of a style"):
            library.stylize("content.png", checkpoint="kept", **{**choices, **other})


def test_styles_by_colour_are_read_from_a_checkpoint_strictly(tmp_path: Path) -> None:
    one = str(tmp_path / "one.png")
    assert list(_read_styles_for([["red", [[one, 2.0]]]])) == [f"red={one}:2.0"]
    for damaged in (["red"], [["red"]], [["a=b", [[one, 1.0]]]], [["red", [["relative", 1.0]]]]):
        with pytest.raises(ValueError, match=r"\w"):
            list(_read_styles_for(damaged))
