"""Ways to colour a result: what is compared, what is optimised, and what comes out."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparisons import draw_little
from devices import ACCELERATED, most_error, on_cuda
from pictures import random_pixels
from PIL import Image

from nstx import (
    Job,
    Picture,
    Step,
    UsageError,
    choose_settings,
    evaluate_picture,
    measure_artefacts,
    prepare_job,
    prepare_job_from_targets,
    read_image,
    read_targets,
    run_batch,
    run_job,
    stylize,
)
from nstx.engine.colours.oklab import to_grey, to_oklab
from nstx.engine.settings import COLORS, BackendName, Colors
from nstx.models.presets import SolverName

LAYERS = ("--content-layers", "conv2_2", "--style-layers", "conv1_1,conv2_1", "--device", "cpu")

Nstx = Callable[..., tuple[int, str, str]]

CONTENT = Picture(random_pixels(72, 80, 1).round().astype(np.uint8), None)
STYLE = Picture(random_pixels(70, 84, 9).round().astype(np.uint8), None)
GREY = [Picture(to_grey(picture.pixels.astype(np.float32)), None) for picture in (CONTENT, STYLE)]


LIGHT: Mapping[str, Any] = {
    "content_layers": "conv2_2", "style_layers": "conv1_1,conv2_1", "size": 80, "scales": 1,
    "steps": 2, "device": "cpu", "backend": "onnx",
}  # fmt: skip
"""A run of a moment."""


def job_of(colors: Colors, solver: SolverName = "lbfgs", **choices: Any) -> Job:
    chosen = {**LIGHT, "colors": colors, "solver": solver, **choices}
    settings = choose_settings(**chosen)
    return prepare_job(CONTENT, [(STYLE, 1.0)], settings)


@pytest.mark.parametrize(
    ("solver", "backend", "init", "device"),
    [
        ("lbfgs", "onnx", "content", "cpu"),
        ("lbfgs", "torch", "noise", "cpu"),
        ("adam", "onnx", "matched", "cpu"),
        ("adam", "torch", "blend", "cpu"),
        on_cuda("lbfgs", "torch", "noise", "cuda", name="cuda-lbfgs"),
        on_cuda("adam", "torch", "matched", "cuda", name="cuda-adam"),
    ],
)
def test_a_picture_stays_grey_and_has_the_contents_chroma_at_last(
    solver: SolverName, backend: BackendName, init: str, device: str
) -> None:
    choices = {
        "init": init, "backend": backend, "device": device, "precision": "fp32", "clean": False
    }  # fmt: skip
    job, steps = job_of("luminance", solver, **choices), list[Step]()
    start = job.start(0)
    assert (start == start[..., :1]).all()
    result = run_job(job, on_step=steps.append)
    for step in steps:
        np.testing.assert_allclose(step.pixels, step.pixels[..., :1].repeat(3, 2), atol=1e-3)
        assert np.ptp(step.to_picture().pixels, axis=2).max() > 20
    np.testing.assert_array_equal(result.pixels, steps[-1].to_picture().pixels)
    # Compared are greys, of the finished picture as of the one on its way.
    assert result.cost.total == pytest.approx(steps[-1].cost.total, rel=2e-3)
    alone = stylize(GREY[0], GREY[1], settings=job.settings)
    assert np.abs(to_grey(result.pixels) - to_grey(alone.pixels)).mean() < 1
    ours, before = to_oklab(result.pixels), to_oklab(CONTENT.pixels.astype(np.float32))
    inside = (result.pixels > 1).all(-1) & (result.pixels < 254).all(-1)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(ours[..., 1:][inside], before[..., 1:][inside], atol=1e-4)


def test_the_gradient_is_projected_on_grey() -> None:
    job = job_of("luminance", "adam", learning_rate=4.0)
    _, gradient = job.backend(0).cost_and_gradient(job.start(0))
    slope = np.asarray(gradient).mean(-1, keepdims=True)
    first: list[Step] = []
    run_job(job, on_step=first.append)
    # Adam's first step goes by the sign alone.
    moved = (job.start(0) - np.sign(slope) * 4).clip(0, 255)
    clear = np.abs(slope[..., 0]) > np.abs(slope).max() * 1e-3
    np.testing.assert_allclose(first[0].pixels[clear], moved[clear], atol=1e-2)


def test_matched_styles_have_the_contents_colours_and_targets_of_their_own() -> None:
    plain, matched = job_of("style"), job_of("matched")
    for layer, gram in matched.targets[0].style.items():
        assert not np.allclose(gram, plain.targets[0].style[layer], rtol=0.05)
        expected = plain.targets[0].content
    assert expected.keys() == matched.targets[0].content.keys()
    own = job_of("matched")
    assert own.loaded.styles == ("hit",)
    same = prepare_job(CONTENT, [(CONTENT, 1.0)], matched.settings)
    unmatched = prepare_job(CONTENT, [(CONTENT, 1.0)], plain.settings)
    for layer, gram in same.targets[0].style.items():
        np.testing.assert_allclose(gram, unmatched.targets[0].style[layer], rtol=1e-2, atol=1e-2)
    other = Picture(CONTENT.pixels[..., ::-1].copy(), None)
    assert prepare_job(other, [(STYLE, 1.0)], matched.settings).loaded.styles == ("miss",)


def test_a_matched_histogram_is_the_contents() -> None:
    job = job_of("histogram")
    result = run_job(job)
    for channel in range(3):
        ours = np.sort(result.pixels[..., channel], axis=None)
        theirs = np.sort(CONTENT.pixels[..., channel].astype(np.float32), axis=None)
        assert np.abs(ours - theirs).mean() < 0.5
    assert result.cost == job.backend(0).cost(result.pixels)


def test_colours_only_takes_no_step() -> None:
    job = job_of("only", init="noise")
    steps: list[Step] = []
    result = run_job(job, on_step=steps.append)
    assert (result.steps, result.stopped, steps, result.cleaned) == (0, "steps", [], False)
    assert result.is_complete
    np.testing.assert_allclose(result.pixels.mean((0, 1)), STYLE.pixels.mean((0, 1)), atol=1)
    assert choose_settings(colors="only").scales == 1
    (alone,) = run_batch([job])
    np.testing.assert_array_equal(alone.pixels, result.pixels)


@pytest.mark.parametrize("place", [{}, ACCELERATED[0]])
def test_a_batch_may_mix_them(place: Any) -> None:
    jobs = [job_of(colors, **place) for colors in COLORS]
    for job, result in zip(jobs, run_batch(jobs), strict=True):
        np.testing.assert_allclose(result.pixels, run_job(job).pixels, atol=2)


def test_grey_pictures_are_the_same_in_luminance_and_matched() -> None:
    one, other = (
        stylize(GREY[0], GREY[1], **{**LIGHT, "steps": 1, "colors": colors})
        for colors in ("matched", "luminance")
    )
    assert one.initial_cost is not None
    assert other.initial_cost is not None
    assert one.initial_cost.total == pytest.approx(other.initial_cost.total, rel=1e-3)
    assert np.ptp(other.pixels, axis=2).max() < 0.01


def test_greys_of_styles_have_the_contents_mean_and_contrast() -> None:
    dark = Picture((STYLE.pixels * 0.3).astype(np.uint8), None)
    job = prepare_job(CONTENT, dark, **{**LIGHT, "colors": "luminance"})
    light = prepare_job(CONTENT, STYLE, **{**LIGHT, "colors": "luminance"})
    for layer, gram in job.targets[0].style.items():
        np.testing.assert_allclose(
            gram, light.targets[0].style[layer], rtol=0.3, atol=gram.max() / 50
        )


@pytest.mark.parametrize("place", [{}, *ACCELERATED])
@pytest.mark.parametrize("colors", ["luminance", "matched"])
def test_evaluations_agree_with_the_run(colors: Colors, place: Any) -> None:
    job = job_of(colors, **place)
    result = run_job(job)
    cost = evaluate_picture(result.picture, CONTENT, [(STYLE, 1.0)], job.settings)
    assert cost.total == pytest.approx(result.cost.total, rel=2 * most_error(place))
    plain = evaluate_picture(result.picture, CONTENT, [(STYLE, 1.0)], **LIGHT)
    assert cost.total != pytest.approx(plain.total, rel=0.01)


def test_artefacts_are_measured_on_what_is_compared() -> None:
    in_colour = measure_artefacts(CONTENT, CONTENT, STYLE, colors="luminance")
    in_grey = measure_artefacts(GREY[0], GREY[0], GREY[1])
    assert in_colour.picture == in_grey.picture
    assert in_colour.picture != measure_artefacts(CONTENT, CONTENT, STYLE).picture


def test_hidden_pixels_change_nothing() -> None:
    alpha = np.full((72, 80), 255, np.uint8)
    alpha[:, :30] = 0
    results = []
    for colour in ((255, 0, 255), (0, 10, 0)):
        pixels = CONTENT.pixels.copy()
        pixels[:, :30] = colour
        content = Picture(pixels, alpha)
        results.append(
            [stylize(content, STYLE, **{**LIGHT, "colors": colors}).pixels for colors in COLORS]
        )
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("colors", ["luminance", "matched", "histogram"])
def test_a_targets_file_leads_to_the_same_bytes(
    nstx: Nstx,
    save_picture: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    colors: Colors,
) -> None:
    content, style = save_picture("c.png", 40, 56), save_picture("s.png", 45, 50, 9)
    file, common = tmp_path / "t.safetensors", [*LAYERS, "--size", 48, "--colors", colors]
    arguments = ["precompute", "--content", content, "--style", style, "-o", file, *common]
    assert nstx(*arguments)[0] == 0
    more = ["--steps", 2, "--json", "--no-manifest"]
    direct, again = tmp_path / "a.png", tmp_path / "b.png"
    code, out, _ = nstx("optimize", content, style, "-o", direct, *common, *more)
    assert code == 0
    assert json.loads(out)["colors"] == colors
    named = ["--colors", colors] if colors == "histogram" else []  # the others the file says
    code, out, err = nstx("optimize", "--targets", file, "-o", again, *named, *more)
    assert code == 0, err
    assert json.loads(out)["colors"] == colors
    assert direct.read_bytes() == again.read_bytes()
    if not named:  # a configuration gives way to the file
        monkeypatch.setenv("NSTX_COLORS", "histogram")
        code, out, err = nstx("optimize", "--targets", file, "-o", again, *more)
        assert (code, json.loads(out)["colors"]) == (0, colors), err
    saved = read_targets(file)
    assert saved.colors == ("style" if colors == "histogram" else colors)
    wrong: Colors = "luminance" if colors == "matched" else "matched"
    with pytest.raises(UsageError, match=f"instead of {wrong}"):
        prepare_job_from_targets(saved, colors=wrong)
    with pytest.raises(UsageError, match="style pictures"):
        prepare_job_from_targets(saved, colors="only")


def test_files_of_the_command_have_colours(
    nstx: Nstx, save_picture: Callable[..., Path], tmp_path: Path
) -> None:
    content, style = save_picture("c.png", 40, 56), save_picture("s.png", 45, 50, 9)
    output, animation = tmp_path / "o.png", tmp_path / "o.webp"
    code, out, err = nstx(
        "optimize", content, style, "-o", output, "--size", 96, "--steps", 2, "--scales", 2,
        *LAYERS, "--colors", "luminance", "--save-every", 1, "--watch", tmp_path / "w.png",
        "--animate", animation, "--json",
    )  # fmt: skip
    assert code == 0, err
    for path in (output, tmp_path / "o_0001.png", tmp_path / "w.png"):
        assert np.ptp(read_image(path).pixels, axis=2).max() > 20
    with Image.open(animation) as image:
        assert np.ptp(np.asarray(image.convert("RGB")).astype(int), axis=2).max() > 20
    data = json.loads(out)
    code, out, _ = nstx(
        "evaluate",
        output,
        "--content",
        content,
        "--style",
        style,
        "--colors",
        "luminance",
        *LAYERS[:4],
        "--json",
    )
    assert code == 0
    cost = json.loads(out)["cost"]["total"]
    assert cost == pytest.approx(data["cost"]["total"], rel=1e-3)


def test_the_command_says_what_does_nothing(
    nstx: Nstx, save_picture: Callable[..., Path], tmp_path: Path
) -> None:
    content, style = save_picture("c.png", 40, 56), save_picture("s.png", 45, 50, 9)
    common = ["-o", tmp_path / "o.png", "--size", 48, *LAYERS]
    code, out, err = nstx(
        "optimize", content, style, *common, "--colors", "only", "--steps", 9, "--json"
    )
    assert code == 0
    assert "--steps to no effect: --colors only makes no step" in err
    assert "no pixel" not in err
    assert (json.loads(out)["steps"], json.loads(out)["stopped"]) == (0, "steps")
    code, _, err = nstx("optimize", content, style, *common, "--colors", "grey")
    assert code == 2
    assert "style, luminance, matched, histogram, only" in err


def test_matched_styles_are_precomputed_for_each_content(
    nstx: Nstx, save_picture: Callable[..., Path]
) -> None:
    contents = [save_picture("a.png", 40, 56, 31), save_picture("b.png", 56, 40, 32)]
    style = save_picture("s.png", 45, 50, 33)
    common = ["--style", style, "--size", 48, *LAYERS, "--colors"]
    arguments = ["precompute", "--content", *contents, *common]
    code, out, _ = nstx(*arguments, "matched", "--json")
    assert code == 0
    data = json.loads(out)["pictures"]
    assert [item["matched_to"] for item in data] == [None, str(contents[0]), None, str(contents[1])]
    assert [item["targets"] for item in data] == ["miss"] * 4
    code, out, _ = nstx(*arguments, "matched")
    assert "4 already in the cache" in out
    assert "none of the styles' shared among contents" in out
    code, out, _ = nstx(*arguments, "luminance", "--json")
    assert [item["targets"] for item in json.loads(out)["pictures"]] == ["miss"] * 4
    code, out, _ = nstx(*arguments, "histogram", "--json")
    assert [item["targets"] for item in json.loads(out)["pictures"]] == ["hit", "hit", "miss"]
    code, _, err = nstx("precompute", *common, "matched")
    assert code == 2
    assert "expected contents" in err


def test_a_comparison_has_them_as_an_axis(
    nstx: Nstx,
    save_picture: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw_little(monkeypatch)
    content, style = save_picture("c.png", 40, 56), save_picture("s.png", 45, 50, 9)
    compared: list[Colors] = ["luminance", "matched", "only"]
    common = ["--size", 48, "--steps", 1, *LAYERS, "--json"]
    arguments = ["compare", content, style, "-o", tmp_path / "c", *common, "--colors"]
    code, out, err = nstx(*arguments, ",".join(compared))
    assert code == 0, err
    data = json.loads(out)
    assert data["axes"] == [{"option": "colors", "values": compared}]
    assert [run["settings"]["colors"] for run in data["runs"]] == compared
    assert len({run["cost"]["total"] for run in data["runs"]}) == len(compared)
    code, out, _ = nstx(*arguments, "matched,only")
    assert json.loads(out)["made"] == []
