"""A CUDA device that is none: its tensors are in main memory, and marked, so that what is mixed up is noticed here."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from nstx.engine.kernels import availability
from nstx.engine.kernels.support import KernelSupport

PLACE = torch.device("cuda:0")
_GET_DEVICE = torch.Tensor.device.__get__
_TO_HOST = (torch.Tensor.numpy, torch.Tensor.__array__)


class CudaLike(TorchFunctionMode):
    """Lets PyTorch compute on the host what is to be on a CUDA device, and refuses what a device would refuse.

    Attributes:
        uploaded: elements that went to the device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.uploaded = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compute a function; what comes of tensors on the device is there, too."""
        named = dict(kwargs or {})
        if func is _GET_DEVICE and is_there(args[0]):
            return PLACE
        if func in _TO_HOST and is_there(args[0]):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if func is torch.Tensor.cpu:
            return args[0].detach().clone() if is_there(args[0]) else args[0]
        if func is torch.Tensor.to:
            return self._move(*args, **named)
        places = {is_there(item) for item in _tensors([*args, *named.values()]) if item.dim()}
        if len(places) > 1 and func is not torch.Tensor.copy_:
            raise RuntimeError(f"{func} expected all tensors on one device")
        is_made = named.get("device") == PLACE
        if is_made:
            named["device"] = "cpu"
        if func is torch.cudnn_convolution_relu:
            x, kernel, bias = args[:3]
            result = F.conv2d(x, kernel, bias, padding=1).relu_()
        else:
            result = func(*args, **named)
        if func is not torch.Tensor.copy_ and (is_made or True in places):
            mark(result)
        return result

    def _move(self, x: torch.Tensor, *others: Any, **named: Any) -> torch.Tensor:
        """Do as `Tensor.to`."""
        values = [*others, *named.values()]
        kinds = [item for item in values if isinstance(item, torch.dtype)]
        places = [torch.device(item) for item in values if isinstance(item, torch.device | str)]
        goes = places[0].type == "cuda" if places else is_there(x)
        moved = x.type(kinds[0]) if kinds else x
        if goes != is_there(x):
            moved = moved.clone() if moved is x else moved
            self.uploaded += x.numel() * goes
        moved.on_device = goes  # type: ignore[attr-defined]
        return moved


def is_there(tensor: torch.Tensor) -> bool:
    """Whether a tensor is on the device."""
    return getattr(tensor, "on_device", False)


def mark(values: Any) -> None:
    """Mark what a function has returned as on the device."""
    for item in _tensors([values]):
        item.on_device = True  # type: ignore[attr-defined]


def _tensors(values: Sequence[Any]) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


@contextmanager
def cuda_like_host(monkeypatch: pytest.MonkeyPatch) -> Iterator[CudaLike]:
    """Let whole runs take the host for a CUDA device, without graphs and kernels of our own."""
    for name, value in {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "get_device_capability": lambda *_: (8, 0),
        "mem_get_info": lambda *_: (0, 0),
        "device": lambda *_: nullcontext(),
        "device_of": lambda *_: nullcontext(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(
        availability, "kernel_support", lambda *_: KernelSupport("torch", "no device")
    )
    monkeypatch.setenv("NSTX_CUDA_GRAPHS", "0")
    with CudaLike() as mode:
        yield mode
