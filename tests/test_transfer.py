"""The whole transfer on small pictures, through the library."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import needs_bf16
from pictures import random_pixels

from nstx.engine.choices import choose_settings
from nstx.engine.gradients.backend import GradientBackend
from nstx.engine.pictures.picture import Picture
from nstx.engine.pictures.reading import read_image
from nstx.engine.pictures.writing import write_image
from nstx.engine.preparation.starts import make_start
from nstx.engine.settings import Settings
from nstx.engine.targets.files import read_targets, write_targets
from nstx.engine.targets.targets import Targets
from nstx.engine.transfer.costs import BoundCosts, evaluate_picture
from nstx.engine.transfer.job import Job, prepare_job
from nstx.engine.transfer.progress import Step
from nstx.engine.transfer.run import run_job, stylize
from nstx.engine.transfer.saved import prepare_job_from_targets
from nstx.models.errors import DeviceError, NumericalError, UsageError
from nstx.models.objective import Objective


def picture(height: int, width: int, seed: int) -> Picture:
    return Picture(random_pixels(height, width, seed).astype(np.uint8), None, f"seed {seed}")


CONTENT, STYLE = picture(60, 80, 1), picture(90, 70, 2)
STYLES = [(STYLE, 1.0)]


def small(preset: str = "coursera", **choices: Any) -> Settings:
    return choose_settings(preset, **{"size": 48, "steps": 4, "solver": "lbfgs", **choices})


def light(preset: str = "coursera", **choices: Any) -> Settings:
    """Return settings of few layers, where it does not matter which."""
    layers = {"content_layers": "conv2_2", "style_layers": "conv1_1,conv2_1"}
    return small(preset, **{**layers, **choices})


def job_of(**choices: Any) -> Job:
    return prepare_job(CONTENT, STYLES, small(**choices))


def test_the_cost_falls_and_the_picture_stays_within_bounds() -> None:
    result = stylize(CONTENT, STYLES, light("coursera", steps=10, clip=True, init="content"))
    assert result.initial_cost is not None
    assert result.cost.total < 0.3 * result.initial_cost.total
    assert (result.pixels.min(), result.pixels.max()) >= (0, 0)
    assert result.pixels.max() <= 255
    assert (result.steps, result.stopped) == (10, "steps")
    assert result.evaluations >= 10


def test_the_same_seed_gives_the_same_bytes_and_another_does_not() -> None:
    results = [stylize(CONTENT, STYLES, light(init="noise", seed=seed)) for seed in (1, 1, 2)]
    assert results[0].pixels.tobytes() == results[1].pixels.tobytes()
    assert results[0].pixels.tobytes() != results[2].pixels.tobytes()


@pytest.mark.parametrize("preset", ["default", "coursera", "gatys"])
def test_the_reported_cost_is_the_yardsticks(preset: str) -> None:
    settings = small(preset, tv_weight=0.5)
    styles = [(STYLE, 2.0), (picture(50, 50, 3), 1.0)]
    result = stylize(CONTENT, styles, settings)
    cost = evaluate_picture(result.picture, CONTENT, styles, settings)
    assert result.cost.total == pytest.approx(cost.total, rel=1e-3)
    assert result.cost.content == pytest.approx(cost.content, rel=1e-3)
    assert result.cost.style == pytest.approx(cost.style, rel=1e-3)
    assert result.cost.total_variation == pytest.approx(cost.total_variation, rel=1e-3)


def test_steps_are_reported_over_all_scales() -> None:
    steps: list[Step] = []
    settings = light("default", size=96, scales=3, steps=7, clean=False)
    result = stylize(CONTENT, STYLES, settings, on_step=steps.append)
    assert [step.step for step in steps] == list(range(1, 8))
    assert [step.scale for step in steps] == [1, 1, 2, 2, 3, 3, 3]
    assert [step.pixels.shape[1] for step in steps] == [24, 24, 48, 48, 96, 96, 96]
    assert {(step.steps, step.scales) for step in steps} == {(7, 3)}
    assert result.cost == steps[-1].cost
    assert steps[-1].evaluations == result.evaluations
    assert [step.seconds for step in steps] == sorted(step.seconds for step in steps)


def test_more_scales_than_steps_still_end_at_the_full_size() -> None:
    result = stylize(CONTENT, STYLES, light("default", size=96, scales=3, steps=1))
    assert result.pixels.shape == (72, 96, 3)
    assert result.steps == 1


def test_an_interrupted_run_gives_the_last_picture_at_full_size() -> None:
    steps: list[Step] = []
    settings = light("default", size=128, scales=2, steps=20)
    result = stylize(
        CONTENT, STYLES, settings, on_step=steps.append, should_stop=lambda: len(steps) == 3
    )
    assert (result.stopped, result.steps) == ("interrupted", 3)
    assert result.pixels.shape == (96, 128, 3)
    assert steps[-1].scale == 1
    assert result.initial_cost is not None
    assert result.cost.total < result.initial_cost.total


def test_a_run_that_is_stopped_at_once_gives_the_start() -> None:
    result = stylize(CONTENT, STYLES, light(), should_stop=lambda: True)
    assert (result.stopped, result.steps) == ("interrupted", 0)
    assert result.cost == result.initial_cost


def test_a_run_without_progress_stops_early() -> None:
    at_the_optimum = light("default", steps=200, style_weight=0.0, init="content")
    result = stylize(CONTENT, STYLES, at_the_optimum)
    assert result.stopped == "no_progress"
    assert result.steps < 50
    tiny_steps = light("default", steps=200, solver="adam", learning_rate=1e-6)
    result = stylize(CONTENT, STYLES, tiny_steps)
    assert (result.stopped, result.steps) == ("no_progress", 11)


def test_a_cost_that_explodes_is_an_error() -> None:
    settings = light(solver="adam", learning_rate=1e30, steps=5)
    with pytest.raises(NumericalError, match="learning-rate"):
        stylize(CONTENT, STYLES, settings)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf"), float("nan")])
def test_style_weights_must_be_above_zero(weight: float) -> None:
    with pytest.raises(UsageError, match=r"above 0|finite"):
        prepare_job(CONTENT, [(STYLE, weight)], small())


def test_a_missing_device_is_an_error() -> None:
    with pytest.raises(DeviceError, match="CUDA device 97"):
        job_of(device="cuda:97")
    with pytest.raises(DeviceError, match="fp16"):
        job_of(device="cpu", precision="fp16")
    with pytest.raises(DeviceError, match="tf32"):
        job_of(device="cpu", precision="tf32")
    with pytest.raises(DeviceError, match="onnx"):
        job_of(backend="onnx", device="cpu", precision="bf16")
    with pytest.raises(UsageError, match="toaster"):
        job_of(device="toaster")
    with pytest.raises(UsageError, match="fp8"):
        job_of(precision="fp8")


@needs_bf16
def test_bf16_lowers_the_cost_too() -> None:
    result = stylize(CONTENT, STYLES, small("default", precision="bf16", steps=5))
    assert result.initial_cost is not None
    assert result.cost.total < 0.6 * result.initial_cost.total


def test_starts_are_what_they_say() -> None:
    content = random_pixels(40, 40, 3)
    mean = (123.68, 116.779, 103.939)
    mean_pixel = np.array(mean, np.float32)
    np.testing.assert_array_equal(make_start("content", content, mean, 0), content)
    noise = make_start("noise", content, mean, 0) - mean_pixel
    assert -20 <= noise.min() < -19 < 19 < noise.max() <= 20
    blend = make_start("blend", content, mean, 0) - mean_pixel
    expected = 0.6 * noise + 0.4 * (content - mean_pixel)
    np.testing.assert_allclose(blend, expected, atol=1e-3)
    start = make_start(picture(40, 40, 5), content, mean, 0)
    np.testing.assert_array_equal(start, picture(40, 40, 5).pixels)


def test_the_style_scale_changes_the_targets() -> None:
    first, second = job_of(), job_of(style_scale=0.5)
    assert first.targets[-1].height == second.targets[-1].height
    layer = "conv3_1"
    assert not np.allclose(first.targets[-1].style[layer], second.targets[-1].style[layer])
    np.testing.assert_array_equal(
        first.targets[-1].content["conv4_2"], second.targets[-1].content["conv4_2"]
    )


def test_automatic_scales_leave_out_those_that_a_thin_style_cannot_have() -> None:
    thin = picture(400, 20, 4)
    job = prepare_job(CONTENT, [(thin, 1.0)], small("default", size=480))
    assert job.sizes[0][1] > 120
    with pytest.raises(UsageError, match="style picture"):
        prepare_job(CONTENT, [(thin, 1.0)], small("default", size=480, scales=3))


def test_a_targets_file_gives_the_same_picture_as_the_pictures(tmp_path: Path) -> None:
    settings = light("default", size=96, scales=2)
    job = prepare_job(CONTENT, STYLES, settings)
    path = tmp_path / "t.safetensors"
    weights = job.opened.weights_sha256
    write_targets(path, job.contents, job.targets, settings.objective, weights, grain=job.grain)
    again = prepare_job_from_targets(read_targets(path), settings)
    result = run_job(again)
    assert result.cleaned
    assert result.pixels.tobytes() == run_job(job).pixels.tobytes()


def test_targets_without_a_grain_clean_nothing_and_say_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As those of versions before 0.2."""
    settings = light("default", size=96, scales=1)
    job, path = prepare_job(CONTENT, STYLES, settings), tmp_path / "t.safetensors"
    write_targets(path, job.contents, job.targets, settings.objective, job.opened.weights_sha256)
    saved = read_targets(path)
    assert saved.grain is None
    result = run_job(prepare_job_from_targets(saved, settings))
    assert not result.cleaned
    assert "not cleaned" in caplog.text
    caplog.clear()
    plain = run_job(prepare_job_from_targets(saved, replace(settings, clean=False)))
    assert plain.pixels.tobytes() == result.pixels.tobytes()
    assert not caplog.text


