"""What solvers do with pictures that NumPy and PyTorch write differently; here in NumPy.

Solvers use operators and methods that both have (``+``, ``abs``, ``clip``, ``max``), so that a picture stays
on the device where its gradient is computed: see `nstx.engine.devices.torch_arrays`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..pictures.pixels import Batch, Pixels

Array = Any
"""float32: a NumPy array or a PyTorch tensor of the shape that is said."""

Smoother = Callable[[Array], Array]
"""Filters a picture (height, width, 3); returns a new one."""

# Of the smoother: the power of a frequency that it is weighted by.
_SPECTRUM = -1.0


class Arrays(Protocol):
    """Arrays of one kind, in one place."""

    def place(self, pixels: Pixels) -> Array:
        """Return a picture (height, width, 3) as such an array; it may share the memory."""
        ...

    def fetch(self, array: Array) -> Pixels:
        """Return such an array, of any shape, as a NumPy array; it may share the memory."""
        ...

    def stack(self, pictures: Sequence[Array]) -> Array:
        """Return pictures of one size as a batch."""
        ...

    def dot(self, a: Array, b: Array) -> Any:
        """Return the sum of products, as a number or as an array () that can be used like one."""
        ...

    def make_smoother(self, height: int, width: int) -> Smoother:
        """Return a filter that weights the frequencies of a picture by 1/f.

        The preconditioner of L-BFGS: the cost is far flatter along coarse structures than along fine
        ones, in which a gradient's size therefore is nearly all. (Olah, Mordvintsev and Schubert 2017
        change the parametrisation to the same end, under Adam.)

        Args:
            height: of the pictures, in pixels.
            width: of the pictures, in pixels.
        """
        ...


class NumpyArrays:
    """`Arrays` of NumPy."""

    def place(self, pixels: Pixels) -> Pixels:
        """See `Arrays`."""
        return pixels.astype(np.float32, copy=False)

    def fetch(self, array: Array) -> Pixels:
        """See `Arrays`."""
        return np.asarray(array)

    def stack(self, pictures: Sequence[Array]) -> Batch:
        """See `Arrays`."""
        return np.stack(pictures)

    def dot(self, a: Array, b: Array) -> float:
        """See `Arrays`."""
        return float(np.vdot(a, b))

    def make_smoother(self, height: int, width: int) -> Smoother:
        """See `Arrays`."""
        weights = frequency_weights(height, width)

        def smooth(picture: Array) -> Pixels:
            spectrum = np.fft.rfft2(picture, axes=(0, 1)) * weights
            found = np.fft.irfft2(spectrum, s=(height, width), axes=(0, 1))
            return found.astype(np.float32)

        return smooth


NUMPY = NumpyArrays()
"""The arrays of backends that take and return NumPy's."""


def frequency_weights(height: int, width: int) -> NDArray[np.float32]:
    """Return 1/f of each frequency of a real Fourier transform, (height, width // 2 + 1, 1).

    The mean colour is weighted as the lowest frequency is.
    """
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.maximum(np.hypot(down, across), 1 / max(height, width))
    weights: NDArray[np.float32] = (frequency**_SPECTRUM).astype(np.float32)[..., None]
    return weights
