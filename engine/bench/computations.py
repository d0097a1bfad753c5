"""Computations to be measured: the extraction of features, gradients, matrix products.

A process imports only the library whose speed it measures.
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from ..targets.targets import make_zero_targets
from .tasks import FEATURE_VARIANTS, GRADIENT_VARIANTS, OPTIMIZE_VARIANTS, Task

if TYPE_CHECKING:
    from nstx.export.graphs.feature_graph import GraphPrecision
    from nstx.models.vgg19 import PoolRounding

    from ..devices.convolution import Layout
    from ..devices.torch_device import TorchDevice, TorchPrecision
    from ..features.activations import Features
    from .tasks import Compute, Outputs, Place

_PEAK_SIZE, _PEAK_REPEATS, _PEAK_SECONDS = 2048, 8, 5.0
_PEAK_SIZE_ON_CUDA = 8192


def open_features(task: Task) -> "tuple[Compute, str]":
    """Open an extractor; return what extracts features, and what it runs on."""
    return _open_onnx(task) if task.variant.startswith("onnx") else _open_torch(task)


def _open_onnx(task: Task) -> "tuple[Compute, str]":
    from ..devices.device import choose_provider_on, settle
    from ..features.extraction import Extraction, built_graphs
    from ..features.onnx_extractor import FixedExtractor, OnnxExtractor

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

    def compute(pixels: NDArray[np.float32]) -> "Outputs":
        features = extract(pixels)
        return [*features.activations.values(), *features.grams.values()]

    return compute, provider.name


def _open_torch(task: Task) -> "tuple[Compute, str]":
    """Open PyTorch. Outputs come to the host as arrays, as those of the other variants do."""
    import torch

    from nstx.models.weights.load import load_weights

    from ..features.torch_network import TorchNetwork, gram_matrices

    device = _torch_device(task, "bf16" if task.variant == "torch-bf16" else "fp32")
    layers = [*task.activations, *task.grams]
    tuned = task.variant != "torch"
    layout: Layout = "channels_last" if tuned else "contiguous"
    weights = load_weights(task.weights)
    # PyTorch's own operators alone, as they are what is compared with.
    network = TorchNetwork(weights, layers, "avg", "ceil", device, layout=layout, fused=False)

    def evaluate(x: torch.Tensor) -> list[torch.Tensor]:
        features = network(x, layers)
        outputs = [features[layer].float() for layer in task.activations]
        return outputs + [gram_matrices(features[layer], torch.float32) for layer in task.grams]

    forward: Callable[[torch.Tensor], list[torch.Tensor]] = evaluate
    if tuned:
        mode = "reduce-overhead" if device.place.is_cuda else None
        forward = torch.compile(evaluate, mode=mode)

    def compute(pixels: NDArray[np.float32]) -> "Outputs":
        with device.numerics(), torch.no_grad():
            if tuned:
                torch.backends.cudnn.benchmark = True
                torch.backends.cudnn.deterministic = False
            # A picture's bytes are channels_last as they are.
            x = torch.from_numpy(pixels).to(device.torch_device).permute(0, 3, 1, 2)
            outputs = forward(x if tuned else x.contiguous())
            return [output.cpu().numpy() for output in outputs]

    return compute, str(device)


def _torch_device(task: Task, precision: "TorchPrecision") -> "TorchDevice":
    import torch

    from ..devices.device import settle
    from ..devices.torch_device import TorchDevice

    if task.threads is not None:
        torch.set_num_threads(task.threads)
    return TorchDevice(settle(task.device, by_torch=True), precision)


def open_gradient(task: Task) -> "tuple[Compute, str, Place]":
    """Open a backend; return what computes the gradients of a batch, and what it runs on.

    Also what puts pictures where a run keeps them, and returns a step of those.
    """
    from ..choices import choose_settings
    from ..gradients.choice import choose_backend
    from ..gradients.opening import open_backend

    backend, precision = OPTIMIZE_VARIANTS[task.variant]
    settings = choose_settings(
        task.preset, pooling=task.pooling, backend=backend, precision=precision,
        device=task.device, threads=task.threads, weights=task.weights,
    )  # fmt: skip
    choice = choose_backend(settings)
    problem = (settings.objective, make_zero_targets(settings.objective, task.size, task.size))
    opened = open_backend(settings, choice)
    evaluate = opened.make([problem] * task.batch).costs_and_gradients

    def place(pixels: NDArray[np.float32]) -> Callable[[], object]:
        placed = opened.arrays.place(pixels)
        return lambda: evaluate(placed)

    return (lambda pixels: list(evaluate(pixels)[1])), f"{choice.name} {choice.device}", place


def floor_seconds(task: Task) -> float:
    """Return what the convolutions of a task take alone, in its variant's precision."""
    from nstx.models.vgg19 import truncate

    from ..choices import choose_settings
    from .floor import measure_floor

    has_gradient = task.work == "gradient"
    variants = GRADIENT_VARIANTS if has_gradient else FEATURE_VARIANTS
    layers: Sequence[str] = [*task.activations, *task.grams]
    rounding: PoolRounding = "ceil"
    if has_gradient:
        objective = choose_settings(task.preset, pooling=task.pooling).objective
        layers, rounding = objective.layers, objective.pool_rounding
    precision = cast("TorchPrecision", variants[task.variant])
    return measure_floor(
        truncate(layers), (task.size, task.size), task.batch, _torch_device(task, precision),
        rounding=rounding, backward=has_gradient,
    )  # fmt: skip


def measure_peak(task: Task) -> float:
    """Return the GFLOP/s of square matrix products, the best of PyTorch's and NumPy's medians.

    The variant is the precision; 0 if neither library has it on the device.
    """
    size = _PEAK_SIZE if task.device == "cpu" else _PEAK_SIZE_ON_CUDA
    block = np.random.default_rng(0).standard_normal((_PEAK_SIZE,) * 2).astype(np.float32)
    matrix = np.tile(block, (size // _PEAK_SIZE,) * 2)
    products: list[Callable[[], object]] = []
    if task.device == "cpu" and task.variant == "fp32":
        products.append(lambda: matrix @ matrix)
    with contextlib.suppress(ImportError):
        products.append(_torch_product(task, matrix))
    medians = [_time_median(product) for product in products]
    return float(2 * size**3 / min(medians) / 1e9) if medians else 0.0


def _time_median(product: Callable[[], object]) -> float:
    times: list[float] = []
    # A precision that the processor only emulates may take seconds for a single product.
    while len(times) < _PEAK_REPEATS and sum(times) < _PEAK_SECONDS:
        began = time.perf_counter()
        product()
        times.append(time.perf_counter() - began)
    # The first one also warms up.
    return statistics.median(times[1:] or times)


def _torch_product(task: Task, array: NDArray[np.float32]) -> Callable[[], object]:
    import torch

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(task.variant, torch.float32)
    device = _torch_device(task, "tf32" if task.variant == "tf32" else "fp32")
    matrix = device.upload(array, dtype)

    def multiply() -> None:
        with device.numerics(products=True):
            matrix @ matrix
            if device.place.is_cuda:
                torch.cuda.synchronize(device.torch_device)

    return multiply