def test_a_result_has_the_contents_transparency(tmp_path: Path) -> None:
    alpha = np.full((60, 80), 255, np.uint8)
    alpha[:30] = 0
    job = prepare_job(Picture(CONTENT.pixels, alpha), STYLES, light(steps=1))
    result = run_job(job)
    assert result.pixels.dtype == np.float32
    write_image(tmp_path / "out.png", result.picture, manifest=False)
    saved = read_image(tmp_path / "out.png").alpha
    assert saved is not None
    assert saved.shape == result.pixels.shape[:2]
    assert (saved[0].max(), saved[-1].min()) == (0, 255)
    path = tmp_path / "t.safetensors"
    write_targets(
        path, job.contents, job.targets, job.settings.objective, job.opened.weights_sha256,
        alpha=job.alpha,
    )  # fmt: skip
    again = run_job(prepare_job_from_targets(read_targets(path), job.settings))
    write_image(tmp_path / "again.png", again.picture, manifest=False)
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "out.png").read_bytes()
    assert stylize(CONTENT, STYLES, light(steps=1)).picture.alpha is None


def test_the_cost_is_bound_once_for_all_that_needs_a_scale() -> None:
    job = prepare_job(CONTENT, STYLES, light("default", size=96, scales=2))
    bound: list[Targets] = []

    def make(problems: Sequence[tuple[Objective, Targets]]) -> GradientBackend:
        bound.extend(targets for _, targets in problems)
        return job.opened.make(problems)

    counted = replace(job, opened=replace(job.opened, make=make))
    costs = BoundCosts(counted)
    result = run_job(counted, costs=costs)
    assert costs.measure(result.pixels).total == pytest.approx(result.cost.total, rel=1e-5)
    assert [targets.height for targets in bound] == [36, 72]


