"""Whether an exported graph computes what it should: every output against float64, on pictures.

The reference is `nstx.models.reference`, in NumPy and float64: it needs no PyTorch, and PyTorch's
float64 agrees with it to 1e-12.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstx.models.errors import ModelError
from nstx.models.reference.features import Array64, Storing, reference_features, reference_gram
from nstx.models.reference.statistics import reference_style
from nstx.models.weights.load import Weights

from .graphs.feature_graph import (
    FP16_SCALE,
    INPUT_NAME,
    FeatureGraph,
    GraphPrecision,
    gram_name,
    moments_name,
)
from .runtime.providers import CPU, Provider
from .runtime.session import SessionChoices, open_session, run_session, runtime_version

TOLERANCES: dict[GraphPrecision, float] = {"fp32": 2e-5, "fp16": 1e-2}
"""Largest relative error, ‖ours − float64‖ / ‖float64‖, that an output may have."""

LARGEST_FP16_SHARE = 0.5
"""Of what fp16 holds, that an activation of the compared pictures may reach: others reach more."""

CHECK_HEIGHT, CHECK_WIDTH, _CHECK_BATCH = 211, 317, 3
"""Size of the pictures that a graph is compared on: odd, so that every pooling meets an odd side."""


@dataclass(frozen=True, slots=True)
class OutputParity:
    """One output against float64.

    Attributes:
        shape: of the reference of one picture, without the batch.
        relative_error: ‖ours − float64‖ / ‖float64‖, of the worst picture; infinite if ours has
            other shapes, or values that are not finite.
        largest: the reference's largest value.
        fp16_storage_error: the same of values that are stored in fp16 and summed with more bits, as
            GPUs do it; 0 for a graph in fp32.
    """

    name: str
    shape: tuple[int, ...]
    relative_error: float
    largest: float
    fp16_storage_error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityReport:
    """How far a graph of features is from float64, on one batch of pictures.

    Attributes:
        tolerance: that each output's relative error must not exceed.
        fp16_share: the largest activation of all layers, outputs or not, as a share of what fp16
            holds, as it is scaled in an fp16 graph; 0 in fp32.
        fp16_arithmetic: whether the provider rounded activations to fp16; the CPU's computes fp16
            graphs in float32 between weights that are rounded, so that it errs less than a GPU.
    """

    precision: GraphPrecision
    tolerance: float
    batch: int
    height: int
    width: int
    provider: str
    runtime: str
    fp16_share: float
    fp16_arithmetic: bool
    outputs: tuple[OutputParity, ...]

    @property
    def worst(self) -> OutputParity:
        """The output with the largest relative error."""
        return max(self.outputs, key=lambda output: output.relative_error)

    @property
    def passed(self) -> bool:
        """Whether every output is within the tolerance, as it was run and as GPUs store it."""
        return self.worst.relative_error <= self.tolerance and all(
            output.fp16_storage_error <= self.tolerance for output in self.outputs
        )

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data, with whether it passed."""
        return {"passed": self.passed, **asdict(self)}

    def check(self) -> None:
        """Raise `ModelError` if an output errs by too much, or fp16 comes near to overflowing."""
        if self.fp16_share > LARGEST_FP16_SHARE:
            raise ModelError(
                f"expected activations that fp16 holds, got {self.fp16_share:.0%} of its largest "
                "number; nothing was written; try --precision fp32"
            )
        if not self.passed:
            raise ModelError(
                f"expected every output within {self.tolerance:g} of float64, got "
                f"{self.worst.relative_error:.2g} for {self.worst.name}; nothing was written; "
                "try --precision fp32, or report this"
            )


def measure_parity(
    model: bytes,
    graph: FeatureGraph,
    weights: Weights,
    pictures: NDArray[np.uint8] | None = None,
    provider: Provider = CPU,
) -> ParityReport:
    """Compare a model's outputs with float64, on uint8 pictures (batch, height, width, 3)."""
    pictures = check_pictures() if pictures is None else pictures
    choices = SessionChoices(
        provider=provider, planar=graph.input == "network", precision=graph.precision
    )
    inputs = {INPUT_NAME: graph.to_input(pictures, weights.mean)}
    ours = run_model(model, graph.outputs, inputs, choices)
    is_fp16 = graph.precision == "fp16"
    comparisons: list[list[OutputParity]] = []
    largest = 0.0
    for index, picture in enumerate(pictures):
        exact = _features(graph, weights, picture)
        largest = max(largest, *(float(values.max()) for values in exact.values()))
        stored = fp16_features(graph, weights, picture) if is_fp16 else exact
        values = {name: ours[name][index] for name in graph.outputs}
        comparisons.append(_compare(values, _outputs(graph, exact), _outputs(graph, stored)))
    return ParityReport(
        precision=graph.precision,
        tolerance=TOLERANCES[graph.precision],
        batch=pictures.shape[0],
        height=pictures.shape[1],
        width=pictures.shape[2],
        provider=provider.name,
        runtime=runtime_version(),
        fp16_share=largest * FP16_SCALE / float(np.finfo(np.float16).max) if is_fp16 else 0.0,
        fp16_arithmetic=is_fp16 and provider != CPU,
        outputs=tuple(
            max(of_pictures, key=lambda output: output.relative_error)
            for of_pictures in zip(*comparisons, strict=True)
        ),
    )


