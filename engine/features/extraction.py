"""Features of pictures, by ONNX Runtime on its CPU, CUDA or TensorRT provider, or by PyTorch.

ONNX Runtime is the default: on the CPU it is faster than PyTorch and starts sooner. What ``auto``
took stands in `OpenedExtractor`, and a second choice that is slower than it need be is logged.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nstx.export.graphs.feature_graph import FeatureGraph
from nstx.export.runtime.exactness import check_fp32
from nstx.export.runtime.providers import Provider, check_provider, has_driver, import_onnxruntime
from nstx.export.runtime.session import SessionChoices, usable_threads
from nstx.models.arguments import check_arguments, check_fields
from nstx.models.errors import DeviceError, NumericalError, UsageError, about
from nstx.models.vgg19 import (
    Pooling,
    PoolRounding,
    Preprocessing,
    find_layer,
    split_layers,
)
from nstx.models.weights.load import Weights, load_weights, weights_digest
from nstx.models.weights.sources import EMBEDDED

from ..devices.device import Device, choose_provider_on, settle
from ..devices.memory import memory_errors
from ..pictures.reading import Source, take_input
from ..pictures.resizing import resize_picture
from ..settings import Auto, ExtractorName, check_choice, check_count
from ..sizes import fit_size
from .activations import FeatureExtractor, Features
from .onnx_extractor import BuiltGraphs, ModelFile, OnnxExtractor, SessionSource, model_activations

_log = logging.getLogger("nstx")

FEATURE_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv4_2", "conv5_1")
"""Shown unless others are asked for: the style layers and the content layer of every preset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """How features are computed.

    Attributes:
        extractor: ``auto``, ``onnx``, ``tensorrt`` or ``torch``.
        device: ``auto``, ``cpu``, ``cuda[:N]`` or ``mps`` (PyTorch only).
        pooling: ``max`` or ``avg``; None takes ``avg``, or the model file's.
        pool_rounding: of odd sizes, ``ceil`` or ``floor``; None takes ``ceil``, or the file's.
        preprocessing: of pixels, ``published`` or ``unit_rgb``; a model file has its own.
        weights: ``embedded`` or a file; None takes the embedded ones, and with ``model`` any.
        model: an exported ``.onnx`` file to run instead of building a graph from the weights.
        threads: of the CPU; None takes the physical cores.
        use_cache: whether the cache folder is read and written.
    """

    extractor: ExtractorName | Auto = "auto"
    device: str = "auto"
    pooling: Pooling | None = None
    pool_rounding: PoolRounding | None = None
    preprocessing: Preprocessing = "published"
    weights: str | None = None
    model: Path | None = None
    threads: int | None = None
    use_cache: bool = True

    def __post_init__(self) -> None:
        check_choice("extractor", self.extractor)
        check_count("threads", self.threads)
        check_fields(self)
        if self.model is not None and self.extractor == "torch":
            raise UsageError("expected onnx for a model file, got torch; try --extractor onnx")
        other = self.pooling or self.pool_rounding or self.preprocessing != "published"
        if self.model is not None and other:
            raise UsageError(
                "expected a model file without a pooling or preprocessing, as it has its own, got both; "
                "try 'nstx export features --pooling …'"
            )

    @property
    def poolings(self) -> tuple[Pooling, PoolRounding]:
        """Pooling and rounding, with the defaults in place of None."""
        return self.pooling or "avg", self.pool_rounding or "ceil"


@dataclass(frozen=True, slots=True, eq=False)
class OpenedExtractor:
    """An extractor, its name, and its provider or PyTorch's device with its precision."""

    extractor: FeatureExtractor
    name: ExtractorName
    runs_on: str


@check_arguments
def open_extractor(
    choices: Extraction, layers: Sequence[str], weights: Weights | None = None
) -> OpenedExtractor:
    """Open an extractor.

    Args:
        choices: how features are computed.
        layers: those that `FeatureExtractor.extract` will be called with; PyTorch's network is
            built no deeper.
        weights: in place of those in ``choices``; their ``sha256`` is the key of what is cached.

    Raises:
        UsageError: a name is unknown, or weights are given beside a model file.
        DeviceError: the device or provider that was asked for is not there.
        WeightsError: the weights cannot be loaded.
    """
    layers = [find_layer(layer).name for layer in layers]
    if choices.model is not None and weights is not None:
        raise UsageError("expected a model file or weights, got both; try Extraction(weights=…)")
    try:
        provider = find_provider(choices)
        if provider is not None and choices.model is None:
            check_fp32(provider)
    except DeviceError as error:
        if choices.extractor != "auto" or choices.model is not None:
            raise
        opened = _open_torch(choices, layers, weights)
        _log.warning("features are computed by PyTorch: %s", error)
        return opened
    if provider is None:
        return _open_torch(choices, layers, weights)
    return _open_onnx(choices, provider, weights)


def _open_onnx(choices: Extraction, provider: Provider, weights: Weights | None) -> OpenedExtractor:
    source: SessionSource
    if choices.model is None:
        source = built_graphs(choices, provider, weights)
    else:
        source = ModelFile(
            path=choices.model,
            choices=SessionChoices(provider=provider, threads=choices.threads),
            weights_sha256=None if choices.weights is None else weights_digest(choices.weights),
            use_cache=choices.use_cache,
        )
    name: ExtractorName = "tensorrt" if provider.kind == "tensorrt" else "onnx"
    return OpenedExtractor(OnnxExtractor(source), name, provider.name)


