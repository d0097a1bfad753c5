"""Single measurements as data, each for a process of its own, and the variants that there are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nstx.models.vgg19 import Pooling

    from ..settings import Auto, BackendName, Precision

    Outputs = list[NDArray[np.float32]]
    Compute = Callable[[NDArray[np.float32]], Outputs]
    """From pictures, float32 (batch, height, width, 3), to arrays in the host's memory."""

    Place = Callable[[NDArray[np.float32]], Callable[[], object]]
    """From pictures to a step of them, where a run keeps them."""

FEATURE_VARIANTS: Mapping[str, str] = {
    "onnx": "fp32",
    "onnx-fixed": "fp32",
    "onnx-fp16": "fp16",
    "torch": "fp32",
    "torch-compile": "fp32",
    "torch-bf16": "bf16",
}
"""Precisions of the ways to extract features.

``onnx`` is the extractor of `nstx optimize`; ``onnx-fixed`` is for one size, with bound buffers, on
CUDA in a CUDA graph, and ``onnx-fp16`` is the same in fp16. ``torch`` is eager; ``torch-compile``
is channels_last and compiled, on CUDA with the search for fast kernels and CUDA graphs, and
``torch-bf16`` is the same with weights and activations in bf16.
"""

OPTIMIZE_VARIANTS: Mapping[str, tuple["BackendName | Auto", "Precision | Auto"]] = {
    "auto": ("auto", "auto"),
    "onnx": ("onnx", "fp32"),
    "onnx-tf32": ("onnx", "tf32"),
    "onnx-fp16": ("onnx", "fp16"),
    "torch": ("torch", "fp32"),
    "torch-tf32": ("torch", "tf32"),
    "torch-bf16": ("torch", "bf16"),
    "torch-fp16": ("torch", "fp16"),
}
"""Backend and precision of the ways to run a transfer; ``auto`` is nstx's own choice."""

GRADIENT_VARIANTS: Mapping[str, str] = {
    name: precision for name, (_, precision) in OPTIMIZE_VARIANTS.items() if name != "auto"
}
"""Precisions of the ways to compute gradients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One measurement.

    Attributes:
        work: the extraction of ``features``, a ``gradient`` with its cost, the product of two large
            matrices (``peak``), or a whole run (``optimize``).
        variant: of the work's variants above; the precision of a ``peak``.
        size: side of the square pictures, or long side of a whole run's result, in pixels.
        batch: number of pictures at once.
        repeats: least number of computations after the first.
        seconds: least total of these computations.
        activations, grams: layers of ``features``.
        preset: of a gradient's objective, or of a whole run.
        pooling: of a gradient's objective; None takes the preset's.
        content, style: files of a whole run.
        steps: of a whole run.
    """

    work: Literal["features", "gradient", "peak", "optimize"]
    variant: str
    size: int
    device: str
    threads: int | None
    weights: str
    batch: int = 1
    repeats: int = 1
    seconds: float = 0.0
    activations: tuple[str, ...] = ()
    grams: tuple[str, ...] = ()
    preset: str = "default"
    pooling: "Pooling | None" = None
    content: str = ""
    style: str = ""
    steps: int = 1

    @property
    def label(self) -> str:
        """The measurement in words."""
        if self.work == "peak":
            return f"matrix products in {self.variant}"
        batch = "" if self.work == "optimize" else f" × {self.batch}"
        return f"{self.variant} {self.size} px{batch}"
