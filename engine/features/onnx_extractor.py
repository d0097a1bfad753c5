"""Features by ONNX Runtime, without PyTorch: graphs built from weights, or an exported file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nstx.export.graphs.feature_graph import INPUT_NAME, FeatureGraph, name_outputs
from nstx.export.runtime.providers import import_onnxruntime
from nstx.export.runtime.session import SessionChoices, run_session
from nstx.models.errors import ModelError, UsageError
from nstx.models.printable import printable
from nstx.models.vgg19 import find_layer
from nstx.models.weights.load import Weights

from ..devices.memory import memory_errors
from ..pictures.picture import Pixels
from ..sessions.session import Session, open_graph, open_model_file
from .activations import Features

_Layers = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
"""Of activations, of Gram matrices, and of moments."""


class SessionSource(Protocol):
    """Opens sessions of VGG-19's features."""

    def open(
        self, activations: tuple[str, ...], grams: tuple[str, ...], moments: tuple[str, ...] = ()
    ) -> Session[FeatureGraph]:
        """Return a session with these outputs, and perhaps others; `ModelError` if it lacks one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltGraphs:
    """Graphs that are built from weights, one for each set of outputs.

    Attributes:
        load: returns the weights; called only if a graph must be built.
        template: pooling, rounding, precision and input of the graphs; its outputs do not count.
    """

    weights_sha256: str
    load: Callable[[], Weights]
    template: FeatureGraph
    choices: SessionChoices
    use_cache: bool = True

    def open(
        self, activations: tuple[str, ...], grams: tuple[str, ...], moments: tuple[str, ...] = ()
    ) -> Session[FeatureGraph]:
        """Implement `SessionSource`, with exactly these outputs."""
        graph = replace(self.template, activations=activations, grams=grams, moments=moments)

        def build() -> bytes:
            from nstx.export.graphs.build_features import build_feature_model

            model: bytes = build_feature_model(graph, self.load()).SerializeToString()
            return model

        return open_graph(
            graph,
            build,
            replace(self.choices, planar=graph.input == "network", precision=graph.precision),
            weights_sha256=self.weights_sha256,
            use_cache=self.use_cache,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One exported file, whose outputs are fixed, of certain weights or (None) of any."""

    path: Path
    choices: SessionChoices
    weights_sha256: str | None = None
    use_cache: bool = True

    def open(
        self, activations: tuple[str, ...], grams: tuple[str, ...], moments: tuple[str, ...] = ()
    ) -> Session[FeatureGraph]:
        """Implement `SessionSource`."""
        session = open_model_file(
            self.path, self.choices, weights_sha256=self.weights_sha256, use_cache=self.use_cache
        )
        outputs = session.graph.outputs
        names = name_outputs(activations, grams, moments)
        missing = [name for name in names if name not in outputs]
        if missing:
            raise ModelError(
                f"expected the outputs {', '.join(missing)} in {printable(self.path)}, got "
                f"{', '.join(outputs)}; try 'nstx export features' with these layers"
            )
        return session


def model_activations(path: Path) -> tuple[str, ...]:
    """Return the layers whose activations an exported file has; `ModelError` if it has none."""
    graph = ModelFile(path=path, choices=SessionChoices()).open((), ()).graph
    if not graph.activations:
        raise ModelError(
            f"expected activations in {printable(path)}, got {', '.join(graph.outputs)}; "
            "try 'nstx export features --layers …', as Gram matrices are not drawn"
        )
    return graph.activations


class OnnxExtractor:
    """A `FeatureExtractor` on ONNX Runtime, for pictures of any size.

    A session is opened for each set of outputs that is asked for, so that a content picture is
    evaluated no deeper than its layer, and is kept for the next picture.
    """

    def __init__(self, source: SessionSource) -> None:
        self._source = source
        self._sessions: dict[_Layers, Session[FeatureGraph]] = {}

    def extract(
        self,
        pixels: Pixels,
        activations: Sequence[str],
        grams: Sequence[str],
        moments: Sequence[str] = (),
    ) -> Features:
        """Implement `FeatureExtractor`."""
        batch = self.extract_batch(pixels[None], activations, grams, moments)
        return Features(
            {name: array[0] for name, array in batch.activations.items()},
            {name: array[0] for name, array in batch.grams.items()},
            {name: array[0] for name, array in batch.moments.items()},
        )

    def extract_batch(
        self,
        pixels: NDArray[Any],
        activations: Sequence[str],
        grams: Sequence[str],
        moments: Sequence[str] = (),
    ) -> Features:
        """Return the features of pictures (batch, height, width, 3), with the batch in front."""
        layers = _canonical(activations, grams, moments)
        if layers not in self._sessions:
            self._sessions[layers] = self._source.open(*layers)
        session = self._sessions[layers]
        inputs = {INPUT_NAME: session.graph.to_input(pixels, session.mean)}
        with memory_errors(pixels.shape[1:3]):
            values = run_session(
                session.runner.run, session.provider, list(name_outputs(*layers)), inputs
            )
        _check_shapes(session.graph, layers, pixels.shape[:3], values)
        # Copied, because an output that is kept would keep the session's whole arena alive.
        return _as_features(layers, [np.array(value) for value in values])


