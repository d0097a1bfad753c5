"""Convolutions of 3×3 in PyTorch, with kernels that are laid out once."""

import functools

import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own convention)

from ..settings import Precision
from .device import Device
from .machine import Bf16
from .torch_device import TorchDevice

_ONES = [1, 1]
_PACKED: tuple[Precision, ...] = ("bf16", "fp32")


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
    """Whether kernels are laid out once: on the CPU, where that works, but not in fp64."""
    if not device.place.is_cpu or device.precision not in _PACKED:
        return False
    return _packing_works() if device.packs is None else device.packs


def try_bf16() -> Bf16:
    """Return how PyTorch convolves in bf16 on this CPU. It is tried: the operators' presence says nothing.

    oneDNN lays bf16 kernels out on processors with AVX-512 or AVX-NE-CONVERT alone; elsewhere PyTorch
    convolves in bf16 without it, slowly.
    """
    if _packing_works():
        return "packed"
    return "plain" if _convolution_works() else "none"


@functools.cache
def _packing_works() -> bool:
    # For fp32 as well: with AVX2, oneDNN lays deep layers' kernels out anew in spite of it, which takes
    # nine times the convolution.
    return all(_is_right(TorchDevice(Device("cpu"), name, packs=True)) for name in _PACKED)


@functools.cache
def _convolution_works() -> bool:
    return _is_right(TorchDevice(Device("cpu"), "bf16", packs=False))


def _is_right(device: TorchDevice) -> bool:
    """Whether a small convolution works, with the right numbers."""
    generator = torch.Generator().manual_seed(0)
    kernel, bias, x = (
        torch.rand(shape, generator=generator).to(device.dtype)
        for shape in ((16, 16, 3, 3), (16,), (1, 16, 6, 7))
    )
    x = x.contiguous(memory_format=torch.channels_last)
    expected = F.conv2d(x.double(), kernel.double(), bias.double(), padding=1)
    try:
        with torch.no_grad():
            result = Convolution(kernel, bias, device, relu=False)(x)
    except (RuntimeError, AttributeError):  # it is refused, or this build lacks the operators
        return False
    return bool((result.double() - expected).abs().max() < 0.02 * expected.abs().max())
