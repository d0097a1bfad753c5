"""Whether a graph of cost and gradient computes what it should: against float64, on pictures.

The reference is `nstx.models.reference.gradient`, in NumPy and float64; it needs no PyTorch.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstx.models.errors import ModelError
from nstx.models.reference.cost import laplacian_difference, reference_total_variation
from nstx.models.reference.features import Array64, reference_features
from nstx.models.reference.gradient import (
    laplacian_gradient,
    reference_gradient,
    total_variation_gradient,
)
from nstx.models.reference.statistics import reference_style
from nstx.models.statistics import MOST_REGIONS, covariance_root
from nstx.models.vgg19 import find_layer
from nstx.models.weights.load import Weights

from .graphs.feature_graph import INPUT_NAME, GraphPrecision
from .graphs.gradient_graph import (
    AREAS_INPUT,
    BETA1,
    BETA2,
    EPSILON,
    LAPLACIAN_INPUTS,
    GradientGraph,
    content_input,
    root_input,
    shares_input,
    style_input,
)
from .parity import check_pictures, relative_error, run_model
from .runtime.providers import CPU, Provider
from .runtime.session import SessionChoices, runtime_version

GRADIENT_TOLERANCES: dict[GraphPrecision, float] = {"fp32": 5e-4, "fp16": 0.1}
"""Largest ‖ours − float64‖ / ‖float64‖ of the gradient of the picture that agrees best."""

KINK_TOLERANCES: dict[GraphPrecision, float] = {"fp32": 1e-2, "fp16": 0.2}
"""Largest error of any picture. An activation within rounding of a kink (ReLU, maximum) moves one
receptive field by up to 3e-3 of the gradient in float32, and neither side is wrong; which pictures
have such a place depends on the processor's rounding."""

COST_TOLERANCES: dict[GraphPrecision, float] = {"fp32": 1e-4, "fp16": 1e-2}
"""Largest relative error of a total."""

_STEP_TOLERANCE = 1e-3
"""Largest error of a pixel after a step of Adam of 1, in pixel values."""

_HEIGHT, _WIDTH = 67, 95

# Each picture's weights, as multiples of the objective's, and what a cost of pixels is of what the network's are.
# They differ, so that a graph which took them from another picture would be found out.
_CONTENT_FACTORS, _STYLE_FACTORS, _PIXEL_SHARES = (
    (1.0, 0.5, 2.0),
    (1.0, 2.0, 0.7),
    (0.2, 0.5, 0.3),
)

# Before they are made to sum to 1, of as many regions as there are.
_AREAS = np.arange(1.0, MOST_REGIONS + 1)

