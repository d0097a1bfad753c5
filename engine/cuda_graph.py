"""CUDA graphs: what a function launches, captured once and replayed.

A step at 512 pixels launches a hundred kernels, each of which takes the processor some microseconds: as
long as the device takes to run it.
"""

import os
from collections.abc import Callable

import torch

from ..models.errors import DeviceError
from .devices import TorchDevice

_WARM_UPS = 3

_Function = Callable[..., tuple[torch.Tensor, ...]]


def captures_graphs(device: TorchDevice) -> bool:
    """Whether work on a device is captured: on CUDA, unless ``NSTX_CUDA_GRAPHS`` is 0."""
    return device.name.startswith("cuda") and os.environ.get("NSTX_CUDA_GRAPHS") != "0"


class CapturedFunction:
    """A function of CUDA tensors, captured in a graph when it is called first.

    It must do the same for all tensors of the same shapes, and not wait for the device.

    Args:
        function: returns tensors.
    """

    def __init__(self, function: _Function) -> None:
        self._function = function
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[torch.Tensor, ...] = ()
        self._outputs: tuple[torch.Tensor, ...] = ()

    def __call__(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return what the function does, in tensors that are the caller's.

        Raises:
            DeviceError: the function cannot be captured.
        """
        with torch.cuda.device(inputs[0].device):
            if self._graph is None:
                self._graph = self._capture(inputs)
            for own, given in zip(self._inputs, inputs, strict=True):
                own.copy_(given)
            self._graph.replay()
            return tuple(each.clone() for each in self._outputs)

    def _capture(self, inputs: tuple[torch.Tensor, ...]) -> torch.cuda.CUDAGraph:
        self._inputs = tuple(each.clone() for each in inputs)
        # Libraries choose their kernels and allocate memory in the first calls, which cannot be
        # captured; as PyTorch's manual has it, these are made on another stream.
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                self._function(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._outputs = self._function(*self._inputs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise DeviceError(
                f"expected to capture the gradient in a CUDA graph, got: {error}; "
                "try the environment variable NSTX_CUDA_GRAPHS=0"
            ) from error
        return graph