class FixedExtractor:
    """An extractor for one shape, (batch, height, width): buffers are bound and runs planned once.

    `nstx bench features` measures it as ``onnx-fixed`` and ``onnx-fp16``. On CUDA the kernels are
    captured in a CUDA graph by the first run, so that a later one is a single launch.
    """

    def __init__(
        self,
        source: BuiltGraphs,
        shape: tuple[int, int, int],
        activations: Sequence[str],
        grams: Sequence[str],
    ) -> None:
        self._shape = (*shape, 3)
        self._layers = _canonical(activations, grams, ())
        choices = replace(source.choices, fixed_shape=shape)
        self._session = session = replace(source, choices=choices).open(*self._layers)
        make = import_onnxruntime().OrtValue
        place = (session.provider.device, session.provider.index)
        empty = session.graph.to_input(np.zeros(self._shape, np.float32), session.mean)
        self._input = make.ortvalue_from_numpy(empty, *place)
        self._binding = session.runner.io_binding()
        self._binding.bind_ortvalue_input(INPUT_NAME, self._input)
        shapes = {output.name: output.shape for output in session.runner.get_outputs()}
        self._outputs = {
            name: make.ortvalue_from_shape_and_type(shapes[name], np.float32, *place)
            for name in name_outputs(*self._layers)
        }
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)

    def extract_batch(self, pixels: NDArray[Any]) -> Features:
        """Return the features of pictures (batch, height, width, 3), with the batch in front.

        `UsageError` if the shape is another than the constructor's.
        """
        if pixels.shape != self._shape:
            raise UsageError(
                f"expected pictures of shape {self._shape}, got {pixels.shape}; "
                "try an OnnxExtractor, which takes any"
            )
        session = self._session
        self._input.update_inplace(session.graph.to_input(pixels, session.mean))
        with memory_errors(pixels.shape[1:3]):
            run_session(session.runner.run_with_iobinding, session.provider, self._binding)
        self._binding.synchronize_outputs()
        # Copied, because the next run overwrites them.
        return _as_features(self._layers, [v.numpy().copy() for v in self._outputs.values()])


def _canonical(activations: Sequence[str], grams: Sequence[str], moments: Sequence[str]) -> _Layers:
    names, gram_names, moments_names = (
        tuple(find_layer(name).name for name in layers) for layers in (activations, grams, moments)
    )
    return names, gram_names, moments_names


def _check_shapes(
    graph: FeatureGraph,
    layers: _Layers,
    shape: Sequence[int],
    values: Sequence[NDArray[np.float32]],
) -> None:
    """Check what a graph gave for pictures, (batch, height, width); `ModelError` if it is another.

    Channels may be fewer than VGG-19's.
    """
    batch, height, width = shape
    for index, (name, value) in enumerate(zip(name_outputs(*layers), values, strict=True)):
        channels = value.shape[1] if value.ndim > 1 else 0
        expected: tuple[int, ...] = (batch, channels, channels)
        if index < len(layers[0]):
            size = find_layer(name).output_size(height, width, graph.pool_rounding)
            expected = (batch, channels, *size)
        if value.shape != expected or value.dtype != np.float32:
            raise ModelError(
                f"expected {name} of shape {expected} and float32, got {value.shape} and "
                f"{value.dtype}; try to export the model again"
            )


def _as_features(layers: _Layers, values: Sequence[NDArray[np.float32]]) -> Features:
    rest = iter(values)
    activations, grams, moments = ({name: next(rest) for name in of_kind} for of_kind in layers)
    return Features(activations, grams, moments)
