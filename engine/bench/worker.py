"""One measurement in a process of its own: ``python -m nstx.engine.bench.worker TASK``.

A process of its own gives the time from a process's start to its first result, and a peak of memory
that is nobody else's. TASK is JSON with the fields of `Task`; the answer is one JSON object on
stdout. Nothing is imported but what the variant needs.
"""

import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nstx.export.graphs.feature_graph import GraphPrecision
    from nstx.models.vgg19 import Pooling

    from ..features.extractor import Features

    Outputs = list[NDArray[np.float32]]
    Run = Callable[[NDArray[np.float32]], Outputs]

FEATURE_VARIANTS: dict[str, str] = {
    "onnx": "fp32",
    "onnx-fixed": "fp32",
    "onnx-fp16": "fp16",
    "torch": "fp32",
    "torch-compile": "fp32",
    "torch-bf16": "bf16",
}
"""What can be measured of features, with its precision. ``onnx``: the extractor that `nstx optimize`
uses. ``onnx-fixed``: for one size, with bound buffers, on CUDA in a CUDA graph; ``onnx-fp16`` the same
with an fp16 graph. ``torch``: eager. ``torch-compile``: channels_last and compiled, on CUDA with the
search for fast kernels and CUDA graphs. ``torch-bf16``: these, and weights and activations in bf16."""

GRADIENT_VARIANTS: dict[str, str] = {
    "onnx": "fp32",
    "onnx-fp16": "fp16",
    "torch": "fp32",
    "torch-tf32": "tf32",
    "torch-bf16": "bf16",
    "torch-fp16": "fp16",
}
"""What can be measured of gradients: a backend of `nstx optimize` at one of its precisions."""

PEAK = "peak-"
"""Before a precision: a variant that measures matrix products instead, in GFLOP/s."""

