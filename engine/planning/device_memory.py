"""The memory that a run by PyTorch takes of a CUDA device: counted from shapes and numbers' bytes, nothing is fitted.

Activations are kept until the gradient passes by, which is what an evaluation takes at its peak. Those of a whole picture's
first precision stay, as its evaluation is a CUDA graph, beside those in fp32 by which it is checked; tiles come one at a time.
On an H200 in bf16 4096×4096 pixels took 11.6 GiB whole, of which this counts 11.3, and by tiles of 2048 and of 1024 3.11 and 1.0
(3.08, 0.98).
"""

from collections.abc import Sequence

from nstx.models.objective import Objective
from nstx.models.vgg19 import find_layer, truncate

from .memory_model import Choice, Load, activation_bytes

_PICTURES = 48
"""Bytes for each pixel that is evaluated: itself and its gradient in float32, and a graph's copies of both."""

_SOLVERS = {"lbfgs": 400, "adam": 200}
"""For each pixel, where the picture is evaluated whole: else the solver is on the host. Of Adam's, 120 are pictures of steps ahead."""

_HALVES = ("bf16", "fp16")


def device_needed(load: Load, choice: Choice) -> int:
    """Return the bytes that a load takes of a CUDA device at its peak, without the context and the libraries' own."""
    objective, layout = load.objective, load.layout
    number = 2 if choice.precision in _HALVES else 4
    fast = _kept(objective, number)
    exact = _kept(objective, 4) if choice.checked else 0.0
    content = 4 * _per_pixel(objective.content_names)
    shares = 0.0
    if load.regions:  # features times shares, of a layer and a region at a time, and these
        widest = max((_per_pixel([name]) for name in objective.style_names), default=0.0)
        shares = (4 if choice.checked else number) * widest + 8 * load.regions
    if layout is None:
        height, width = load.size
        kept = fast + exact + _SOLVERS["adam" if load.pairs is None else "lbfgs"]
    else:
        height, width = layout.largest
        kept = max(fast, exact)
    pixels = height * width * load.batch
    return round((kept + content + shares + _PICTURES) * pixels) + _weights(
        objective, number, checked=choice.checked
    )


def _kept(objective: Objective, number: int) -> float:
    """Return the bytes of activations for each pixel, of numbers of so many bytes."""
    kept = number / 4 * activation_bytes(objective.layers)
    if (
        objective.pooling == "max" and number == 4
    ):  # without kernels of our own, which keep no indices
        pools = [layer.name for layer in truncate(objective.layers) if layer.kind == "pool"]
        kept += 8 * _per_pixel(pools)
    return kept


def _per_pixel(names: Sequence[str]) -> float:
    """Return how many values some layers have for each pixel."""
    return sum(layer.values_per_pixel for layer in map(find_layer, names))


def _weights(objective: Objective, number: int, *, checked: bool) -> int:
    """Return the bytes of kernels, as they are and flipped; those of a check in two parts, as by three convolutions of TF32."""
    values = sum(layer.weights for layer in truncate(objective.layers))
    return values * (2 * number + (16 if checked else 0))
