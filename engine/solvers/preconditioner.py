"""The preconditioner of L-BFGS: a filter that weights the frequencies of a picture by 1/f.

The cost is far flatter along coarse structures than along fine ones, which make up nearly all of a
gradient's length. Olah, Mordvintsev and Schubert 2017 change the parametrisation to the same end, under
Adam.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..devices.arrays import Array, Arrays

Preconditioner = Callable[[Array], Array]
"""A symmetric, positive linear map of pictures (height, width, 3), which returns a new one."""

_POWER = -1.0
"""Of a frequency, by which it is weighted."""


def make_preconditioner(height: int, width: int, arrays: Arrays) -> Preconditioner:
    """Return the filter of pictures of a size, in pixels.

    Args:
        height: of the pictures.
        width: of the pictures.
        arrays: that they are of.
    """
    weights = arrays.place(frequency_weights(height, width))
    return lambda picture: arrays.irfft2(arrays.rfft2(picture) * weights, height, width)


def frequency_weights(height: int, width: int) -> NDArray[np.float32]:
    """Return 1/f of each frequency of a real Fourier transform, (height, width // 2 + 1, 1).

    The mean colour is weighted as the lowest frequency is.
    """
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.maximum(np.hypot(down, across), 1 / max(height, width))
    weights: NDArray[np.float32] = (frequency**_POWER).astype(np.float32)[..., None]
    return weights
