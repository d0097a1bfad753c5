"""Convolutions of 3×3 in PyTorch, with their kernels in the memory layout that suits a device."""

import functools
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own convention)

from ..settings import Precision
from .device import Device
from .machine import Bf16
from .torch_device import TorchDevice, TorchPrecision

Layout = Literal["contiguous", "channels_last", "packed"]
"""A kernel's: rows innermost, channels innermost, or as oneDNN uses it on the CPU."""

_ONES = [1, 1]
_FUSED: tuple[TorchPrecision, ...] = ("bf16", "fp16", "tf32")
_PACKED: tuple[Precision, ...] = ("bf16", "fp32")


class Convolution:
    """A convolution that keeps height and width, by a kernel (outputs, inputs, 3, 3).

    On the CPU oneDNN lays kernels out anew in every call, which takes as long as the convolution itself
    where there are many channels and few pixels. PyTorch has operators that keep the packed layout and
    apply the ReLU in passing; its compiler uses them. The results are the same, bit for bit.
    Activations are channels_last unless the layout is contiguous.
    """

    def __init__(
        self, kernel: torch.Tensor, bias: torch.Tensor | None, layout: Layout, *, relu: bool
    ) -> None:
        if layout != "contiguous":
            kernel = kernel.contiguous(memory_format=torch.channels_last)
        if layout == "packed":
            pack = torch.ops.mkldnn._reorder_convolution_weight
            kernel = pack(kernel, _ONES, _ONES, _ONES, 1)
        self._kernel, self._bias = kernel, bias
        self._is_packed, self._relu = layout == "packed", relu

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return a new tensor (batch, outputs, h, w) for one of (batch, inputs, h, w)."""
        if self._is_packed:
            packed: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(
                x, self._kernel, self._bias, _ONES, _ONES, _ONES, 1,
                "relu" if self._relu else "none", [], "",
            )  # fmt: skip
            return packed
        result = F.conv2d(x, self._kernel, self._bias, padding=1)
        return result.relu_() if self._relu else result


class CudnnConvolution(Convolution):
    """A convolution with bias and ReLU in one kernel of cuDNN, on CUDA.

    By PyTorch's other operators a bias and a ReLU are a pass over memory each. Autograd does not know it.
    """

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Implement `Convolution`."""
        if x.requires_grad:
            return super().__call__(x)
        result: torch.Tensor = torch.cudnn_convolution_relu(
            x, self._kernel, self._bias, _ONES, _ONES, _ONES, 1
        )
        return result


class CompensatedConvolution(Convolution):
    """A float32 convolution by three of TF32, for devices whose matrix units round to that.

    TF32 keeps 11 significant bits. So x = h + l, with h rounded to these and l what is left, and of
    (h + l) * (k + m) only l * m is dropped, which is 2⁻²² of the whole at most. (Ootomo and Yokota 2022,
    "Recovering single precision accuracy from Tensor Cores while surpassing the FP32 theoretical peak
    performance".)
    """

    def __init__(
        self, kernel: torch.Tensor, bias: torch.Tensor | None, layout: Layout, *, relu: bool
    ) -> None:
        assert layout != "packed"
        super().__init__(kernel, bias, layout, relu=relu)
        self._kernel, self._rest = split_to_tf32(self._kernel)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Implement `Convolution`."""
        high, low = split_to_tf32(x)
        # The small terms first, which rounds least.
        result = F.conv2d(low, self._kernel, padding=1)
        del low
        result += F.conv2d(high, self._rest, padding=1)
        result += F.conv2d(high, self._kernel, self._bias, padding=1)
        return result.relu_() if self._relu else result


def split_to_tf32(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return float32 values rounded to TF32's 11 significant bits, and what is left, as float32.

    Their sum is x, exactly. What is infinite or NaN leaves NaN.
    """
    # Half of the last bit that is kept is added, and the 13 bits below it are cut.
    high = (x.view(torch.int32) + 0x1000).bitwise_and_(-0x2000).view(torch.float32)
    return high, x - high


def make_convolution(
    device: TorchDevice,
    kernel: torch.Tensor,
    bias: torch.Tensor | None,
    layout: Layout,
    *,
    relu: bool,
    fused: bool = True,
) -> Convolution:
    """Return a convolution in a device's precision; kernel and bias are on it.

    On CUDA it applies the ReLU in passing if ``fused``, where cuDNN can; else the two are PyTorch's own.
    """
    kind = Convolution
    is_fusible = relu and device.precision in _FUSED and kernel.shape[1] % 8 == 0
    if device.precision == "tf32x3":
        kind = CompensatedConvolution
    elif fused and is_fusible and device.place.is_cuda:
        kind = CudnnConvolution
    return kind(kernel, bias, layout, relu=relu)


def fastest_layout(device: TorchDevice) -> Layout:
    """Return packed on the CPU where that works, but not in fp64; else channels_last."""
    can_pack = device.place.is_cpu and device.precision in _PACKED
    return "packed" if can_pack and _packing_works() else "channels_last"


@functools.cache
def try_bf16() -> Bf16:
    """Return how PyTorch convolves in bf16 on this CPU, by trying: its operators are always there.

    oneDNN packs bf16 kernels on processors with AVX-512 or AVX-NE-CONVERT alone; elsewhere PyTorch
    convolves in bf16 without it, slowly.
    """
    if _packing_works():
        return "packed"
    return "plain" if _is_right("bf16", "channels_last") else "none"


@functools.cache
def _packing_works() -> bool:
    # For fp32 as well: with AVX2, oneDNN lays deep layers' kernels out anew in spite of it, which takes
    # nine times the convolution.
    return all(_is_right(precision, "packed") for precision in _PACKED)


def _is_right(precision: Precision, layout: Layout) -> bool:
    dtype = TorchDevice(Device("cpu"), precision).dtype
    generator = np.random.default_rng(0)
    kernel, bias, x = (
        torch.from_numpy(generator.random(shape, np.float32)).to(dtype)
        for shape in ((16, 16, 3, 3), (16,), (1, 16, 6, 7))
    )
    x = x.contiguous(memory_format=torch.channels_last)
    expected = F.conv2d(x.double(), kernel.double(), bias.double(), padding=1)
    try:
        with torch.no_grad():
            result = Convolution(kernel, bias, layout, relu=False)(x)
    except (RuntimeError, AttributeError):  # it is refused, or this build lacks the operators
        return False
    return bool((result.double() - expected).abs().max() < 0.02 * expected.abs().max())
