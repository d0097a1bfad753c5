"""Whether an exported graph computes what it should: every output against float64, on pictures.

The reference is `nstx.models.reference.features`, VGG-19 in NumPy and float64. It needs no PyTorch, and
PyTorch's float64 agrees with it to 1e-12.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstx.models.reference.features import reference_features, reference_gram
from nstx.models.weights.load import Weights

from .graphs.feature_graph import FP16_SCALE, INPUT_NAME, FeatureGraph, GraphPrecision, gram_name
from .runtime.providers import CPU, Provider
from .runtime.session import SessionChoices, open_session, run_session, runtime_version

TOLERANCES: dict[GraphPrecision, float] = {"fp32": 2e-5, "fp16": 1e-2}
"""Largest relative error, ‖ours − float64‖ / ‖float64‖, that an output may have."""

CHECK_HEIGHT, CHECK_WIDTH, _CHECK_BATCH = 211, 317, 3
"""Size of the pictures that a graph is compared on: odd, so that every pooling meets an odd side."""


@dataclass(frozen=True, slots=True)
class OutputParity:
    """One output against float64.

    Attributes:
        name: of the output.
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
    """What a parity check found.

    Attributes:
        precision: of the graph.
        tolerance: that each output's relative error must not exceed.
        batch: pictures that it was checked on, all in one batch.
        height: of each.
        width: of each.
        provider: that ran the graph.
        runtime: version of ONNX Runtime.
        fp16_share: the largest activation of all layers, outputs or not, as a share of what fp16
            holds, as it is scaled in an fp16 graph; 0 in fp32.
        fp16_arithmetic: whether the provider rounded activations to fp16; the CPU's computes fp16
            graphs in float32 between weights that are rounded, so that it errs less than a GPU.
        outputs: each output against float64.
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

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data, with whether it passed."""
        return {"passed": self.passed, **asdict(self)}

    @property
    def passed(self) -> bool:
        """Whether every output is within the tolerance, as it was run and as GPUs store it."""
        return self.worst.relative_error <= self.tolerance and all(
            output.fp16_storage_error <= self.tolerance for output in self.outputs
        )


def measure_parity(
    model: bytes,
    graph: FeatureGraph,
    weights: Weights,
    pictures: NDArray[np.uint8] | None = None,
    provider: Provider = CPU,
) -> ParityReport:
    """Run a model on pictures, in one batch, and compare every output with float64.

    Args:
        model: the ONNX file's bytes.
        graph: what it should compute.
        weights: that it was built from.
        pictures: uint8 (batch, height, width, 3); None makes three of 317×211 pixels.
        provider: that runs it.

    Raises:
        ModelError: the model cannot be loaded.
        DeviceError: the provider is not there.
    """
    pictures = check_pictures() if pictures is None else pictures
    session = open_session(
        model, SessionChoices(provider=provider, planar=graph.input == "network")
    )
    given = {INPUT_NAME: graph.to_input(pictures, weights.mean)}
    values = run_session(session.run, provider, list(graph.outputs), given)
    ours = dict(zip(graph.outputs, values, strict=True))
    errors: dict[str, list[OutputParity]] = {name: [] for name in graph.outputs}
    largest = 0.0
    for index, picture in enumerate(pictures):
        expected, peak = _reference(graph, weights, picture, None)
        largest = max(largest, peak)
        stored = _stored(graph, weights, picture)
        for name, values in expected.items():
            errors[name].append(_compare(name, ours[name][index], values, stored.get(name)))
    half = graph.precision == "fp16"
    return ParityReport(
        precision=graph.precision,
        tolerance=TOLERANCES[graph.precision],
        batch=pictures.shape[0],
        height=pictures.shape[1],
        width=pictures.shape[2],
        provider=provider.name,
        runtime=runtime_version(),
        fp16_share=largest * FP16_SCALE / float(np.finfo(np.float16).max) if half else 0.0,
        fp16_arithmetic=half and provider != CPU,
        outputs=tuple(
            max(errors[name], key=lambda output: output.relative_error) for name in graph.outputs
        ),
    )


def _reference(
    graph: FeatureGraph, weights: Weights, picture: NDArray[np.uint8], fp16_scale: float | None
) -> tuple[dict[str, NDArray[np.float64]], float]:
    """Return the outputs of a picture in float64, and the largest activation of all layers."""
    layers = [layer.name for layer in graph.network]
    features = reference_features(
        weights,
        picture.astype(np.float64),
        layers,
        graph.pooling,
        graph.pool_rounding,
        fp16_scale=fp16_scale,
    )
    outputs = {name: features[name] for name in graph.activations}
    outputs |= {gram_name(name): reference_gram(features[name]) for name in graph.grams}
    return outputs, max(float(values.max()) for values in features.values())


def _stored(
    graph: FeatureGraph, weights: Weights, picture: NDArray[np.uint8]
) -> dict[str, NDArray[np.float64]]:
    """Return the outputs of values that are stored in fp16; none for a graph in fp32."""
    if graph.precision == "fp32":
        return {}
    return _reference(graph, weights, picture, FP16_SCALE)[0]


def _compare(
    name: str,
    ours: NDArray[Any],
    expected: NDArray[np.float64],
    stored: NDArray[np.float64] | None,
) -> OutputParity:
    # A dead layer has a norm of 0, which ours must then have too.
    norm = max(float(np.linalg.norm(expected)), 1e-30)

    def error(values: NDArray[Any]) -> float:
        if values.shape != expected.shape or not np.isfinite(values).all():
            return float("inf")
        return float(np.linalg.norm(values - expected)) / norm

    return OutputParity(
        name,
        expected.shape,
        error(ours),
        float(expected.max()),
        0.0 if stored is None else error(stored),
    )


def check_pictures(seed: int = 0) -> NDArray[np.uint8]:
    """Return three pictures of 317×211 pixels with the spectrum of photographs.

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
