"""What an interleaved graph takes beside pictures: targets in its own units, and numbers for each of its layers.

All that follows from targets, weights and sizes alone is computed here, once, rather than by the graph in every step,
where a launch takes as long as the arithmetic of some thousand numbers. The onnx package is not needed.

With S the scale of activations in fp16 and N the positions of a layer with C channels, a graph's differences are
D = S (F − T) of a content and D = s (G − T) of a style, with s = N S² α and α as in `gram_alpha`. Of their mean squares
follow costs, f ⟨D²⟩, and how large their seeds are in units of `SEED_SIZE`, k √⟨D²⟩ √(a + b √⟨D²⟩); f, k, a and b are
`LAYER_INPUTS`. For a style that is a bound: its seed is k D S F, whose mean square is k² tr(D s G D) / (α N C); that
trace is at most ‖D‖² ‖s G‖, and ‖s G‖ at most ‖s T‖ + ‖D‖, with ‖D‖ = C √⟨D²⟩.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from nstx.models.vgg19 import find_layer

from ..graphs.feature_graph import FP16_SCALE
from ..graphs.gradient_graph import GradientGraph, content_input, style_input

Arrays = Mapping[str, NDArray[np.float32]]

SEED_SIZE = 0.25
"""The root mean square of the largest seed in fp16, at most, which reaches from 6e-8 to 65 504."""

_MOST_GROUPS = 256

# Of groups, from which products are rounded to fp16. A product is shrunk, so that groups of 65 536 positions
# do not overflow while the mean square of their activations is below 4e6.
_FEWEST_ROUNDED, _SHRINK = 16, 2.0**-14


def count_groups(graph: GradientGraph, layer: str) -> int:
    """Return how many groups the positions of a layer are split into for its Gram matrix."""
    if not graph.even:
        return 1
    poolings = sum(layer.kind == "pool" for layer in graph.objective.network)
    side: int = 2**poolings // find_layer(layer).stride
    return min(_MOST_GROUPS, side**2)


def rounds_products(graph: GradientGraph, layer: str) -> bool:
    """Whether a layer's products are rounded to fp16 before they are added up."""
    return graph.precision == "fp16" and count_groups(graph, layer) >= _FEWEST_ROUNDED


def gram_alpha(graph: GradientGraph, layer: str) -> float:
    """Return what products are multiplied with on their way to a layer's Gram matrix."""
    return _SHRINK if rounds_products(graph, layer) else 1.0


def interleave_inputs(
    graph: GradientGraph, planar: Arrays, size: tuple[int, int]
) -> dict[str, NDArray[np.float32]]:
    """Return the inputs of an interleaved graph but for the pixels, of those of its planar one.

    Args:
        graph: the interleaved one.
        planar: weights and targets of a batch, as the inputs of a planar graph.
        size: height and width of the pictures, for which alone the result serves.
    """
    objective = graph.objective
    inputs = {name: planar[name] for name in graph.inputs if name in planar}
    columns = []
    for item in objective.content_layers if objective.uses_content else ():
        name, scale = content_input(item.layer), FP16_SCALE if graph.precision == "fp16" else 1.0
        target = planar[name].transpose(0, 2, 3, 1)
        values = target[0].size
        slope = 2 * item.weight / (values * scale) * planar["content_weight"].astype(np.float64)
        factor = _factor(graph, objective.content_factor, target)
        columns.append((factor / scale**2, slope * factor, np.ones_like(slope), 0 * slope))
        inputs[name] = target * np.float32(scale)
    for item in objective.style_layers if objective.uses_style else ():
        name, layer = style_input(item.layer), find_layer(item.layer)
        positions = math.prod(layer.output_size(*size, objective.pool_rounding))
        alpha, target = gram_alpha(graph, item.layer), planar[name]
        channels, scale = target.shape[1], positions * FP16_SCALE**2 * alpha
        of_activations = FP16_SCALE if graph.precision == "fp16" else 1.0
        number = 4 * item.weight / (channels**2 * positions * scale * of_activations)
        slope = number * planar["style_weight"].astype(np.float64)
        factor = _factor(graph, objective.style_factor, target)
        strength = scale * np.linalg.norm(target.astype(np.float64), axis=(1, 2))
        unit = channels / (alpha * positions)
        growth = np.full_like(slope, unit * channels)
        columns.append((factor / scale**2, slope * factor, unit * strength, growth))
        inputs[name] = target * np.float32(scale)
    of_layers = [np.stack(values, 1) for values in zip(*columns, strict=True)]
    for values in of_layers[2:]:
        values /= SEED_SIZE**2
    for name, values in zip(graph.layer_inputs, of_layers, strict=False):
        inputs[name] = values.astype(np.float32)
    return inputs


def _factor(
    graph: GradientGraph, factor: float, target: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return f of each picture: over its target's mean square if costs are relative, or over 1 where that is less."""
    axes = tuple(range(1, target.ndim))
    strength: NDArray[np.float64] = np.mean(np.square(target, dtype=np.float64), axis=axes)
    if not graph.objective.relative:
        return np.full_like(strength, factor)
    return factor / np.maximum(1.0, strength)
