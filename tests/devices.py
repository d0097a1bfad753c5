"""Where tests run: on the CPU, and on a CUDA device where there is one."""

from typing import Any

import pytest
import torch

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
ON_CUDA = (pytest.mark.gpu, needs_cuda)
"""The marks of what runs there alone."""

DEVICES = ["cpu", pytest.param("cuda", marks=ON_CUDA)]


def on_cuda(*values: Any, name: str = "cuda") -> Any:
    """Return a parameter of a test for CUDA alone."""
    return pytest.param(*values, marks=ON_CUDA, id=name)


ACCELERATED: list[Any] = [
    on_cuda(
        {"backend": "torch", "device": "cuda", "precision": precision}, name=f"cuda-{precision}"
    )
    for precision in ("fp32", "auto")
]
"""Choices of runs on CUDA: exact, and in bf16 that is checked."""


def across_cuda(*values: Any) -> list[Any]:
    """Return parameters of values with each of `ACCELERATED` behind them."""
    return [
        on_cuda(*values, *place.values, name=f"{'-'.join(map(str, values))}-{place.id}")
        for place in ACCELERATED
    ]


PLACES = [
    pytest.param({"backend": "onnx"}, id="onnx"),
    pytest.param({"backend": "torch"}, id="torch"),
    *ACCELERATED,
]
"""Choices of runs by each backend on the CPU, and on CUDA."""


def most_error(place: dict[str, Any]) -> float:
    """Return how far a cost may be from float64's: sums on CUDA are in another order, by larger parts."""
    return 1e-3 if place.get("device") == "cuda" else 1e-4
