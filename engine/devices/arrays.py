"""What solvers do with pictures: on NumPy arrays, or on tensors that stay on the gradient's device.

Solvers use the operators and methods that both have (`Array`); what NumPy and PyTorch write differently
is in `Arrays`, here for NumPy and in `nstx.engine.devices.torch_arrays` for PyTorch.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, Self, SupportsFloat, TypeVar

import numpy as np

from ..pictures.picture import Batch, Pixels

Mask = Any
"""An array of truth values; what NumPy's and PyTorch's types have in common does not describe one."""


class Array(Protocol):
    """A float32 array: the operations that NumPy's arrays and PyTorch's tensors share."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of its axes."""

    def __float__(self) -> float: ...
    def __neg__(self) -> Self: ...
    def __abs__(self) -> Self: ...
    def __add__(self, other: float | Self, /) -> Self: ...
    def __sub__(self, other: float | Self, /) -> Self: ...
    def __rsub__(self, other: float, /) -> Self: ...
    def __mul__(self, other: float | Self, /) -> Self: ...
    def __rmul__(self, other: float, /) -> Self: ...
    def __truediv__(self, other: float | Self, /) -> Self: ...
    def __rtruediv__(self, other: float, /) -> Self: ...
    def __pow__(self, exponent: float, /) -> Self: ...
    def __lt__(self, other: Any, /) -> Mask: ...
    def __le__(self, other: Any, /) -> Mask: ...
    def __gt__(self, other: Any, /) -> Mask: ...
    def __ge__(self, other: Any, /) -> Mask: ...
    def __iter__(self) -> Iterator[Self]: ...
    def __getitem__(self, index: int | None, /) -> Self: ...
    def __setitem__(self, index: Mask, value: float, /) -> None: ...
    def max(self) -> SupportsFloat:
        """Return the largest value."""

    def sum(self) -> SupportsFloat:
        """Return the sum of all values."""

    def clip(self, low: float, high: float, /) -> Self:
        """Return the values within bounds."""


ArrayT = TypeVar("ArrayT", bound=Array)
"""An array of one of the two kinds."""


class Arrays(Protocol):
    """Arrays of one kind, in one place."""

    @property
    def must_be_awaited(self) -> bool:
        """Whether each number that the host asks for is waited for, so that several are best asked at once."""

    def place(self, pixels: Pixels) -> Array:
        """Return an array of any shape as one of this kind; it may share the memory."""

    def fetch(self, array: Array) -> Pixels:
        """Return an array of this kind as NumPy's; it may share the memory."""

    def stack(self, pictures: Sequence[Array]) -> Array:
        """Return pictures of one size as a batch."""

    def dot(self, a: Array, b: Array) -> float | Array:
        """Return the sum of products: a number, or an array () that is used like one."""

    def to_grey(self, picture: Array) -> Array:
        """Return an array (height, width, 3) whose channels are all their mean."""

    def filter_frequencies(self, picture: Array, weights: Array) -> Array:
        """Return a picture (height, width, 3) whose frequencies are multiplied by weights.

        They are (height, width // 2 + 1, 1), as a real Fourier transform has its frequencies.
        """


class NumpyArrays:
    """`Arrays` of NumPy."""

    must_be_awaited = False

    def place(self, pixels: Pixels) -> Pixels:
        """Implement `Arrays`."""
        return pixels.astype(np.float32, copy=False)

    def fetch(self, array: Array) -> Pixels:
        """Implement `Arrays`."""
        return np.asarray(array)

    def stack(self, pictures: Sequence[Array]) -> Batch:
        """Implement `Arrays`."""
        return np.stack([self.fetch(picture) for picture in pictures])

    def dot(self, a: Array, b: Array) -> float:
        """Implement `Arrays`."""
        return float(np.vdot(self.fetch(a), self.fetch(b)))

    def to_grey(self, picture: Array) -> Pixels:
        """Implement `Arrays`."""
        values = self.fetch(picture)
        return np.repeat(values.mean(-1, keepdims=True), values.shape[-1], axis=-1)

    def filter_frequencies(self, picture: Array, weights: Array) -> Pixels:
        """Implement `Arrays`."""
        pixels, factors = self.fetch(picture), self.fetch(weights)[..., 0]
        filtered = np.empty_like(pixels, np.float32)
        # Channel by channel it takes a third of the memory and of the time, to the same bits.
        for channel in range(pixels.shape[2]):
            spectrum = np.fft.rfft2(pixels[..., channel])
            spectrum *= factors
            filtered[..., channel] = np.fft.irfft2(spectrum, s=pixels.shape[:2])
        return filtered


NUMPY = NumpyArrays()
"""The arrays of backends that take and return NumPy's."""
