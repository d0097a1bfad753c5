"""Activations of a picture that is too large to hold them: on disk, tile by tile."""

import math
import tempfile
import weakref
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nstx.models.errors import OutputError

from .layout import TileLayout

Array = NDArray[np.float32]

_IN_MEMORY = 64 << 20
"""Bytes that are kept in memory before a file is made."""


class KeptActivation:
    """A layer's activation, float32 (channels, h, w), of which one tile at a time is in memory.

    Args:
        layout: of the tiles, whose inner positions are kept.
        layer: its name.
        folder: where the file is made, which has no name and goes with the process; None takes the system's.

    Attributes:
        mean_square: of all values that were written.
    """

    def __init__(self, layout: TileLayout, layer: str, folder: Path | None = None) -> None:
        self.layout, self.layer = layout, layer
        place = None if folder is None else str(folder)
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, dir=place)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._places: list[tuple[int, tuple[int, ...]]] = []
        self._squares, self._count = 0.0, 0

    @property
    def mean_square(self) -> float:
        """Of all values."""
        return self._squares / max(1, self._count)

    @property
    def channels(self) -> int:
        """How many the layer has."""
        return self._places[0][1][0]

    def add(self, values: Array) -> None:
        """Keep the inner positions of the next tile; `OutputError` where the disk is full."""
        values = np.ascontiguousarray(values, np.float32)
        try:
            self._places.append((self._file.seek(0, 2), values.shape))
            self._file.write(values.data)
        except OSError as error:
            raise OutputError(
                f"expected room for the features of {self.layout.width}×{self.layout.height} pixels, got: "
                f"{error.strerror or error}; try a smaller --size, or another NSTX_CACHE_DIR"
            ) from error
        self._squares += sum_squares(values)
        self._count += values.size

    def read(self, index: int) -> Array:
        """Return the inner positions of a tile."""
        place, shape = self._places[index]
        self._file.seek(place)
        data = self._file.read(4 * math.prod(shape))
        return np.frombuffer(data, np.float32).reshape(shape)


def sum_squares(values: NDArray[np.floating]) -> float:
    """Return the sum of squares in float64, of (channels, …)."""
    rows = values.reshape(len(values), -1)
    return sum(float(np.sum(np.square(row, dtype=np.float64))) for row in rows)
