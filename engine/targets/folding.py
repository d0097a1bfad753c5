"""Symmetric matrices, of which half is stored."""

import numpy as np

from .targets import Array

# Rows of a band, whose part left of the diagonal is not stored; row by row would take long.
_BAND = 32


def fold(matrix: Array) -> Array:
    """Return the bands of rows of a symmetric matrix, each from its diagonal square on, as one."""
    starts = range(0, len(matrix), _BAND)
    return np.concatenate([matrix[start : start + _BAND, start:].ravel() for start in starts])


def folded_size(count: int) -> int:
    """Return how many values of a symmetric matrix, (count, count), are stored."""
    starts = range(0, max(0, count), _BAND)
    return sum((min(start + _BAND, count) - start) * (count - start) for start in starts)


def unfold(half: Array, count: int) -> Array:
    """Return the symmetric matrix, (count, count), of `fold`."""
    full = np.empty((count, count), np.float32)
    offset = 0
    for start in range(0, count, _BAND):
        end = min(start + _BAND, count)
        size = (end - start) * (count - start)
        band = half[offset : offset + size].reshape(end - start, count - start)
        full[start:end, start:] = band
        full[end:, start:end] = band[:, end - start :].T
        offset += size
    return full
