"""Strips: pictures are worked on a few rows at a time, on several threads, and large ones measured here and there."""

import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
Values = NDArray[np.float32]
Mask = NDArray[np.bool_]

FROM_RGB = np.array(
    [[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]], np.float32
).T
"""From RGB to luminance and two differences of colour, as in JPEG."""

TO_RGB = np.linalg.inv(FROM_RGB).astype(np.float32)

Strip = slice
"""Rows of a picture, with both ends."""

_STRIP = 128  # rows that are worked on at once, fewer of wide pictures
_LEAST_STRIP = 16
_MOST_MEASURED = 1 << 20  # pixels; of larger pictures, strips here and there are measured
_LEAST_MEASURED = 8  # strips
_THREADS = 4

_R = TypeVar("_R")


def strips(height: int, width: int) -> list[Strip]:
    """Return the strips that make up a picture."""
    return _strips_of(height, max(_LEAST_STRIP, min(_STRIP, _MOST_MEASURED // width)))


def in_strips(parts: Sequence[Strip], work: Callable[[Strip], _R]) -> list[_R]:
    """Return what comes of working on each strip, on several threads where they are to be had."""

    def quietly(strip: Strip) -> _R:
        # Pictures that are not clipped may have squares beyond float32.
        with np.errstate(over="ignore", invalid="ignore"):
            return work(strip)

    try:
        # Not even its import is possible when the main thread has ended.
        from concurrent.futures import ThreadPoolExecutor

        pool = ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1))
        done = pool.map(quietly, parts)
    except RuntimeError:
        return [quietly(strip) for strip in parts]
    with pool:
        return list(done)


def _strips_of(height: int, rows: int) -> list[Strip]:
    return [slice(top, min(top + rows, height)) for top in range(0, height, rows)]


def measured_strips(flat: NDArray[np.bool_]) -> list[Strip]:
    """Return strips that have flat pixels: all of them, or of a large picture some all over it."""
    height, width = flat.shape
    is_large = flat.size > _MOST_MEASURED
    parts = _strips_of(height, _LEAST_STRIP) if is_large else strips(height, width)
    parts = [strip for strip in parts if flat[strip].any()]
    most = max(_LEAST_MEASURED, _MOST_MEASURED // (_LEAST_STRIP * width))
    if not is_large or len(parts) <= most:
        return parts
    return [parts[index] for index in np.linspace(0, len(parts) - 1, most).round().astype(int)]


def window(pixels: Pixels, strip: Strip, halo: int) -> Pixels:
    """Return a strip with what lies around it, the picture being mirrored at its border."""
    top, bottom = strip.start - halo, strip.stop + halo
    near = pixels[max(0, top) : bottom].astype(np.float32, copy=False)
    beyond = max(0, -top), max(0, bottom - len(pixels))
    return np.pad(near, (beyond, (halo, halo), (0, 0)), mode="symmetric")


def box_means(values: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Return the means of all squares that lie within."""
    sums = np.pad(values.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    box = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return np.asarray(box / side**2)
