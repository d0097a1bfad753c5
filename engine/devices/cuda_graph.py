"""CUDA graphs: what a function launches, captured once and replayed.

A step at 512 pixels launches a hundred kernels, each of which takes the processor some microseconds: as
long as the device takes to run it.
"""

import functools
import os
from collections.abc import Callable
from typing import Protocol

import torch

from nstx.models.errors import DeviceError

from .memory import without_collection
from .torch_device import TorchDevice

Function = Callable[..., tuple[torch.Tensor, ...]]


def captures_graphs(device: TorchDevice) -> bool:
    """Whether graphs are used on a device: on CUDA, unless ``NSTX_CUDA_GRAPHS`` is 0."""
    return device.place.is_cuda and graphs_are_allowed()


def graphs_are_allowed() -> bool:
    """Whether graphs are used on CUDA: unless ``NSTX_CUDA_GRAPHS`` is 0."""
    return os.environ.get("NSTX_CUDA_GRAPHS") != "0"


class Capture(Protocol):
    """Captures what a function does in its first call, and replays it afterwards."""

    def __call__(self, function: Function, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the function's results, to keep; function, shapes and device stay the same."""


class CudaGraph:
    """A `Capture` in a CUDA graph.

    The function must do the same for all tensors of the same shapes, and not wait for the device. It is
    an argument of each call rather than an attribute: its owner holds this object, so both would hold
    one another, and with them a graph's memory.

    Args:
        copies: whether inputs are copied to where the function was captured with them, and results to
            keep from there. Without, inputs are the same tensors in each call, and results are too.
    """

    def __init__(self, *, copies: bool = True) -> None:
        self._copies = copies
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[torch.Tensor, ...] = ()
        self._outputs: tuple[torch.Tensor, ...] = ()

    def __call__(self, function: Function, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Implement `Capture`; `DeviceError` if the function cannot be captured."""
        if inputs[0].device.index != torch.cuda.current_device():
            with torch.cuda.device(inputs[0].device):
                return self(function, *inputs)
        self.prepare(function, *inputs)
        assert self._graph is not None
        for place, tensor in zip(self._inputs, inputs, strict=True):
            if place.shape != tensor.shape or not (self._copies or place is tensor):
                raise ValueError(
                    f"expected the inputs that were captured, {tuple(place.shape)}, "
                    f"got {tuple(tensor.shape)}; try another CudaGraph"
                )
            if self._copies:
                place.copy_(tensor)
        self._graph.replay()
        if not self._copies:
            return self._outputs
        return tuple(output.clone() for output in self._outputs)

    def prepare(self, function: Function, *inputs: torch.Tensor) -> None:
        """Capture a function before its first call; what it changes in place may be changed by this."""
        if self._graph is None:
            with torch.cuda.device(inputs[0].device):
                self._graph = self._capture(function, inputs)

    def _capture(
        self, function: Function, inputs: tuple[torch.Tensor, ...]
    ) -> torch.cuda.CUDAGraph:
        self._inputs = tuple(tensor.clone() for tensor in inputs) if self._copies else inputs
        # Libraries choose their kernels and allocate memory in the first call, which cannot be
        # captured; as PyTorch's manual has it, this one is made on another stream.
        stream = _capture_stream(inputs[0].device.index)
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            function(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads of the host's may use CUDA meanwhile. What this one's collector finds may
            # not be freed: ONNX Runtime's sessions end the process if CUDA refuses to.
            with (
                without_collection(),
                torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"),
            ):
                self._outputs = function(*self._inputs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise DeviceError(
                f"expected to capture a step in a CUDA graph, got: {error}; "
                "try the environment variable NSTX_CUDA_GRAPHS=0"
            ) from error
        return graph


def run_by(
    graph: CudaGraph | None, function: Function, *inputs: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Return a function's results, by its graph where it has one."""
    return function(*inputs) if graph is None else graph(function, *inputs)


@functools.cache
def _capture_stream(index: int) -> torch.cuda.Stream:
    # PyTorch's own is of the device that captured first, and libraries keep memory for each stream.
    return torch.cuda.Stream(device=index)  # type: ignore[no-untyped-call]
