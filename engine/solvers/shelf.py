"""Where L-BFGS keeps its pairs: in memory, or on disk, of which one array at a time is in memory."""

import sys
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nstx.models.errors import OutputError

from ..devices.arrays import Array, Arrays


class Kept(NamedTuple):
    """An array that is kept.

    Attributes:
        load: returns it, to compute with.
        share: returns it for as long as a state may be held; what it returns may lie in a file.
    """

    load: Callable[[], Array]
    share: Callable[[], Array]


Shelf = Callable[[Array], Kept]
"""Keeps arrays, which nothing changes later."""


def in_memory(array: Array) -> Kept:
    """Keep an array as it is."""
    return Kept(lambda: array, lambda: array)


class DiskShelf:
    """Keeps arrays of the host in files of a folder, which have no names and go with the arrays.

    Args:
        arrays: of the solver.
        folder: where they are made; None takes the system's.
    """

    def __init__(self, arrays: Arrays, folder: Path | None = None) -> None:
        self._arrays, self._folder = arrays, folder

    def __call__(self, array: Array) -> Kept:
        """Keep an array; `OutputError` where the disk is full."""
        values, shape = np.ascontiguousarray(self._arrays.fetch(array)), array.shape
        place = None if self._folder is None else str(self._folder)
        try:
            file = tempfile.TemporaryFile(dir=place, buffering=0)  # noqa: SIM115  (it goes with what is kept)
            view = values.data.cast("B")
            while view:
                view = view[file.write(view) :]
        except OSError as error:
            raise OutputError(
                f"expected room for a step of {shape[1]}×{shape[0]} pixels, got: {error.strerror or error}; "
                "try another NSTX_CACHE_DIR, or a smaller --size"
            ) from error

        def load() -> Array:
            file.seek(0)
            values = np.empty(shape, np.float32)
            view = values.data.cast("B")
            while view and (count := file.readinto(view)):
                view = view[count:]
            return self._arrays.place(values)

        def share() -> Array:
            if sys.platform == "win32":  # where a file that is mapped cannot go
                return load()
            mapped: NDArray[np.float32] = np.memmap(file, np.float32, "r", shape=shape)
            return mapped

        weakref.finalize(load, file.close)
        return Kept(load, share)
