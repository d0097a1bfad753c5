"""Preset ``coursera-tf2`` beside the assignment's recipe, written anew in PyTorch and float64."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import relative_error
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import conv2d, max_pool2d

from nstx.engine.choices import choose_settings
from nstx.engine.features.extraction import Extraction, extract_features
from nstx.engine.gradients.backend import check_batch
from nstx.engine.pictures.picture import Picture
from nstx.engine.preparation.starts import make_start
from nstx.engine.sizes import choose_sizes
from nstx.engine.targets.files import read_targets
from nstx.engine.transfer.costs import evaluate_picture
from nstx.engine.transfer.job import prepare_job
from nstx.engine.transfer.run import run_job, stylize
from nstx.engine.transfer.saved import prepare_job_from_targets
from nstx.export.gradient import export_gradient
from nstx.export.graphs.gradient_graph import GradientGraph
from nstx.models.cost import Cost
from nstx.models.errors import UsageError
from nstx.models.layers import LayerWeight
from nstx.models.objective import objective_from_json, objective_to_json
from nstx.models.presets import PRESETS
from nstx.models.weights.load import Weights, load_weights, prepare_weights, weights_digest

PRESET = "coursera-tf2"
Parameters = dict[str, tuple[torch.Tensor, torch.Tensor]]
STYLE_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
Nstx = Callable[..., tuple[int, str, str]]


def draw(height: int, width: int, seed: int) -> Picture:
    """Return soft spots of colour."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return Picture(np.array(image), None)


@pytest.fixture(scope="module")
def keras(real_weights: Weights) -> Parameters:
    """VGG-19's kernels and biases as Keras has them: the first kernel's inputs are blue, green, red."""
    parameters = {}
    for name, kernel in real_weights.kernels.items():
        ordered = kernel[:, [2, 1, 0]] if name == "conv1_1" else kernel
        bias = torch.from_numpy(real_weights.biases[name]).double()
        parameters[name] = torch.from_numpy(ordered.copy()).double(), bias
    return parameters


