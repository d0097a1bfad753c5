"""The floor of a step: what its convolutions alone take, forward and backward, by the same library.

On CUDA they are one captured graph, each by the algorithm that cuDNN finds fastest, on random numbers. What
a step takes above that is everything else: bias, ReLU, pooling, Gram matrices, costs.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from nstx.models.vgg19 import Layer, PoolRounding

from ..devices.convolution import Convolution, fastest_layout
from ..devices.torch_device import TorchDevice

_WARM_UPS = 3

_CALLS, _SECONDS, _REPEATS = 10, 0.1, 5
"""Calls between two waits for the device, the seconds beyond which they are fewer, and how often."""


def measure_floor(
    layers: Sequence[Layer],
    size: tuple[int, int],
    batch: int,
    device: TorchDevice,
    *,
    rounding: PoolRounding = "ceil",
    backward: bool = True,
) -> float:
    """Return the seconds that the convolutions among some layers take, the median of five repeats.

    Args:
        layers: of VGG-19, from the first; poolings among them count nothing.
        size: height and width of the pictures.
        batch: number of pictures at once.
        device: where, and in which precision.
        rounding: of odd sizes at poolings.
        backward: whether each convolution is counted with that of its backward pass, which is one more
            with inputs and outputs exchanged.
    """
    with _fastest(device), torch.no_grad():
        work = _make_work(layers, size, batch, device, rounding, backward=backward)

        def convolve() -> None:
            for convolution, x in work:
                convolution(x)

        call = capture(convolve, device) if device.place.is_cuda else convolve
        return statistics.median(time_calls(call, device))


def time_calls(
    call: Callable[[], object], device: TorchDevice, repeats: int = _REPEATS
) -> list[float]:
    """Return the seconds of a call in each repeat: of several between two waits, after two that warm up."""
    call()
    calls = max(1, min(_CALLS, round(_SECONDS / _time(call, device, 1))))
    return [_time(call, device, calls) for _ in range(repeats)]


def _time(call: Callable[[], object], device: TorchDevice, calls: int) -> float:
    wait(device)
    began = time.perf_counter()
    for _ in range(calls):
        call()
    wait(device)
    return (time.perf_counter() - began) / calls


def wait(device: TorchDevice) -> None:
    """Wait for all that a CUDA device has to do."""
    if device.place.is_cuda:
        torch.cuda.synchronize(device.torch_device)


def capture(function: Callable[[], object], device: TorchDevice) -> Callable[[], object]:
    """Return what replays a function, captured in a CUDA graph after its warm-up on another stream."""
    with torch.cuda.device(device.torch_device):
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                function()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            function()
    return graph.replay


@contextmanager
def _fastest(device: TorchDevice) -> Iterator[None]:
    with device.numerics():
        if device.place.is_cuda:
            # `numerics` puts both back.
            torch.backends.cudnn.benchmark = True
            torch.backends.cudnn.deterministic = False
        yield


def _make_work(
    layers: Sequence[Layer],
    size: tuple[int, int],
    batch: int,
    device: TorchDevice,
    rounding: PoolRounding,
    *,
    backward: bool,
) -> list[tuple[Convolution, torch.Tensor]]:
    layout = fastest_layout(device)

    def make(*shape: int) -> torch.Tensor:
        value = torch.randn(*shape, device=device.torch_device, dtype=device.dtype)
        return value.contiguous(memory_format=torch.channels_last)

    work = []
    for layer in layers:
        if layer.kind == "conv":
            places = layer.output_size(*size, rounding)
            pairs = [(layer.in_channels, layer.channels), (layer.channels, layer.in_channels)]
            for before, after in pairs[: 2 if backward else 1]:
                kernel = Convolution(make(after, before, 3, 3), None, layout, relu=False)
                work.append((kernel, make(batch, before, *places)))
    return work
