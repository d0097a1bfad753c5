"""Convolutions of 3×3 in PyTorch, with kernels that are laid out once."""

import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own convention)

from .devices import TorchDevice

_ONES = [1, 1]


class Convolution:
    """A convolution of 3×3 that keeps height and width, on channels_last activations.

    On the CPU oneDNN lays kernels out anew in every call, which takes as long as the convolution itself where
    there are many channels and few pixels. PyTorch has operators that keep the layout and apply the ReLU in
    passing; its compiler uses them. The results are the same, bit for bit.

    Args:
        kernel: (outputs, inputs, 3, 3), on the device.
        bias: (outputs); None adds nothing.
        device: where it runs.
        relu: whether a ReLU follows.
    """

    def __init__(
        self, kernel: torch.Tensor, bias: torch.Tensor | None, device: TorchDevice, *, relu: bool
    ) -> None:
        kernel = kernel.contiguous(memory_format=torch.channels_last)
        self._bias, self._relu = bias, relu
        self._is_packed = packs_kernels(device)
        if self._is_packed:
            pack = torch.ops.mkldnn._reorder_convolution_weight
            kernel = pack(kernel, _ONES, _ONES, _ONES, 1)
        self._kernel = kernel

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return a new tensor (batch, outputs, h, w) for one of (batch, inputs, h, w)."""
        if self._is_packed:
            found: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(
                x, self._kernel, self._bias, _ONES, _ONES, _ONES, 1,
                "relu" if self._relu else "none", [], "",
            )  # fmt: skip
            return found
        found = F.conv2d(x, self._kernel, self._bias, padding=1)
        return found.relu_() if self._relu else found


def packs_kernels(device: TorchDevice) -> bool:
    """Whether kernels can be laid out once: on the CPU, in a build with oneDNN, but not in fp64."""
    if device.name != "cpu" or device.precision not in ("fp32", "bf16"):
        return False
    operators = ("_reorder_convolution_weight", "_convolution_pointwise")
    is_there = all(hasattr(torch.ops.mkldnn, name) for name in operators)
    has_library: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return has_library and is_there
