"""Features by ONNX Runtime: a `FeatureExtractor` that needs no PyTorch."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nstx.export.graphs.feature_graph import INPUT_NAME, gram_name
from nstx.export.runtime.providers import Provider, import_onnxruntime
from nstx.export.runtime.session import run_session
from nstx.models.vgg19 import canonical_name

from ..devices.memory import memory_errors
from ..pictures.pixels import Pixels
from ..sessions.feature_sessions import FeatureSession, SessionSource
from .extractor import Features

if TYPE_CHECKING:
    import torch


class OnnxExtractor:
    """A `nstx.engine.targets.targets.FeatureExtractor` on ONNX Runtime.

    A session is opened for each set of outputs that is asked for, so that a content picture is
    evaluated no deeper than its layer, and is kept for the next picture.

    Args:
        source: where the sessions come from.
    """

    def __init__(self, source: SessionSource) -> None:
        self._source = source
        self._opened: dict[tuple[tuple[str, ...], tuple[str, ...]], FeatureSession] = {}

    @property
    def provider(self) -> Provider:
        """Where the network runs."""
        return self._source.provider

    def extract(self, pixels: Pixels, activations: Sequence[str], grams: Sequence[str]) -> Features:
        """See `nstx.engine.targets.targets.FeatureExtractor`.

        Raises:
            UsageError: a layer is unknown.
            ModelError, DeviceError: the graph cannot be loaded, or memory does not suffice.
        """
        found = self.extract_batch(pixels[None], activations, grams)
        return Features(
            {name: array[0] for name, array in found.activations.items()},
            {name: array[0] for name, array in found.grams.items()},
        )

    def extract_batch(
        self, pixels: NDArray[Any], activations: Sequence[str], grams: Sequence[str]
    ) -> Features:
        """Return the features of several pictures of one size, with the batch in front.

        Args:
            pixels: (batch, height, width, 3), RGB, 0–255.
            activations: layers whose activations are wanted.
            grams: layers whose Gram matrices are wanted.

        Raises:
            UsageError, ModelError, DeviceError: as `extract`.
        """
        names, opened = self._open(activations, grams)
        given = {INPUT_NAME: opened.graph.to_input(pixels, opened.mean)}
        with memory_errors(pixels.shape[1:3]):
            values = run_session(opened.session.run, opened.provider, names, given)
        # Copied, because an output that is kept would keep the session's whole arena alive.
        copies = [np.array(value) for value in values]
        count = len(activations)
        return Features(
            dict(zip(map(canonical_name, activations), copies[:count], strict=True)),
            dict(zip(map(canonical_name, grams), copies[count:], strict=True)),
        )

    def extract_tensors(
        self, pixels: NDArray[Any], activations: Sequence[str], grams: Sequence[str]
    ) -> "tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]":
        """Return features as PyTorch tensors where they were computed, without a copy (DLPack).

        Args:
            pixels: (batch, height, width, 3), RGB, 0–255.
            activations: layers whose activations are wanted.
            grams: layers whose Gram matrices are wanted.

        Returns:
            Activations and Gram matrices by layer, float32, on the provider's device; to be used
            while the extractor is there.

        Raises:
            UsageError, ModelError, DeviceError: as `extract`.
        """
        from torch.utils.dlpack import from_dlpack

        names, opened = self._open(activations, grams)
        binding = opened.session.io_binding()
        array = opened.graph.to_input(pixels, opened.mean)
        place = (opened.provider.device, opened.provider.index)
        value = import_onnxruntime().OrtValue.ortvalue_from_numpy(array, *place)
        binding.bind_ortvalue_input(INPUT_NAME, value)
        for name in names:
            binding.bind_output(name, *place)
        with memory_errors(pixels.shape[1:3]):
            run_session(opened.session.run_with_iobinding, opened.provider, binding)
        # The outputs are complete only once the provider's stream is.
        binding.synchronize_outputs()
        tensors = [from_dlpack(output) for output in binding.get_outputs()]
        count = len(activations)
        return (
            dict(zip(map(canonical_name, activations), tensors[:count], strict=True)),
            dict(zip(map(canonical_name, grams), tensors[count:], strict=True)),
        )

    def _open(
        self, activations: Sequence[str], grams: Sequence[str]
    ) -> tuple[list[str], FeatureSession]:
        """Return the outputs' names, activations first, and a session that has them."""
        wanted = (tuple(map(canonical_name, activations)), tuple(map(canonical_name, grams)))
        if wanted not in self._opened:
            self._opened[wanted] = self._source.open(*wanted)
        return [*wanted[0], *map(gram_name, wanted[1])], self._opened[wanted]
