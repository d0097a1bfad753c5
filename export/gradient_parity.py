"""Whether a graph of cost and gradient computes what it should: against float64, on pictures.

The reference is `nstx.models.reference.gradient`, in NumPy and float64; it needs no PyTorch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstx.models.objective import Objective
from nstx.models.reference.features import reference_features, reference_gram
from nstx.models.reference.gradient import (
    ReferenceGradient,
    add_total_variation,
    reference_gradient,
)
from nstx.models.weights.load import Weights

from .graphs.adam import BETA1, BETA2, EPSILON
from .graphs.feature_graph import INPUT_NAME, GraphPrecision
from .graphs.gradient_graph import WEIGHT_INPUTS, GradientGraph, content_input, style_input
from .parity import check_pictures
from .runtime.providers import CPU, Provider
from .runtime.session import SessionChoices, open_session, run_session, runtime_version

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

# Each picture's weights, as multiples of the objective's, and the share of the total variation in its
# cost. They differ, so that a graph which took them from another picture would be found out.
_CONTENT_FACTORS, _STYLE_FACTORS, _VARIATION_SHARES = (
    (1.0, 0.5, 2.0),
    (1.0, 2.0, 0.7),
    (0.2, 0.5, 0.3),
)

# Adam's state before the step, so that its decay counts, too.
_MOMENTS = {"first_moment": 0.01, "second_moment": 1e-3}


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientParity:
    """What a parity check found.

    Attributes:
        precision: of the graph.
        gradient_errors: ‖ours − float64‖ / ‖float64‖ of each picture; empty for a graph of costs
            alone.
        cost_error: of the total, relative, of the worst picture.
        step_error: of a pixel after a step of Adam, in pixel values; None for a graph without.
        gradient_tolerance: that the least of the gradients' errors must not exceed.
        kink_tolerance: that none of them must exceed.
        cost_tolerance: that the cost's must not exceed.
        step_tolerance: that the step's must not exceed.
        batch: pictures that it was checked on, all in one batch.
        height: of each.
        width: of each.
        provider: that ran the graph.
        runtime: version of ONNX Runtime.
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
        step = 0.0 if self.step_error is None else self.step_error
        # Written so that NaN fails.
        return (
            min(errors) <= self.gradient_tolerance
            and all(error <= self.kink_tolerance for error in errors)
            and self.cost_error <= self.cost_tolerance
            and step <= self.step_tolerance
        )

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data, with whether it passed."""
        return {"passed": self.passed, **asdict(self)}


def measure_gradient_parity(
    model: bytes, graph: GradientGraph, weights: Weights, provider: Provider = CPU
) -> GradientParity:
    """Run a model on a batch of three pictures of 95×67, and compare it with float64.

    Each picture has its own targets, and its own weights of content, style and total variation.

    Args:
        model: the ONNX file's bytes.
        graph: what it should compute.
        weights: that it was built from.
        provider: that runs it.

    Raises:
        ModelError: the model cannot be loaded.
        DeviceError: the provider is not there.
    """
    pictures = check_pictures()[:, :_HEIGHT, :_WIDTH].astype(np.float32)
    given, expected = _problem(graph, weights, pictures)
    if graph.adam:
        given |= _adam_inputs(pictures, expected)
    session = open_session(model, SessionChoices(provider=provider))
    values = run_session(session.run, provider, list(graph.outputs), given)
    found = dict(zip(graph.outputs, values, strict=True))
    step_error = None
    if graph.adam:
        found["gradient"], step_error = _undo_adam(given, found)
    gradients = [
        float(np.linalg.norm(ours - each.gradient) / np.linalg.norm(each.gradient))
        for ours, each in zip(found.get("gradient", ()), expected, strict=False)
    ]
    costs = [
        abs(float(ours) / each.total - 1)
        for ours, each in zip(found["total"], expected, strict=True)
    ]
    return GradientParity(
        precision=graph.precision,
        gradient_errors=tuple(gradients),
        cost_error=max(costs),
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


def _problem(
    graph: GradientGraph, weights: Weights, pictures: NDArray[np.float32]
) -> tuple[dict[str, NDArray[np.float32]], list[ReferenceGradient]]:
    """Return the inputs of a graph, and what it should make of them."""
    objective = graph.objective
    rows: list[dict[str, NDArray[np.floating]]] = []
    expected: list[ReferenceGradient] = []
    for index, picture in enumerate(pictures):
        targets = _targets(graph, weights, pictures[index - 1])
        own = replace(
            objective,
            content_weight=objective.content_weight * _CONTENT_FACTORS[index],
            style_weight=objective.style_weight * _STYLE_FACTORS[index],
            tv_weight=0.0,
        )
        without = _reference(own, weights, picture, targets)
        share = _VARIATION_SHARES[index]
        variation = float(np.float32(without.total * share / (1 - share) / without.total_variation))
        expected.append(add_total_variation(without, picture, variation))
        named = {name: np.array(getattr(own, name)) for name in WEIGHT_INPUTS}
        named["tv_weight"] = np.array(variation)
        rows.append({INPUT_NAME: picture, **named, **targets})
    names = [INPUT_NAME, *WEIGHT_INPUTS, *graph.targets]
    return {n: np.stack([row[n] for row in rows]).astype(np.float32) for n in names}, expected


def _adam_inputs(
    pictures: NDArray[np.float32], expected: Sequence[ReferenceGradient]
) -> dict[str, NDArray[np.float32]]:
    """Return the inputs of the first step of Adam, on gradients scaled to 1 or less."""
    numbers = {
        "step": 1.0,
        "learning_rate": 1.0,
        "gradient_factor": 1 / max(float(np.abs(each.gradient).max()) for each in expected),
        "low": 0.0,
        "high": 255.0,
    }
    given = {name: np.array(value, np.float32) for name, value in numbers.items()}
    moments = {name: np.full_like(pictures, value) for name, value in _MOMENTS.items()}
    return {**given, **moments}


def _undo_adam(
    given: Mapping[str, NDArray[np.float32]], found: Mapping[str, NDArray[np.float32]]
) -> tuple[NDArray[np.float64], float]:
    """Return the gradient that a step of Adam was made of, and the step's error in pixel values."""
    wide = {name: np.asarray(value, np.float64) for name, value in {**given, **found}.items()}
    scaled = (wide["next_first_moment"] - BETA1 * wide["first_moment"]) / (1 - BETA1)
    square = BETA2 * wide["second_moment"] + (1 - BETA2) * scaled**2
    rate = wide["learning_rate"] * np.sqrt(1 - BETA2) / (1 - BETA1)
    move = rate * wide["next_first_moment"] / (np.sqrt(square) + EPSILON)
    expected = (wide[INPUT_NAME] - move).clip(wide["low"], wide["high"])
    error = float(np.abs(wide["next_pixels"] - expected).max())
    return scaled / wide["gradient_factor"], error


def _targets(
    graph: GradientGraph, weights: Weights, picture: NDArray[np.float32]
) -> dict[str, NDArray[np.float64]]:
    """Return the targets that a picture gives, under the names of the inputs."""
    objective = graph.objective
    features = reference_features(
        weights, picture, objective.layers, objective.pooling, objective.pool_rounding
    )
    targets = {content_input(name): features[name] for name in objective.content_names}
    for name in objective.style_names:
        targets[style_input(name)] = reference_gram(features[name])
    return targets


def _reference(
    objective: Objective,
    weights: Weights,
    picture: NDArray[np.float32],
    targets: Mapping[str, NDArray[np.float64]],
) -> ReferenceGradient:
    return reference_gradient(
        objective,
        weights,
        picture,
        {name: targets[content_input(name)] for name in objective.content_names},
        {name: targets[style_input(name)] for name in objective.style_names},
    )