_PEAK_SIZE, _PEAK_REPEATS, _PEAK_SECONDS = 2048, 8, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is measured.

    Attributes:
        work: ``features`` or ``gradient``.
        variant: of `FEATURE_VARIANTS` or `GRADIENT_VARIANTS`, or `PEAK` with a precision.
        size: side of the pictures in pixels.
        batch: how many at once.
        repeats: runs after the first, at least.
        seconds: that these runs shall take together, at least.
        device: ``cpu`` or ``cuda[:N]``.
        threads: of the CPU; None leaves it to the library.
        weights: ``embedded`` or a file.
        activations: layers whose activations come out, of features.
        grams: layers whose Gram matrices come out, of features.
        preset: whose objective is evaluated, of a gradient.
        pooling: of that; None takes the preset's.
    """

    work: str
    variant: str
    size: int
    batch: int
    repeats: int
    seconds: float
    device: str
    threads: int | None
    weights: str
    activations: tuple[str, ...] = ()
    grams: tuple[str, ...] = ()
    preset: str = "default"
    pooling: "Pooling | None" = None


def measure(task: Task) -> dict[str, Any]:
    """Return what was measured.

    Keys: ``first_result_at`` (seconds since the epoch), ``warm`` (seconds of each later run),
    ``peak_memory_bytes`` (of the process; on CUDA what is in use on the device after the runs),
    ``runs_on``, ``norms`` (of each output); for a peak, ``gflops``.
    """
    if task.variant.startswith(PEAK):
        return {"gflops": _measure_peak(task)}
    import numpy as np

    shape = (task.batch, task.size, task.size, 3)
    # Not numpy.random, which takes as long to load as ONNX Runtime does.
    pixels = np.resize(np.arange(251, dtype=np.float32), shape)
    run, runs_on = _open(task)
    outputs = run(pixels)
    first_result_at = time.time()
    warm: list[float] = []
    while len(warm) < task.repeats or sum(warm) < task.seconds:
        began = time.perf_counter()
        run(pixels)
        warm.append(time.perf_counter() - began)
    return {
        "first_result_at": first_result_at,
        "warm": warm,
        "peak_memory_bytes": _memory(task.device),
        "runs_on": runs_on,
        "norms": [float(np.linalg.norm(output.astype(np.float64))) for output in outputs],
    }


def _open(task: Task) -> "tuple[Run, str]":
    if task.work == "gradient":
        from .gradient import open_gradient

        return open_gradient(task)
    return _open_onnx(task) if task.variant.startswith("onnx") else _open_torch(task)


def _memory(device: str) -> int:
    """Return the process's peak, or on CUDA what is in use on the device, contexts included.

    PyTorch's own count would miss what ONNX Runtime allocates.
    """
    from ..devices.device import Device, settle
    from ..devices.memory import peak_memory_bytes

    if not settle(device).is_cuda:
        return peak_memory_bytes(Device("cpu"))
    import torch

    free, total = torch.cuda.mem_get_info(device)
    return total - free


def _open_onnx(task: Task) -> "tuple[Run, str]":
    from ..devices.device import choose_provider_on, settle
    from ..features.onnx_extractor import FixedExtractor, OnnxExtractor
    from ..features.opening import Extraction, built_graphs

    provider = choose_provider_on(settle(task.device))
    choices = Extraction(device=task.device, weights=task.weights, threads=task.threads)
    source = built_graphs(choices, provider)
    precision: GraphPrecision = "fp16" if task.variant == "onnx-fp16" else "fp32"
    source = replace(source, template=replace(source.template, precision=precision))
    extract: Callable[[NDArray[np.float32]], Features]
    if task.variant == "onnx":
        any_size = OnnxExtractor(source).extract_batch
        extract = partial(any_size, activations=task.activations, grams=task.grams)
    else:
        shape = (task.batch, task.size, task.size)
        extract = FixedExtractor(source, shape, task.activations, task.grams).extract_batch

    def run(pixels: "NDArray[np.float32]") -> "Outputs":
        features = extract(pixels)
        return [*features.activations.values(), *features.grams.values()]

    return run, provider.name


def _open_torch(task: Task) -> "tuple[Run, str]":
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
    network = TorchNetwork(load_weights(task.weights), layers, "avg", "ceil", device)

    def evaluate(x: torch.Tensor) -> list[torch.Tensor]:
        features = network(x, layers)
        outputs = [features[layer].float() for layer in task.activations]
        return outputs + [gram_matrices(features[layer], torch.float32) for layer in task.grams]

    tuned = task.variant != "torch"
    if tuned:
        network.to_channels_last()
    compute: Callable[[torch.Tensor], list[torch.Tensor]] = evaluate
    if tuned:
        mode = "reduce-overhead" if place.is_cuda else None
        compute = torch.compile(evaluate, mode=mode)

    def run(pixels: "NDArray[np.float32]") -> "Outputs":
        with device.numerics(), torch.no_grad():
            if tuned:
                torch.backends.cudnn.benchmark = True
                torch.backends.cudnn.deterministic = False
            # A picture's bytes are channels_last as they are.
            x = torch.from_numpy(pixels).to(device.torch_device).permute(0, 3, 1, 2)
            outputs = compute(x if tuned else x.contiguous())
            return [output.cpu().numpy() for output in outputs]

    return run, str(device)


def _measure_peak(task: Task) -> float:
    """Return the GFLOP/s of square matrix products, the best of PyTorch's and NumPy's medians.

    0 if neither is there for the device and precision.
    """
    import numpy as np

    precision = task.variant.removeprefix(PEAK)
    array = np.random.default_rng(0).standard_normal((_PEAK_SIZE, _PEAK_SIZE)).astype(np.float32)
    candidates: list[Callable[[], object]] = []
    if task.device == "cpu" and precision == "fp32":
        candidates.append(lambda: array @ array)
    with contextlib.suppress(ImportError):
        candidates.append(_torch_product(task, array, precision))
    medians = []
    for candidate in candidates:
        times: list[float] = []
        # A precision that the processor only imitates may take seconds for a single product.
        while len(times) < _PEAK_REPEATS and sum(times) < _PEAK_SECONDS:
            began = time.perf_counter()
            candidate()
            times.append(time.perf_counter() - began)
        # The first one also warms up.
        medians.append(statistics.median(times[1:] or times))
    return float(2 * _PEAK_SIZE**3 / min(medians) / 1e9) if medians else 0.0


def _torch_product(
    task: Task, array: "NDArray[np.float32]", precision: str
) -> Callable[[], object]:
    import torch

    from ..devices.device import settle
    from ..devices.torch_device import TorchDevice

    if task.threads is not None:
        torch.set_num_threads(task.threads)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    place = settle(task.device, by_torch=True)
    device = TorchDevice(place, "tf32" if precision == "tf32" else "fp32")
    matrix = device.upload(array, dtype)

    def multiply() -> None:
        with device.numerics(products=True):
            matrix @ matrix
            if place.is_cuda:
                torch.cuda.synchronize(device.torch_device)

    return multiply


def _main() -> None:
    from nstx.models.errors import NstxError

    given = json.loads(sys.argv[1])
    for name in ("activations", "grams"):
        given[name] = tuple(given[name])
    try:
        answer = measure(Task(**given))
    except NstxError as error:
        answer = {"error": str(error)}
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    _main()
