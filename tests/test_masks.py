"""Masks: read, carried to layers, and what they leave of the photograph; transparency in statistics."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparisons import draw_little
from devices import PLACES, across_cuda, most_error
from pictures import random_pixels
from PIL import Image

import nstx as library
from nstx.engine.gradients.gated import GatedBackend
from nstx.engine.pictures.picture import Picture
from nstx.engine.pictures.transparency import with_alpha
from nstx.engine.regions.cover import feather
from nstx.engine.regions.masks import fit_mask, make_regions, take_mask
from nstx.engine.regions.positions import share_positions
from nstx.engine.targets.store import TargetKey, TargetMemory
from nstx.models.errors import ImageError, UsageError
from nstx.models.vgg19 import LAYERS, PoolRounding, find_layer

Nstx = Callable[..., tuple[int, str, str]]

# A cost of the network's first layers alone.
LIGHT: Any = {
    "content_layers": "conv2_1",
    "style_layers": "conv1_1,conv2_1",
    "steps": 2,
    "device": "cpu",
    "precision": "fp32",
    "threads": 1,
}
CONTENT = random_pixels(48, 64, 0).round().astype(np.uint8)
STYLE = random_pixels(40, 40, 1).round().astype(np.uint8)
LEFT = np.repeat(np.arange(64)[None] < 30, 48, 0) * np.uint8(255)
FULL = np.full((48, 64), 255, np.uint8)


def stylize(content: Any = CONTENT, style: Any = STYLE, **choices: Any) -> library.Result:
    return library.stylize(content, style, **{"size": 64, "scales": 1, **LIGHT, **choices})


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("white", [255, 248])
def test_a_mask_of_everything_is_no_mask(place: Any, white: int) -> None:
    plain, masked = (
        stylize(**place, mask=mask) for mask in (None, np.full((48, 64), white, np.uint8))
    )
    assert np.array_equal(plain.pixels, masked.pixels)
    assert plain.cost == masked.cost


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"scales": 2},
        {"init": "noise"},
        {"solver": "adam"},
        {"colors": "luminance"},
        {"colors": "histogram"},
        {"colors": "only"},
        {"size": 80, "clean": True},
    ],
    ids=str,
)
def test_outside_a_mask_the_photograph_stays(place: Any, choices: dict[str, Any]) -> None:
    result = stylize(**place, mask=LEFT, **choices)
    plain = stylize(steps=1, colors="style", size=choices.get("size", 64), style_weight=0.0)
    size = plain.pixels.shape[:2]
    outside = fit_mask(LEFT, *size) == 0
    assert outside.mean() > 0.4
    np.testing.assert_array_equal(result.pixels[outside], plain.pixels[outside])
    inside = np.abs(result.pixels - plain.pixels)[:, : size[1] // 3]
    assert inside.mean() > 1


def test_the_gradient_outside_a_mask_is_0() -> None:
    job = library.prepare_job(CONTENT, STYLE, mask=LEFT, size=64, scales=1, **LIGHT)
    gate = job.gate(0)
    assert gate is not None
    backend = GatedBackend(job.backend(0), [gate], job.opened.arrays)
    pixels = job.start(0) + random_pixels(48, 64, 7)
    cost, gradient = backend.cost_and_gradient(pixels)
    assert (gradient[:, 30:] == 0).all()
    assert (gradient[:, :30] != 0).mean() > 0.9
    moved = pixels.copy()
    moved[:, 30:] = 3.0
    assert backend.cost(moved) == backend.cost(pixels)
    assert backend.cost(moved).total == pytest.approx(cost.total)


def test_a_batch_has_masked_pictures_beside_others() -> None:
    alone = [stylize(backend="torch", mask=mask) for mask in (LEFT, 255 - LEFT)]
    first = library.prepare_job(
        CONTENT, STYLE, mask=LEFT, backend="torch", size=64, scales=1, **LIGHT
    )
    second = library.prepare_job(
        CONTENT, STYLE, mask=255 - LEFT, like=first, backend="torch", size=64, scales=1, **LIGHT
    )
    for single, together in zip(alone, library.run_batch([first, second]), strict=True):
        np.testing.assert_allclose(together.pixels, single.pixels, atol=1)
        assert together.cost.total == pytest.approx(single.cost.total, rel=1e-2)
    with pytest.raises(UsageError, match="mask or transparency"):
        library.prepare_job(CONTENT, STYLE, like=first, backend="torch", size=64, scales=1, **LIGHT)


@pytest.mark.parametrize("place", PLACES)
def test_the_yardstick_agrees_about_a_masked_picture(place: Any) -> None:
    cut = with_alpha(STYLE, np.repeat(np.arange(40)[None] < 25, 40, 0) * np.uint8(255))
    result = stylize(**place, mask=LEFT, style=cut, style_statistic="covariance")
    choices: Any = {**LIGHT, "style_statistic": "covariance"}
    picture = Picture(result.pixels, None)
    cost = library.evaluate_picture(picture, CONTENT, cut, mask=LEFT, **choices)
    assert cost.total == pytest.approx(result.cost.total, rel=most_error(place))
    assert cost.style != pytest.approx(
        library.evaluate_picture(picture, CONTENT, cut, **choices).style, rel=1e-3
    )


@pytest.mark.parametrize("place", PLACES)
def test_what_is_transparent_does_not_count(place: Any) -> None:
    """In a photograph and a painting, of which the hidden part may be of any colours."""
    results = []
    for hidden in (0, 200):
        content, style = CONTENT.copy(), STYLE.copy()
        content[:, 40:], style[:, 30:] = hidden, 255 - hidden
        alphas = [
            np.repeat(np.arange(pixels.shape[1])[None] < edge, len(pixels), 0) * np.uint8(255)
            for pixels, edge in ((content, 40), (style, 30))
        ]
        results.append(
            stylize(with_alpha(content, alphas[0]), with_alpha(style, alphas[1]), **place)
        )
    assert np.array_equal(results[0].pixels, results[1].pixels)
    assert results[0].cost == results[1].cost
    job = library.prepare_job(
        CONTENT, with_alpha(STYLE, alphas[1]), size=64, scales=1, **{**LIGHT, **place}
    )
    whole = library.prepare_job(CONTENT, STYLE[:, :30], size=48, scales=1, **LIGHT)
    # But for what the network sees beyond the edge.
    ours, theirs = job.targets[0].style["conv1_1"], whole.targets[0].style["conv1_1"]
    assert np.linalg.norm(ours - theirs) < 0.1 * np.linalg.norm(theirs)


def test_the_content_s_own_transparency_is_a_mask() -> None:
    picture = with_alpha(CONTENT, LEFT)
    result, drawn = (stylize(picture, mask=mask) for mask in ("alpha", LEFT))
    assert np.array_equal(result.pixels, drawn.pixels)
    assert result.picture.alpha is not None
    with pytest.raises(UsageError, match=r"opaque one in .*; try a picture"):
        stylize(mask="alpha")


@pytest.mark.parametrize("rounding", ["ceil", "floor"])
@pytest.mark.parametrize("size", [(48, 64), (47, 33), (17, 31)])
def test_positions_count_as_the_pixels_over_which_they_lie(
    rounding: PoolRounding, size: tuple[int, int]
) -> None:
    generator = np.random.default_rng(1)
    counts = generator.integers(0, 256, size).astype(np.uint8)
    names = [layer.name for layer in LAYERS if layer.kind == "conv"]
    shares = share_positions(counts, names, rounding)
    for name, values in shares.items():
        assert values.shape == find_layer(name).output_size(*size, rounding)
        assert values.sum() == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(shares["conv1_2"], counts / counts.sum(), rtol=1e-5)
    window = counts[2:4, 4:6].mean() / counts[0:2, 0:2].mean()
    coarse = shares["conv2_1"]
    assert coarse[1, 2] / coarse[0, 0] == pytest.approx(window, rel=1e-5)
    alike = share_positions(np.full(size, 255, np.uint8), names, rounding)
    assert all(np.ptp(values) == 0 for values in alike.values())


@pytest.mark.parametrize("rounding", ["ceil", "floor"])
@pytest.mark.parametrize("place", [(0, 0), (46, 32), (46, 0), (0, 32), (20, 21)])
def test_a_region_of_one_pixel_vanishes_nowhere(
    rounding: PoolRounding, place: tuple[int, int]
) -> None:
    counts = np.zeros((47, 33), np.uint8)
    counts[place] = 1
    shares = share_positions(counts, ["conv1_1", "conv3_1", "conv5_1"], rounding)
    assert all(np.count_nonzero(values) == 1 for values in shares.values())
    assert all(values.sum() == 1 for values in shares.values())
    assert np.count_nonzero(fit_mask(counts, 12, 9)) == 1


def test_an_edge_is_feathered_inwards() -> None:
    mask = np.zeros((256, 384), np.uint8)
    mask[50:200, 100:], mask[20:22] = 255, 255
    mask[230:] = 128
    cover = feather(mask)
    assert (cover[mask == 0] == 0).all()
    assert (cover[mask > 0] > 0).all()
    assert cover[120, 250] == cover[120, -1] == 1
    assert cover[245, 10] == pytest.approx(128 / 255)
    assert (np.diff(cover[120, 95:115]) >= 0).all()
    assert 0 < cover[120, 100] < 0.5 < cover[120, 102] < 1
    small = feather(np.array([[0, 0, 255, 255, 255]] * 5, np.uint8))
    assert small[2].tolist() == [0, 0, 0.5, 1, 1]


def test_a_mask_is_brought_to_the_content_s_size() -> None:
    results = [
        stylize(mask=np.asarray(Image.fromarray(LEFT).resize(size, Image.Resampling.NEAREST)))
        for size in ((64, 48), (128, 96), (1280, 960))
    ]
    for other in results[1:]:
        assert np.array_equal(other.pixels[:, 33:], results[0].pixels[:, 33:])
        np.testing.assert_allclose(other.cost.total, results[0].cost.total, rtol=0.2)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((48, 64), np.uint8), "got one that is black throughout; try another"),
        (np.full((48, 64), 8, np.uint8), "got one that is black throughout; try another"),
        (np.full((64, 48), 255, np.uint8), "expected a mask of the content's proportions, 64×48, got 48×64"),
        (np.full((48, 80), 255, np.uint8), "got 80×48 in an array; try one that was made of the content"),
    ],
)  # fmt: skip
def test_a_mask_that_cannot_be_is_refused(mask: np.ndarray, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        stylize(mask=mask)
    assert caught.value.setting == "mask"


def test_a_mask_of_what_is_hidden_is_refused() -> None:
    with pytest.raises(UsageError, match="covers something opaque"):
        stylize(with_alpha(CONTENT, LEFT), mask=255 - LEFT)


def test_masks_are_greys_times_opacity() -> None:
    content = Picture(CONTENT, None)
    red = np.zeros((48, 64, 3), np.uint8)
    red[..., 0] = 255
    values = take_mask(Picture(red, None), content).values
    assert values is not None
    assert np.unique(values).tolist() == [round((0.299 * 255 - 8) * 255 / 239)]
    drawn = take_mask(Picture(np.full_like(CONTENT, 255), LEFT), content).values
    assert drawn is not None
    assert np.array_equal(drawn, LEFT)
    assert make_regions(content, None, [(48, 64)]) == [None]


def test_targets_of_what_is_seen_have_a_key_of_their_own() -> None:
    """And those of opaque pictures the key that they always had."""
    store = TargetMemory()
    cut = with_alpha(STYLE, np.repeat(np.arange(40)[None] < 25, 40, 0) * np.uint8(255))
    choices: Any = {**LIGHT, "size": 64, "scales": 1}
    library.prepare_job(CONTENT, STYLE, store=store, mask=LEFT, **choices)
    assert all(not key.region for key in store._values)
    before = len(store._values)
    library.prepare_job(CONTENT, cut, store=store, **choices)
    regions = [key.region for key in store._values][before:]
    assert regions == ["alpha-1"] * 2
    key: TargetKey = next(iter(store._values))
    assert "region" not in key.to_json()
    assert replace(key, region="alpha-1").to_json()["region"] == "alpha-1"


def test_a_targets_file_has_its_mask(tmp_path: Path, nstx: Nstx) -> None:
    paths = {name: tmp_path / f"{name}.png" for name in ("content", "style", "mask", "one", "two")}
    Image.fromarray(CONTENT).save(paths["content"])
    Image.fromarray(STYLE).save(paths["style"])
    Image.fromarray(LEFT).save(paths["mask"])
    options = ["--content-layers", "conv2_1", "--style-layers", "conv1_1,conv2_1"]
    options = [*options, "--device", "cpu", "--json"]
    run = ["--steps", 3, "--precision", "fp32", "--no-manifest"]
    size, mask = ["--size", 64, "--scales", 2], ["--mask", paths["mask"]]
    targets = tmp_path / "t.safetensors"
    pictures = (paths["content"], paths["style"])
    code, out, err = nstx("optimize", *pictures, "-o", paths["one"], *options, *run, *size, *mask)
    assert code == 0, err
    data = json.loads(out)
    assert data["mask"]["share"] == pytest.approx(30 / 64)
    assert 0.4 < data["mask"]["coverage"] < 30 / 64
    assert [item["role"] for item in data["inputs"]] == ["content", "style", "mask"]
    named = ("--content", pictures[0], "--style", pictures[1])
    code, out, err = nstx("precompute", *named, "-o", targets, *options, *size, *mask)
    assert code == 0, err
    code, out, err = nstx("optimize", "--targets", targets, "-o", paths["two"], *options, *run)
    assert code == 0, err
    assert paths["one"].read_bytes() == paths["two"].read_bytes()
    assert json.loads(out)["mask"] == data["mask"]
    code, out, err = nstx("evaluate", paths["one"], *named, *options[:4], "--json", *mask)
    assert code == 0, err
    assert json.loads(out)["cost"]["total"] == pytest.approx(data["cost"]["total"], rel=1e-4)
    code, _, err = nstx("optimize", "--targets", targets, "-o", paths["two"], *mask)
    assert code == 2
    assert "--targets without --mask" in err
    code, _, err = nstx("precompute", *named, *mask)
    assert code == 2
    assert "try -o FILE" in err


def test_a_mask_is_no_output_and_a_picture(tmp_path: Path, nstx: Nstx) -> None:
    content, mask = tmp_path / "content.png", tmp_path / "mask.png"
    Image.fromarray(CONTENT).save(content)
    mask.write_text("no picture")
    code, _, err = nstx("optimize", content, content, "-o", mask, "--mask", mask)
    assert code != 0
    assert "also read" in err or "mask.png" in err
    code, _, err = nstx("optimize", content, content, "-o", tmp_path / "o.png", "--mask", mask)
    assert code != 0
    assert "expected a picture" in err
    with pytest.raises(ImageError):
        stylize(mask=str(tmp_path / "none.png"))


@pytest.mark.parametrize(
    ("mask", "place"), [("alpha", {}), ("mask.png", {}), *across_cuda("mask.png")]
)
def test_a_masked_run_goes_on_from_its_checkpoint(
    tmp_path: Path, mask: str, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(with_alpha(CONTENT, LEFT)).save("content.png")
    Image.fromarray(STYLE).save("style.png")
    Image.fromarray(255 - LEFT if mask == "alpha" else LEFT).save("mask.png")
    choices: Any = {**LIGHT, "size": 64, "scales": 1, "steps": 4, "mask": mask, **place}
    whole = library.stylize("content.png", "style.png", **choices)
    count = iter(range(100))
    library.stylize(
        "content.png",
        "style.png",
        checkpoint="kept",
        should_stop=lambda: next(count) > 2,
        **choices,
    )
    monkeypatch.chdir(tmp_path.parent)
    resumed = library.resume(tmp_path / "kept")
    assert np.array_equal(resumed.pixels, whole.pixels)
    with pytest.raises(UsageError, match="mask"):
        library.stylize(
            str(tmp_path / "content.png"),
            str(tmp_path / "style.png"),
            checkpoint=tmp_path / "kept",
            **{**choices, "mask": 255 - LEFT // 2},
        )


def test_a_comparison_has_a_mask_of_all_runs(
    tmp_path: Path, nstx: Nstx, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_little(monkeypatch)
    for name, pixels in (("content", CONTENT), ("style", STYLE), ("mask", LEFT), ("b", 255 - LEFT)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    command: list[Any] = ["compare", tmp_path / "content.png", tmp_path / "style.png"]
    command += ["-o", tmp_path / "d", "--style-layers", "conv1_1", "--content-layers", "conv1_1"]
    command += ["--style-weight", "1,3", "--size", 64, "--scales", 1, "--steps", 1, "--json"]
    command += ["--device", "cpu", "--precision", "fp32", "--mask"]
    code, out, err = nstx(*command, tmp_path / "mask.png")
    assert code == 0, err
    data = json.loads(out)
    assert len(data["made"]) == 2
    assert [item["role"] for item in data["inputs"]] == ["content", "style", "mask"]
    for run in data["runs"]:
        pixels = np.asarray(Image.open(tmp_path / "d" / f"{run['name']}.png"))
        assert np.array_equal(pixels[:, 32:], CONTENT[:, 32:])
        assert not np.array_equal(pixels[:, :20], CONTENT[:, :20])
    code, out, err = nstx(*command, tmp_path / "mask.png")
    assert (code, json.loads(out)["made"]) == (0, []), err
    code, _, err = nstx(*command, tmp_path / "b.png")
    assert code != 0
    assert "another" in err