def built_graphs(
    choices: Extraction, provider: Provider, weights: Weights | None = None
) -> BuiltGraphs:
    """Return a source of sessions for a provider; weights are loaded if a graph must be built."""
    source = choices.weights or EMBEDDED
    return BuiltGraphs(
        weights_sha256=weights.sha256 if weights else weights_digest(source, choices.preprocessing),
        load=lambda: weights or _load_weights(choices),
        template=FeatureGraph(
            activations=("conv1_1",),
            pooling=choices.poolings[0],
            pool_rounding=choices.poolings[1],
            input="float32",
        ),
        choices=SessionChoices(provider=provider, threads=choices.threads),
        use_cache=choices.use_cache,
    )


@about("extractor")
def find_provider(choices: Extraction) -> Provider | None:
    """Return the provider of ONNX Runtime that was chosen, or None for PyTorch."""
    device = Device.parse(choices.device)
    if choices.extractor == "torch":
        return None
    if choices.extractor == "tensorrt":
        if device is not None and not device.is_cuda:
            raise DeviceError(f"expected cuda for TensorRT, got {device}; try --extractor onnx")
        provider = Provider("tensorrt", 0 if device is None else device.index)
        check_provider(provider)
        return provider
    is_free = choices.extractor == "auto" and choices.model is None
    if device is not None and device.is_mps and is_free:
        return None
    provider = choose_provider_on(device)
    if device is None and provider.kind == "cpu" and has_driver():
        _log.warning(
            "features are computed on the CPU: this machine has NVIDIA's driver, but the CUDA "
            "provider of ONNX Runtime %s does not load; see 'nstx doctor'",
            import_onnxruntime().__version__,
        )
    return provider


@about("extractor")
def _open_torch(
    choices: Extraction, layers: Sequence[str], weights: Weights | None
) -> OpenedExtractor:
    try:
        import torch

        from ..devices.torch_device import TorchDevice
        from .torch_network import TorchExtractor, TorchNetwork
    except ImportError as error:
        raise DeviceError(
            f"expected PyTorch, got none ({error}); try --extractor onnx, or 'pip install torch'"
        ) from error
    device = TorchDevice(settle(choices.device, by_torch=True), "fp32")
    if choices.threads is not None:
        torch.set_num_threads(usable_threads(choices.threads))
    network = TorchNetwork(weights or _load_weights(choices), layers, *choices.poolings, device)
    return OpenedExtractor(TorchExtractor(network), "torch", str(device))


def _load_weights(choices: Extraction) -> Weights:
    source = choices.weights or EMBEDDED
    return load_weights(source, choices.preprocessing, use_cache=choices.use_cache)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ExtractedFeatures:
    """The features of one picture.

    Attributes:
        height: of the picture as it was evaluated, in pixels.
        width: of the picture as it was evaluated, in pixels.
        features: activations, float32 (channels, h, w), and Gram matrices, by layer.
        extractor: ``onnx``, ``tensorrt`` or ``torch``.
        runs_on: ONNX Runtime's provider, or PyTorch's device with its precision.
    """

    height: int
    width: int
    features: Features
    extractor: str
    runs_on: str


@check_arguments
def extract_features(
    picture: Source,
    layers: str | Sequence[str] | None = None,
    grams: str | Sequence[str] = (),
    *,
    size: int | None = None,
    extraction: Extraction | None = None,
) -> ExtractedFeatures:
    """Evaluate VGG-19 on a picture.

    Args:
        picture: of any size of 16 pixels or more a side; a path, a `Picture`, an array, …
        layers: of the activations, as ``conv4_2``, ``relu4_2`` or ``pool4``, in a list or separated
            by commas; None takes `FEATURE_LAYERS`, or all that a model file has.
        grams: layers of the Gram matrices G = F Fᵀ / N.
        size: long side in pixels that the picture is brought to; None leaves it as it is.
        extraction: how; None takes ONNX Runtime where it is fastest.

    Raises:
        UsageError: a layer or size is not known, or the picture is too small.
        NumericalError: a feature is not finite.
        WeightsError, ModelError, DeviceError: as `nstx.engine.features.extraction.open_extractor`.
    """
    picture, choices = take_input(picture), extraction or Extraction()
    if layers is None:
        layers = FEATURE_LAYERS if choices.model is None else model_activations(choices.model)
    names, gram_names = [
        split_layers(names)
        if isinstance(names, str)
        else tuple(find_layer(name).name for name in names)
        for names in (layers, grams)
    ]
    height, width = fit_size(picture.size, size=max(picture.size) if size is None else size)
    _check_positions([*names, *gram_names], height, width, choices.poolings[1])
    opened = open_extractor(choices, [*names, *gram_names])
    with memory_errors((height, width)):
        pixels = resize_picture(picture, height, width)
        features = opened.extractor.extract(pixels, names, gram_names)
    for name, values in {**features.activations, **features.grams}.items():
        if not np.isfinite(values).all():
            raise NumericalError(
                f"expected finite features, got NaN or infinity in {name}; try other weights"
            )
    return ExtractedFeatures(
        height=height,
        width=width,
        features=features,
        extractor=opened.name,
        runs_on=opened.runs_on,
    )


def _check_positions(
    layers: Sequence[str], height: int, width: int, rounding: PoolRounding
) -> None:
    """Check that each layer has a position left; a fifth pooling that rounds down may have none."""
    for name in layers:
        if min(find_layer(name).output_size(height, width, rounding)) < 1:
            raise UsageError(
                f"expected a picture that leaves {name} a position, got {width}×{height}; "
                "try a larger --size"
            )