def run_model(
    model: bytes, outputs: Sequence[str], inputs: Mapping[str, Any], choices: SessionChoices
) -> dict[str, NDArray[Any]]:
    """Load a model, run it once, and return its outputs by name."""
    session = open_session(model, choices)
    values = run_session(session.run, choices.provider, list(outputs), inputs)
    return dict(zip(outputs, values, strict=True))


def relative_error(ours: NDArray[Any], expected: Array64) -> float:
    """Return ‖ours − expected‖ / ‖expected‖; infinite for other shapes and what is not finite."""
    if ours.shape != expected.shape or not np.isfinite(ours).all():
        return float("inf")
    # A dead layer has a norm of 0, which ours must then have too.
    return float(np.linalg.norm(ours - expected)) / max(float(np.linalg.norm(expected)), 1e-30)


def fp16_features(
    graph: FeatureGraph, weights: Weights, picture: NDArray[np.uint8]
) -> dict[str, Array64]:
    """Return every layer's activation as a GPU has it: stored in fp16, summed with more bits.

    Kernels, and at `FP16_SCALE` the input, biases and every layer's output, are rounded to fp16.
    """

    def store(values: NDArray[np.floating], scale: float = FP16_SCALE) -> Array64:
        with np.errstate(over="ignore"):
            return (values * scale).astype(np.float16).astype(np.float64) / scale

    def store_float32(values: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
        return store(values, scale).astype(np.float32)  # exact: scales are powers of 2

    stored = replace(
        weights,
        kernels={name: store_float32(kernel, 1.0) for name, kernel in weights.kernels.items()},
        biases={name: store_float32(bias, FP16_SCALE) for name, bias in weights.biases.items()},
    )
    return _features(graph, stored, picture, store)


def _features(
    graph: FeatureGraph, weights: Weights, picture: NDArray[np.uint8], store: Storing | None = None
) -> dict[str, Array64]:
    names, pixels = [layer.name for layer in graph.network], picture.astype(np.float64)
    return reference_features(
        weights, pixels, names, graph.pooling, graph.pool_rounding, store=store
    )


def _outputs(graph: FeatureGraph, features: Mapping[str, Array64]) -> dict[str, Array64]:
    activations = {name: features[name] for name in graph.activations}
    grams = {gram_name(name): reference_gram(features[name]) for name in graph.grams}
    moments = {
        moments_name(name): reference_style("wasserstein", features[name]) for name in graph.moments
    }
    return activations | grams | moments


def _compare(
    ours: Mapping[str, NDArray[Any]], exact: Mapping[str, Array64], stored: Mapping[str, Array64]
) -> list[OutputParity]:
    return [
        OutputParity(
            name,
            values.shape,
            relative_error(ours[name], values),
            float(values.max()),
            relative_error(stored[name], values),
        )
        for name, values in exact.items()
    ]


def check_pictures(seed: int = 0) -> NDArray[np.uint8]:
    """Return three uint8 pictures of 317×211 pixels with the spectrum of photographs.

    Random phases, amplitudes that fall with the frequency (Field 1987), full contrast.
    """
    generator = np.random.default_rng(seed)
    rows = np.fft.fftfreq(CHECK_HEIGHT)[:, None]
    columns = np.fft.rfftfreq(CHECK_WIDTH)[None, :]
    amplitude = 1 / np.maximum(np.hypot(rows, columns), 1 / CHECK_WIDTH)
    planes = [_random_plane(generator, amplitude) for _ in range(3 * _CHECK_BATCH)]
    pictures = np.stack(planes).reshape(_CHECK_BATCH, 3, CHECK_HEIGHT, CHECK_WIDTH)
    return np.ascontiguousarray(pictures.transpose(0, 2, 3, 1))


def _random_plane(
    generator: np.random.Generator, amplitude: NDArray[np.float64]
) -> NDArray[np.uint8]:
    phases = np.exp(2j * np.pi * generator.random(amplitude.shape))
    plane = np.fft.irfft2(amplitude * phases, s=(CHECK_HEIGHT, CHECK_WIDTH))
    plane = 127.5 + 64 * (plane - plane.mean()) / plane.std()
    return np.asarray(np.rint(plane).clip(0, 255), np.uint8)
