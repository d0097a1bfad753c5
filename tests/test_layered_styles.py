"""Styles that count in some layers alone: each layer blends those that serve it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nstx import choose_settings, evaluate_picture, prepare_job, read_image, run_job
from nstx.engine.targets.paintings import PaintingPath, split_painting
from nstx.models.errors import UsageError

Nstx = Callable[..., tuple[int, str, str]]

LAYERS = ["--style-layers", "conv1_1,conv2_1", "--content-layers", "conv1_2"]
SETTINGS = choose_settings(
    size=40, steps=2, clean=False, style_layers="conv1_1,conv2_1", content_layers="conv1_2"
)


@pytest.fixture
def pictures(save_picture: Callable[..., Path]) -> list[Path]:
    return [
        save_picture("content.png", 40, 36, 1),
        save_picture("a.png", 50, 44, 2),
        save_picture("b.png", 42, 57, 3),
    ]


def test_each_layer_blends_the_styles_that_serve_it(pictures: list[Path]) -> None:
    content, a, b = pictures
    styles: list[Any] = [f"{a}@conv1_1", (b, 3)]
    job = prepare_job(content, styles, SETTINGS)
    alone = [prepare_job(content, style, SETTINGS).targets[0].style for style in (a, b)]
    np.testing.assert_allclose(
        job.targets[0].style["conv1_1"],
        0.25 * alone[0]["conv1_1"] + 0.75 * alone[1]["conv1_1"],
        rtol=1e-5,
    )
    assert np.array_equal(job.targets[0].style["conv2_1"], alone[1]["conv2_1"])
    assert [item.layers for item in job.inputs] == [None, "conv1_1", None]
    result = run_job(job)
    cost = evaluate_picture(result.pixels, content, styles, SETTINGS)
    assert cost.total == pytest.approx(result.cost.total, rel=1e-4)
    read = replace(read_image(a), layers=("conv1_1",))
    assert evaluate_picture(result.pixels, content, [read, (b, 3)], SETTINGS) == cost


def test_a_layer_without_a_style_is_named(pictures: list[Path]) -> None:
    content, a, b = pictures
    with pytest.raises(UsageError, match="none in conv2_1"):
        prepare_job(content, [f"{a}@conv1_1", f"{b}@relu1_1"], SETTINGS)
    with pytest.raises(UsageError, match="in conv3_1; try --style-layers"):
        prepare_job(content, [f"{a}@conv3_1", b], SETTINGS)
    with pytest.raises(UsageError, match="in conv3_1"):
        evaluate_picture(content, content, [f"{a}@conv3_1", b], SETTINGS)


def test_a_file_of_the_whole_name_has_no_layers(pictures: list[Path], tmp_path: Path) -> None:
    a = pictures[1]
    odd = tmp_path / "a.png@conv1_1"
    assert split_painting(odd) == PaintingPath(str(tmp_path / "a.png"), ("conv1_1",))
    assert split_painting(f"{a}@relu1_1, conv2_1") == PaintingPath(str(a), ("conv1_1", "conv2_1"))
    odd.write_bytes(a.read_bytes())
    assert split_painting(odd) == PaintingPath(str(odd))
    assert split_painting("me@home/a.png") == PaintingPath("me@home/a.png")
    with pytest.raises(UsageError, match="conv9_9"):
        split_painting(f"{a}@conv9_9")


def test_commands_take_layers(nstx: Nstx, pictures: list[Path], tmp_path: Path) -> None:
    content, a, b = pictures
    targets, paths = tmp_path / "t.safetensors", [tmp_path / f"{i}.png" for i in range(3)]
    styles, options = [f"{a}@conv1_1:2", f"{b}@conv2_1"], [*LAYERS, "--size", "40"]
    run = ["--steps", "2", "--json"]
    code, out, err = nstx("optimize", content, *styles, "-o", paths[0], *options, *run)
    assert code == 0, err
    inputs = json.loads(out)["inputs"]
    assert [(item["path"], item["layers"]) for item in inputs[1:]] == [
        (str(a), "conv1_1"),
        (str(b), "conv2_1"),
    ]
    named = ["--content", content, "--style", *styles]
    code, _, err = nstx("precompute", *named, "-o", targets, *options)
    assert code == 0, err
    code, _, err = nstx("optimize", "--targets", targets, "-o", paths[1], *LAYERS, *run)
    assert code == 0, err
    assert np.array_equal(read_image(paths[0]).pixels, read_image(paths[1]).pixels)
    code, measured, err = nstx(
        "evaluate", paths[0], "--content", content, "--style", styles[0], "--style", styles[1],
        *LAYERS, "--json",
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(measured)["cost"]["total"] == pytest.approx(
        json.loads(out)["cost"]["total"], rel=1e-4
    )
    code, _, _ = nstx("optimize", content, *styles, "-o", a, *options)
    assert code == 7  # it is read
    code, _, err = nstx("compare", content, *styles, "-o", tmp_path / "d", *options)
    assert (code, "all style layers" in err) == (2, True)


def test_a_picture_says_its_styles_layers(nstx: Nstx, pictures: list[Path], tmp_path: Path) -> None:
    content, a, b = pictures
    first, again = tmp_path / "1.png", tmp_path / "2.png"
    made = [*LAYERS, "--size", "40", "--steps", "2"]
    assert nstx("optimize", content, f"{a}@conv1_1", b, "-o", first, *made)[0] == 0
    code, _, err = nstx("optimize", "--from", first, content, a, b, "-o", again)
    assert code == 0, err
    assert np.array_equal(read_image(first).pixels, read_image(again).pixels)