def test_a_targets_file_of_another_objective_names_the_difference(tmp_path: Path) -> None:
    job = job_of()
    path = tmp_path / "t.safetensors"
    write_targets(
        path, job.contents, job.targets, job.settings.objective, job.opened.weights_sha256
    )
    saved = read_targets(path)
    with pytest.raises(UsageError, match="pooling avg instead of max"):
        prepare_job_from_targets(saved, small("gatys"))
    with pytest.raises(UsageError, match="style_layers"):
        prepare_job_from_targets(saved, small(style_layers="conv1_1"))
    other_weights = small(style_weight=7.0)
    assert prepare_job_from_targets(saved, other_weights).targets


@pytest.mark.parametrize("data", [b"", b"random bytes " * 20])
def test_a_damaged_targets_file_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "t.safetensors"
    path.write_bytes(data)
    with pytest.raises(UsageError, match="targets file"):
        read_targets(path)
    with pytest.raises(UsageError, match="targets file"):
        read_targets(tmp_path / "missing.safetensors")


def test_targets_of_another_shape_are_refused(tmp_path: Path) -> None:
    job = job_of()
    saved = job.targets[-1]
    wrong = replace(saved, style={**saved.style, "conv2_1": saved.style["conv1_1"]})
    path = tmp_path / "t.safetensors"
    objective, weights = job.settings.objective, job.opened.weights_sha256
    with pytest.raises(UsageError, match="conv2_1"):
        write_targets(path, job.contents, (wrong,), objective, weights)
    assert not path.exists()
