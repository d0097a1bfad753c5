"""Activations of a picture that is too large to hold them: on disk, tile by tile."""

import math
import tempfile
import weakref
from dataclasses import dataclass
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
        self._parts: list[_Part] = []
        self._squares, self._count = 0.0, 0

    @property
    def mean_square(self) -> float:
        """Of all values."""
        return self._squares / max(1, self._count)

    @property
    def channels(self) -> int:
        """How many the layer has."""
        return self._parts[0].shape[0]

    def add(self, values: Array) -> None:
        """Keep the inner positions of the next tile; `OutputError` where the disk is full."""
        values = np.ascontiguousarray(values, np.float32)
        try:
            place = self.layout.positions(self.layout.tile(len(self._parts)), self.layer)
            self._parts.append(_Part(self._file.seek(0, 2), values.shape, *place))
            self._file.write(values.data)
        except OSError as error:
            raise OutputError(
                f"expected room for the features of {self.layout.width}×{self.layout.height} pixels, got: "
                f"{error.strerror or error}; try a smaller --size, or another NSTX_CACHE_DIR"
            ) from error
        self._squares += sum_squares(values)
        self._count += values.size

    def read(self, rows: slice, columns: slice) -> Array:
        """Return some rows and columns of the layer, of a tile of this layout or of any other."""
        parts = [part for part in self._parts if part.has(rows, columns)]
        if len(parts) == 1 and (parts[0].rows, parts[0].columns) == (rows, columns):
            return self._load(parts[0])
        size = (self.channels, rows.stop - rows.start, columns.stop - columns.start)
        values = np.empty(size, np.float32)
        for part in parts:
            own = [_overlap(span, of) for span, of in ((part.rows, rows), (part.columns, columns))]
            to, at = ([_shift(span, origin.start) for span, origin in zip(own, spans, strict=True)]
                      for spans in ((rows, columns), (part.rows, part.columns)))  # fmt: skip
            values[:, *to] = self._load(part)[:, *at]
        return values

    def _load(self, part: "_Part") -> Array:
        self._file.seek(part.begin)
        data = self._file.read(4 * math.prod(part.shape))
        return np.frombuffer(data, np.float32).reshape(part.shape)


@dataclass(frozen=True, slots=True)
class _Part:
    """Where the inner positions of a tile lie in a file, and in their layer."""

    begin: int
    shape: tuple[int, ...]
    rows: slice
    columns: slice

    def has(self, rows: slice, columns: slice) -> bool:
        """Whether it has some of these rows and columns."""
        return all(
            span.start < of.stop and of.start < span.stop
            for span, of in ((self.rows, rows), (self.columns, columns))
        )


def _overlap(one: slice, other: slice) -> slice:
    return slice(max(one.start, other.start), min(one.stop, other.stop))


def _shift(span: slice, origin: int) -> slice:
    return slice(span.start - origin, span.stop - origin)


def sum_squares(values: NDArray[np.floating]) -> float:
    """Return the sum of squares in float64, of (channels, …)."""
    rows = values.reshape(len(values), -1)
    return sum(float(np.sum(np.square(row, dtype=np.float64))) for row in rows)