# Adam's state before the step, so that its decay counts, too.
_MOMENTS = {"first_moment": 0.01, "second_moment": 1e-3}


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientParity:
    """How far a graph of cost and gradient is from float64, on one batch of pictures.

    Attributes:
        gradient_errors: ‖ours − float64‖ / ‖float64‖ of each picture; empty without gradients.
        cost_error: of the total, relative, of the worst picture.
        step_error: of a pixel after a step of Adam, in pixel values; None for a graph without.
        gradient_tolerance: that the least of the gradients' errors must not exceed.
        kink_tolerance: that none of them must exceed.
    """

    precision: GraphPrecision
    gradient_errors: tuple[float, ...]
    cost_error: float
    step_error: float | None
    gradient_tolerance: float
    kink_tolerance: float
    cost_tolerance: float
    step_tolerance: float
    batch: int
    height: int
    width: int
    provider: str
    runtime: str

    @property
    def passed(self) -> bool:
        """Whether all errors are within their tolerances."""
        errors = self.gradient_errors or (0.0,)
        # Written so that NaN fails.
        return (
            min(errors) <= self.gradient_tolerance
            and all(error <= self.kink_tolerance for error in errors)
            and self.cost_error <= self.cost_tolerance
            and (self.step_error or 0.0) <= self.step_tolerance
        )

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data, with whether it passed."""
        return {"passed": self.passed, **asdict(self)}

    def check(self) -> None:
        """Raise `ModelError` if cost, gradient or step differ from float64 by too much."""
        if self.passed:
            return
        gradients = ", ".join(f"{error:.1e}" for error in self.gradient_errors) or "none"
        step = "" if self.step_error is None else f", Adam's step {self.step_error:.1e}"
        hint = "to report this" if self.precision == "fp32" else "--precision fp32"
        raise ModelError(
            f"expected gradients within {self.kink_tolerance:g} of float64, one of them within "
            f"{self.gradient_tolerance:g}, and costs within {self.cost_tolerance:g}, got gradients {gradients}, costs "
            f"{self.cost_error:.1e}{step}; nothing was written; try {hint}"
        )


def measure_gradient_parity(
    model: bytes, graph: GradientGraph, weights: Weights, provider: Provider = CPU
) -> GradientParity:
    """Run a model on a batch of three pictures of 95×67, and compare it with float64.

    Each picture has its own targets, and its own weights of content, style and total variation.
    """
    pictures = check_pictures()[:, :_HEIGHT, :_WIDTH].astype(np.float32)
    inputs, totals, expected = _make_problem(graph, weights, pictures)
    if graph.adam:
        inputs |= _adam_inputs(pictures, max(float(np.abs(exact).max()) for exact in expected))
    outputs = run_model(
        model, graph.outputs, inputs, SessionChoices(provider=provider, precision=graph.precision)
    )
    gradients, step_error = outputs.get("gradient", np.zeros(0)), None
    if graph.adam:
        gradients, step_error = _undo_adam({**inputs, **outputs})
    return GradientParity(
        precision=graph.precision,
        gradient_errors=tuple(map(relative_error, gradients, expected)),
        cost_error=max(
            abs(float(ours) / total - 1)
            for ours, total in zip(outputs["total"], totals, strict=True)
        ),
        step_error=step_error,
        gradient_tolerance=GRADIENT_TOLERANCES[graph.precision],
        kink_tolerance=KINK_TOLERANCES[graph.precision],
        cost_tolerance=COST_TOLERANCES[graph.precision],
        step_tolerance=_STEP_TOLERANCE,
        batch=len(pictures),
        height=_HEIGHT,
        width=_WIDTH,
        provider=provider.name,
        runtime=runtime_version(),
    )


def _make_problem(
    graph: GradientGraph, weights: Weights, pictures: NDArray[np.float32]
) -> tuple[dict[str, NDArray[np.float32]], list[float], list[Array64]]:
    """Return a graph's inputs, and their costs and gradients; targets are the neighbour's.

    Those of several regions are the neighbour's with other shares of its positions.
    """
    objective = graph.objective
    sizes = _AREAS[: max(1, graph.regions)]
    areas = tuple((sizes / sizes.sum()).tolist())
    rows: list[dict[str, NDArray[np.floating]]] = []
    totals, gradients = [], []
    for index, picture in enumerate(pictures):
        neighbour = pictures[index - 1]
        features = reference_features(weights, neighbour, objective.layers, *objective.poolings)
        content = {name: features[name] for name in objective.content_names}
        shares = _draw_shares(graph, seed=index)
        style = _style_targets(graph, features, _draw_shares(graph, seed=index + len(pictures)))
        weighted = replace(
            objective,
            content_weight=objective.content_weight * _CONTENT_FACTORS[index],
            style_weight=objective.style_weight * _STYLE_FACTORS[index],
            tv_weight=0.0,
            laplacian_weight=0.0,
        )
        cost, gradient = reference_gradient(
            weighted, weights, picture, content, style, shares=shares, areas=areas
        )
        share = _PIXEL_SHARES[index]
        numbers = {name: np.array(getattr(weighted, name)) for name in graph.weights}
        total = cost.total
        for name, (part, slope) in _pixel_costs(graph, picture, neighbour).items():
            weight = float(np.float32(cost.total * share / (1 - share) / part))
            total, gradient = total + weight * part, gradient + weight * slope
            numbers[name] = np.array(weight)
        totals.append(total)
        gradients.append(gradient)
        targets: dict[str, NDArray[np.floating]] = {}
        targets |= {content_input(name): target for name, target in content.items()}
        targets |= {style_input(name): target for name, target in style.items()}
        targets |= {root_input(name): _root(style[name]) for name in graph.root_layers}
        targets |= {shares_input(name): of_layer for name, of_layer in shares.items()}
        targets |= {AREAS_INPUT: np.array(areas)} if graph.regions > 1 else {}
        if graph.has_laplacian:
            targets[LAPLACIAN_INPUTS[1]] = -laplacian_difference(
                np.zeros_like(neighbour), neighbour
            )
        rows.append({INPUT_NAME: picture, **numbers, **targets})
    stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    inputs = {name: values.astype(np.float32) for name, values in stacked.items()}
    return inputs, totals, gradients


def _pixel_costs(
    graph: GradientGraph, picture: NDArray[np.float32], content: NDArray[np.float32]
) -> dict[str, tuple[float, Array64]]:
    """Return costs of pixels before their weights, with their gradients, by the names of their weights."""
    costs = {"tv_weight": (reference_total_variation(picture), total_variation_gradient(picture))}
    if graph.has_laplacian:
        cost = float(np.mean(laplacian_difference(picture, content) ** 2))
        costs["laplacian_weight"] = cost, laplacian_gradient(picture, content)
    return costs


def _draw_shares(graph: GradientGraph, seed: int) -> dict[str, NDArray[np.float32]]:
    """Return shares of each style layer's positions that vary; of a graph without regions none."""
    if not graph.regions:
        return {}
    shares, generator = {}, np.random.default_rng(seed)
    for name in graph.objective.style_names:
        size = find_layer(name).output_size(_HEIGHT, _WIDTH, graph.objective.pool_rounding)
        values = generator.random((graph.regions, *size)) ** 4
        values = (values / values.sum((1, 2), keepdims=True)).astype(np.float32)
        shares[name] = values if graph.regions > 1 else values[0]
    return shares


