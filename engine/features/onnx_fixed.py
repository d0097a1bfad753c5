"""Features of many pictures of one size: buffers are bound once, and nothing is planned again."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nstx.export.graphs.feature_graph import INPUT_NAME, gram_name
from nstx.export.runtime.providers import import_onnxruntime
from nstx.export.runtime.session import run_session
from nstx.models.errors import UsageError
from nstx.models.vgg19 import canonical_name

from ..devices.memory import memory_errors
from ..sessions.session_cache import CachedSessions

if TYPE_CHECKING:
    import torch


class FixedExtractor:
    """A session for one shape, with its input and outputs at fixed addresses on the device.

    On CUDA the kernels are captured in a CUDA graph by the first run, so that a later one is a
    single launch.

    Args:
        source: of the graph.
        shape: (batch, height, width) of the pictures.
        activations: layers whose activations are wanted.
        grams: layers whose Gram matrices are wanted.

    Raises:
        UsageError: a layer is unknown.
        ModelError, DeviceError: the graph cannot be loaded.
    """

    def __init__(
        self,
        source: CachedSessions,
        shape: tuple[int, int, int],
        activations: Sequence[str],
        grams: Sequence[str],
    ) -> None:
        layers = [*map(canonical_name, activations)], [*map(canonical_name, grams)]
        self._names = [*layers[0], *map(gram_name, layers[1])]
        self._opened = replace(source, fixed_shape=shape).open(tuple(layers[0]), tuple(layers[1]))
        session, provider = self._opened.session, self._opened.provider
        make = import_onnxruntime().OrtValue
        place = (provider.device, provider.index)
        self._shape = (*shape, 3)
        first = self._opened.graph.to_input(np.zeros(self._shape, np.float32), self._opened.mean)
        self._input = make.ortvalue_from_numpy(first, *place)
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(INPUT_NAME, self._input)
        shapes = {output.name: output.shape for output in session.get_outputs()}
        self._outputs = {
            name: make.ortvalue_from_shape_and_type(shapes[name], np.float32, *place)
            for name in self._names
        }
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)

    def run(self, pixels: NDArray[Any]) -> None:
        """Compute the features of pictures; they replace those of the run before.

        Args:
            pixels: (batch, height, width, 3), RGB, 0–255, of the shape that was promised.

        Raises:
            UsageError: the shape is another.
        """
        if pixels.shape != self._shape:
            raise UsageError(
                f"expected pictures of shape {self._shape}, got {pixels.shape}; "
                "try an OnnxExtractor, which takes any"
            )
        self._input.update_inplace(self._opened.graph.to_input(pixels, self._opened.mean))
        with memory_errors(pixels.shape[1:3]):
            run_session(
                self._opened.session.run_with_iobinding, self._opened.provider, self._binding
            )
        self._binding.synchronize_outputs()

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return copies of the outputs, by the name that they have in the graph."""
        return {name: value.numpy().copy() for name, value in self._outputs.items()}

    def tensors(self) -> "dict[str, torch.Tensor]":
        """Return the outputs as PyTorch tensors on the device, which the next run overwrites."""
        from torch.utils.dlpack import from_dlpack

        return {name: from_dlpack(value) for name, value in self._outputs.items()}
