"""Extractors of features to be measured, by ONNX Runtime and by PyTorch."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from .tasks import Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nstx.export.graphs.feature_graph import GraphPrecision

    from ..devices.convolution import Layout
    from ..features.extractor import Features
    from .tasks import Compute, Outputs


def open_features(task: Task) -> "tuple[Compute, str]":
    """Open an extractor; return what extracts features, and what it runs on.

    Raises:
        NstxError: the device or a library is missing, or the weights cannot be read.
    """
    return _open_onnx(task) if task.variant.startswith("onnx") else _open_torch(task)


def _open_onnx(task: Task) -> "tuple[Compute, str]":
    from ..devices.device import choose_provider_on, settle
    from ..features.onnx_extractor import FixedExtractor, OnnxExtractor
    from ..features.opening import Extraction, built_graphs

    provider = choose_provider_on(settle(task.device))
    extraction = Extraction(device=task.device, weights=task.weights, threads=task.threads)
    graphs = built_graphs(extraction, provider)
    precision: GraphPrecision = "fp16" if task.variant == "onnx-fp16" else "fp32"
    graphs = replace(graphs, template=replace(graphs.template, precision=precision))
    extract: Callable[[NDArray[np.float32]], Features]
    if task.variant == "onnx":
        any_size = OnnxExtractor(graphs).extract_batch
        extract = partial(any_size, activations=task.activations, grams=task.grams)
    else:
        shape = (task.batch, task.size, task.size)
        extract = FixedExtractor(graphs, shape, task.activations, task.grams).extract_batch

    def compute(pixels: "NDArray[np.float32]") -> "Outputs":
        features = extract(pixels)
        return [*features.activations.values(), *features.grams.values()]

    return compute, provider.name


def _open_torch(task: Task) -> "tuple[Compute, str]":
    """Open PyTorch. Outputs come to the host as arrays, as those of the other variants do."""
    import torch

    from nstx.models.weights.load import load_weights

    from ..devices.device import settle
    from ..devices.torch_device import TorchDevice
    from ..features.torch_network import TorchNetwork, gram_matrices

    if task.threads is not None:
        torch.set_num_threads(task.threads)
    place = settle(task.device, by_torch=True)
    device = TorchDevice(place, "bf16" if task.variant == "torch-bf16" else "fp32")
    layers = [*task.activations, *task.grams]
    tuned = task.variant != "torch"
    layout: Layout = "channels_last" if tuned else "contiguous"
    weights = load_weights(task.weights)
    network = TorchNetwork(weights, layers, "avg", "ceil", device, layout=layout)

    def evaluate(x: torch.Tensor) -> list[torch.Tensor]:
        features = network(x, layers)
        outputs = [features[layer].float() for layer in task.activations]
        return outputs + [gram_matrices(features[layer], torch.float32) for layer in task.grams]

    forward: Callable[[torch.Tensor], list[torch.Tensor]] = evaluate
    if tuned:
        mode = "reduce-overhead" if place.is_cuda else None
        forward = torch.compile(evaluate, mode=mode)

    def compute(pixels: "NDArray[np.float32]") -> "Outputs":
        with device.numerics(), torch.no_grad():
            if tuned:
                torch.backends.cudnn.benchmark = True
                torch.backends.cudnn.deterministic = False
            # A picture's bytes are channels_last as they are.
            x = torch.from_numpy(pixels).to(device.torch_device).permute(0, 3, 1, 2)
            outputs = forward(x if tuned else x.contiguous())
            return [output.cpu().numpy() for output in outputs]

    return compute, str(device)