def _style_targets(
    graph: GradientGraph, features: Mapping[str, Array64], shares: Mapping[str, NDArray[np.float32]]
) -> dict[str, NDArray[np.floating]]:
    targets: dict[str, NDArray[np.floating]] = {}
    for name, statistic in graph.objective.statistics.items():
        of_layer = shares.get(name)
        if of_layer is None or graph.regions == 1:
            targets[name] = reference_style(statistic, features[name], of_layer)
        else:
            of_regions = [reference_style(statistic, features[name], part) for part in of_layer]
            targets[name] = np.stack(of_regions)
    return targets


def _root(target: NDArray[np.floating]) -> Array64:
    if target.ndim == 2:
        return covariance_root(target)
    return np.stack(list(map(covariance_root, target)))


def _adam_inputs(pictures: NDArray[np.float32], largest: float) -> dict[str, NDArray[np.float32]]:
    """Return the inputs of the first step, on gradients whose largest value is scaled to 1."""
    numbers = {"step": 1.0, "learning_rate": 1.0, "gradient_factor": 1 / largest}
    numbers |= {"low": 0.0, "high": 255.0}
    inputs = {name: np.array(value, np.float32) for name, value in numbers.items()}
    return inputs | {name: np.full_like(pictures, value) for name, value in _MOMENTS.items()}


def _undo_adam(tensors: Mapping[str, NDArray[np.float32]]) -> tuple[Array64, float]:
    """Return the gradient that a step of Adam was made of, and the step's error in pixel values."""
    wide = {name: np.asarray(value, np.float64) for name, value in tensors.items()}
    scaled = (wide["next_first_moment"] - BETA1 * wide["first_moment"]) / (1 - BETA1)
    square = BETA2 * wide["second_moment"] + (1 - BETA2) * scaled**2
    rate = wide["learning_rate"] * np.sqrt(1 - BETA2) / (1 - BETA1)
    move = rate * wide["next_first_moment"] / (np.sqrt(square) + EPSILON)
    expected = (wide[INPUT_NAME] - move).clip(wide["low"], wide["high"])
    error = float(np.abs(wide["next_pixels"] - expected).max())
    return scaled / wide["gradient_factor"], error
