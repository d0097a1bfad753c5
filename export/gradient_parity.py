"""Whether a graph of cost and gradient computes what it should: against float64, on pictures.

The reference is `nstx.models.reference_gradient`, in NumPy and float64; it needs no PyTorch.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..models.reference import reference_features, reference_gram
from ..models.reference_gradient import ReferenceGradient, reference_gradient
from ..models.weights import Weights
from .feature_graph import INPUT_NAME, GraphPrecision
from .gradient_graph import WEIGHT_INPUTS, GradientGraph, content_input, style_input
from .parity import check_pictures
from .providers import CPU, Provider
from .session import SessionChoices, open_session, run_session, runtime_version

GRADIENT_TOLERANCES: dict[GraphPrecision, float] = {"fp32": 5e-4, "fp16": 0.1}
"""Largest ‖ours − float64‖ / ‖float64‖ of a gradient. Where an activation lies within rounding of a
kink of ReLU or max pooling, one receptive field moves."""

COST_TOLERANCES: dict[GraphPrecision, float] = {"fp32": 1e-4, "fp16": 1e-2}
"""Largest relative error of a total."""

_HEIGHT, _WIDTH = 67, 95


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientParity:
    """What a parity check found, of the worst picture.

    Attributes:
        precision: of the graph.
        gradient_error: ‖ours − float64‖ / ‖float64‖; None for a graph of costs alone.
        cost_error: of the total, relative.
        gradient_tolerance: that the first must not exceed.
        cost_tolerance: that the second must not exceed.
        batch: pictures that it was checked on, all in one batch.
        height: of each.
        width: of each.
        provider: that ran the graph.
        runtime: version of ONNX Runtime.
    """

    precision: GraphPrecision
    gradient_error: float | None
    cost_error: float
    gradient_tolerance: float
    cost_tolerance: float
    batch: int
    height: int
    width: int
    provider: str
    runtime: str

    @property
    def passed(self) -> bool:
        """Whether both errors are within their tolerances."""
        gradient = 0.0 if self.gradient_error is None else self.gradient_error
        # Written so that NaN fails.
        return gradient <= self.gradient_tolerance and self.cost_error <= self.cost_tolerance

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data, with whether it passed."""
        return {"passed": self.passed, **asdict(self)}


def measure_gradient_parity(
    model: bytes, graph: GradientGraph, weights: Weights, provider: Provider = CPU
) -> GradientParity:
    """Run a model on a batch of two pictures of 95×67, and compare it with float64.

    Args:
        model: the ONNX file's bytes; of a graph without Adam.
        graph: what it should compute.
        weights: that it was built from.
        provider: that runs it.

    Raises:
        ModelError: the model cannot be loaded.
        DeviceError: the provider is not there.
    """
    crops = check_pictures()[:, :_HEIGHT, :_WIDTH].astype(np.float32)
    pictures, others = crops[:2], crops[[2, 0]]
    targets = [_targets(graph, weights, other) for other in others]
    given = {INPUT_NAME: pictures}
    for name in WEIGHT_INPUTS:
        given[name] = np.full(2, getattr(graph.objective, name), np.float32)
    for name in graph.targets:
        given[name] = np.stack([target[name] for target in targets]).astype(np.float32)
    session = open_session(model, SessionChoices(provider=provider))
    values = run_session(session.run, provider, list(graph.outputs), given)
    found = dict(zip(graph.outputs, values, strict=True))
    expected = [
        _reference(graph, weights, picture, target)
        for picture, target in zip(pictures, targets, strict=True)
    ]
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
        gradient_error=max(gradients) if gradients else None,
        cost_error=max(costs),
        gradient_tolerance=GRADIENT_TOLERANCES[graph.precision],
        cost_tolerance=COST_TOLERANCES[graph.precision],
        batch=len(pictures),
        height=_HEIGHT,
        width=_WIDTH,
        provider=provider.name,
        runtime=runtime_version(),
    )


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
    graph: GradientGraph,
    weights: Weights,
    picture: NDArray[np.float32],
    targets: Mapping[str, NDArray[np.float64]],
) -> ReferenceGradient:
    objective = graph.objective
    return reference_gradient(
        objective,
        weights,
        picture,
        {name: targets[content_input(name)] for name in objective.content_names},
        {name: targets[style_input(name)] for name in objective.style_names},
    )