class Notebook:
    """The notebook's model, costs and training, on pictures (1, 3, height, width) of 0–1.

    It hands Keras red, green and blue, in this order.
    """

    def __init__(self, parameters: Parameters, content: torch.Tensor, style: torch.Tensor) -> None:
        self.parameters = parameters
        self.content = self.features(content)["conv5_4"]
        self.style = {name: self.gram(self.features(style)[name]) for name in STYLE_LAYERS}

    def features(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs = {}
        for block, count in enumerate((2, 2, 4, 4, 4), start=1):
            for name in (f"conv{block}_{index}" for index in range(1, count + 1)):
                kernel, bias = self.parameters[name]
                outputs[name] = x = torch.relu(conv2d(x, kernel, bias, padding=1))
            x = max_pool2d(x, 2)
        return outputs

    @staticmethod
    def gram(activation: torch.Tensor) -> torch.Tensor:
        rows = activation[0].flatten(1)
        return rows @ rows.T

    def costs(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return J, J_content and J_style."""
        outputs = self.features(x)
        content = ((self.content - outputs["conv5_4"]) ** 2).sum() / (4 * self.content.numel())
        style = torch.zeros((), dtype=torch.float64)
        for name in STYLE_LAYERS:
            _, channels, height, width = outputs[name].shape
            difference = ((self.gram(outputs[name]) - self.style[name]) ** 2).sum()
            style = style + 0.2 * difference / (4 * channels**2 * (height * width) ** 2)
        return 10 * content + 40 * style, content, style

    def train(self, x: torch.Tensor, steps: int) -> tuple[list[list[float]], torch.Tensor]:
        """Return J, J_content and J_style before each step of Keras' Adam and at the end, and the end."""
        mean, square, rows = torch.zeros_like(x), torch.zeros_like(x), []
        for step in range(1, steps + 2):
            x = x.detach().requires_grad_(True)
            costs = self.costs(x)
            rows.append([cost.item() for cost in costs])
            if step > steps:
                break
            (gradient,) = torch.autograd.grad(costs[0], x)
            mean = 0.9 * mean + 0.1 * gradient
            square = 0.999 * square + 0.001 * gradient**2
            rate = 0.01 * (1 - 0.999**step) ** 0.5 / (1 - 0.9**step)
            x = (x - rate * mean / (square.sqrt() + 1e-7)).clamp(0, 1)
        return rows, x.detach()


def as_unit(pixels: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(pixels.astype(np.float64) / 255).permute(2, 0, 1)[None]


def notebook_of(parameters: Parameters, content: Picture, style: Picture, side: int) -> Notebook:
    """Return the notebook on pictures resized as it does."""
    units = []
    for picture in (content, style):
        resized = Image.fromarray(picture.pixels.astype(np.uint8)).resize((side, side))
        units.append(as_unit(np.asarray(resized)))
    return Notebook(parameters, *units)


def test_costs_and_pictures_are_those_of_the_notebook(keras: Parameters) -> None:
    # 39 is odd at the first pooling, and 19 at the second: both round down.
    side, steps = 39, 2
    content, style = draw(60, 44, seed=1), draw(50, 70, seed=2)
    settings = choose_settings(PRESET, size=side, steps=steps, device="cpu")
    job = prepare_job(content, [(style, 1.0)], settings)
    notebook = notebook_of(keras, content, style, side)
    expected, picture = notebook.train(as_unit(job.start(-1)), steps)
    costs: list[Cost] = []
    result = run_job(job, on_step=lambda step: costs.append(step.cost))
    assert result.initial_cost is not None
    rows = [[cost.total, cost.content, cost.style] for cost in (result.initial_cost, *costs)]
    np.testing.assert_allclose(rows[0], expected[0], rtol=1e-6)
    # Adam's first steps go by the signs of gradients, of which some are within rounding of 0.
    np.testing.assert_allclose(rows, expected, rtol=2e-4)
    theirs = 255 * picture[0].permute(1, 2, 0).numpy()
    assert np.median(abs(result.pixels - theirs)) < 1e-4
    assert np.mean(abs(result.pixels - theirs) > 0.1) < 2e-3
    assert (result.pixels.min(), result.pixels.max()) == (0, 255)


def test_the_yardstick_and_pytorch_are_the_notebooks_cost(keras: Parameters) -> None:
    content, style, picture = draw(33, 33, seed=1), draw(33, 33, seed=2), draw(33, 33, seed=3)
    x = as_unit(picture.pixels).requires_grad_(True)
    total, *_ = notebook_of(keras, content, style, 33).costs(x)
    cost = evaluate_picture(picture, content, [(style, 1.0)], choose_settings(PRESET))
    # The first kernel is divided by 255 in float32.
    assert cost.total == pytest.approx(total.item(), rel=1e-6)
    settings = choose_settings(PRESET, size=33, backend="torch", extractor="torch", device="cpu")
    backend = prepare_job(content, [(style, 1.0)], settings).backend(-1)
    by_torch, gradient = backend.cost_and_gradient(picture.pixels.astype(np.float32))
    assert by_torch.total == pytest.approx(total.item(), rel=1e-5)
    (expected,) = torch.autograd.grad(total, x)
    # In pixel values, of which there are 255.
    theirs = expected[0].permute(1, 2, 0).numpy() / 255
    assert relative_error(np.asarray(gradient), theirs) < 1e-3


def test_the_preset_is_the_notebooks() -> None:
    preset = PRESETS[PRESET]
    objective = preset.objective
    assert objective.content_layers == (LayerWeight("conv5_4", 1.0),)
    assert objective.style_layers == tuple(LayerWeight(name, 0.2) for name in STYLE_LAYERS)
    assert (objective.content_weight, objective.style_weight) == (10, 40)
    assert (objective.pooling, objective.pool_rounding) == ("max", "floor")
    assert preset.learning_rate == pytest.approx(0.01 * 255)
    assert (preset.steps, preset.clip) == (2501, True)
    assert choose_sizes((300, 400), [], choose_settings(PRESET)) == ((400, 400),)
    assert choose_sizes((300, 400), [], choose_settings(PRESET, width=80, height=60)) == ((60, 80),)


def test_the_start_is_the_content_with_noise_within_the_range() -> None:
    content = np.full((60, 80, 3), 128, np.float32)
    content[:30] = 250
    start = make_start("noisy", content, (0, 0, 0), seed=5)
    added = (start - content)[30:]
    assert (added.min(), added.max()) == pytest.approx((-63.75, 63.75), abs=0.1)
    assert added.std() == pytest.approx(63.75 / 3**0.5, rel=0.02)
    assert start.max() == 255
    assert start.dtype == np.float32


def test_weights_are_prepared_once_and_known_by_another_digest(tiny_weights: Weights) -> None:
    prepared = prepare_weights(tiny_weights, "unit_rgb")
    assert prepare_weights(prepared, "unit_rgb") is prepared
    assert prepare_weights(tiny_weights, "published") is tiny_weights
    assert prepared.sha256 != tiny_weights.sha256
    with pytest.raises(UsageError, match="published"):
        prepare_weights(prepared, "published")
    with pytest.raises(UsageError, match="Oxford's training"):
        prepare_weights(replace(tiny_weights, mean=(123.675, 116.28, 103.53)), "unit_rgb")
    assert load_weights(preprocessing="unit_rgb").sha256 == weights_digest("embedded", "unit_rgb")


def test_targets_are_kept_apart_and_come_from_a_file(
    nstx: Nstx, save_picture: Callable[..., Path], tmp_path: Path
) -> None:
    content, style = save_picture("content.png"), save_picture("style.png", 90, 70, seed=1)
    options = ["--preset", PRESET, "--size", 34, "--content-layers", "conv2_2"]
    options += ["--style-layers", "conv1_1,conv2_1"]
    for command, more in (
        (["precompute", "--content", content, "--style", style], []),
        (
            ["precompute", "--content", content, "--style", style],
            ["-o", tmp_path / "t.safetensors"],
        ),
    ):
        code, _, err = nstx(*command, *options, *more)
        assert code == 0, err
    outputs = [tmp_path / name for name in ("a.npy", "b.npy")]
    run = ["--steps", 1, "--json"]
    code, out, _ = nstx("optimize", content, style, "-o", outputs[0], *options, *run)
    first = json.loads(out)
    assert first["targets"] == {"content": "hit", "style": ["hit"]}
    assert first["objective"]["preprocessing"] == "unit_rgb"
    assert (first["width"], first["height"]) == (34, 34)
    code, out, err = nstx(
        "optimize", "--targets", tmp_path / "t.safetensors", "-o", outputs[1], *run
    )
    assert code == 0, err
    assert json.loads(out)["cost"] == first["cost"]
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    saved = read_targets(tmp_path / "t.safetensors")
    with pytest.raises(UsageError, match="weights_sha256"):
        prepare_job_from_targets(saved, choose_settings("gatys", content_layers="conv2_2"))


def test_an_exported_gradient_is_of_pixels_that_it_prepares_itself(
    tmp_path: Path, tiny_weights: Weights
) -> None:
    graph = GradientGraph(objective=PRESETS[PRESET].objective)
    # It is compared with the yardstick before it is written.
    report = export_gradient(tmp_path / "g.onnx", graph, tiny_weights)
    assert report.passed
    data = json.loads((tmp_path / "g.parity.json").read_text())
    assert data["weights_sha256"] == prepare_weights(tiny_weights, "unit_rgb").sha256


def test_features_can_be_extracted_without_the_mean() -> None:
    picture = draw(20, 24, seed=4)
    first, by_torch, usual = (
        extract_features(picture, "conv1_1", extraction=choices).features.activations["conv1_1"]
        for choices in (
            Extraction(preprocessing="unit_rgb"),
            Extraction(preprocessing="unit_rgb", extractor="torch"),
            Extraction(),
        )
    )
    np.testing.assert_allclose(first, by_torch, atol=1e-4)
    assert abs(first - usual).max() > 1


def test_an_objective_says_its_preprocessing_only_where_it_is_not_the_usual() -> None:
    for preset in PRESETS.values():
        data = objective_to_json(preset.objective)
        assert ("preprocessing" in data) == (preset.name == PRESET)
        assert objective_from_json(json.loads(json.dumps(data))) == preset.objective


@pytest.mark.parametrize("init", ["noise", "blend"])
def test_starts_around_the_mean_colour_are_refused(init: str) -> None:
    with pytest.raises(UsageError, match=rf"got {init}; try --init noisy"):
        choose_settings(PRESET, init=init)


def test_other_combinations_are_refused() -> None:
    with pytest.raises(UsageError, match="without a pooling or preprocessing"):
        Extraction(model=Path("m.onnx"), preprocessing="unit_rgb")
    with pytest.raises(UsageError, match="'published' or 'unit_rgb' as preprocessing, got 'rgb'"):
        Extraction(preprocessing="rgb")  # type: ignore[arg-type]
    objectives = [PRESETS[name].objective for name in (PRESET, "coursera")]
    with pytest.raises(UsageError, match="differ in their weights alone"):
        check_batch(objectives, [(8, 8), (8, 8)])


@pytest.mark.realdata
def test_the_courses_pictures_cost_what_its_notebook_expects(data_folder: Path) -> None:
    folder = data_folder / "coursera"
    content, style = (Picture(np.array(Image.open(folder / name)), None) for name in (
        "louvre_small.jpg", "monet.jpg"))  # fmt: skip
    result = stylize(content, [(style, 1.0)], choose_settings(PRESET, steps=1, device="cpu"))
    # The notebook allows 5 % for the noise.
    assert result.initial_cost is not None
    assert result.initial_cost.total == pytest.approx(25_700, rel=0.05)
    assert result.cost.total == pytest.approx(17_780, rel=0.05)
