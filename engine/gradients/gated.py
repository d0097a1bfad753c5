"""The cost of pictures that may change in a part alone: outside it they are the photograph, and the gradient is 0."""

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from nstx.models.cost import Cost

from ..devices.arrays import Array, Arrays, ArrayT
from ..pictures.picture import Pixels
from .backend import GradientBackend, PrecisionCheck

Gate = tuple[NDArray[np.float32], Pixels]
"""1 where a picture may change and else 0, float32 (height, width, 1), and what it is there, (height, width, 3)."""


def close(gate: Gate, pixels: Pixels) -> Pixels:
    """Return a picture with what it has to be where its gate is 0."""
    opens, content = gate
    return pixels * opens + content * (1 - opens)


def gated(
    backend: GradientBackend, gates: Sequence[Gate | None], arrays: Arrays
) -> GradientBackend:
    """Return a backend whose pictures may change within their gates alone; as it is where there are none."""
    return GatedBackend(backend, gates, arrays) if any(gates) else backend


class GatedBackend(GradientBackend):
    """A backend whose pictures are closed before they are evaluated, as their gradients are afterwards.

    Args:
        backend: of a batch.
        gates: of each picture; None of one that may change everywhere.
        arrays: that pictures are kept as.
    """

    def __init__(
        self, backend: GradientBackend, gates: Sequence[Gate | None], arrays: Arrays
    ) -> None:
        self._backend = backend
        self.approximate = backend.approximate
        opens, contents = zip(*filter(None, gates), strict=True)
        one, nothing = np.ones_like(opens[0]), np.zeros_like(contents[0])
        pairs = [(one, nothing) if gate is None else gate for gate in gates]
        self._opens = arrays.place(np.stack([gate for gate, _ in pairs]))
        self._fixed = arrays.place(np.stack([content * (1 - gate) for gate, content in pairs]))

    @property
    def checks(self) -> Sequence[PrecisionCheck]:  # type: ignore[override]
        """Those of the backend."""
        return self._backend.checks

    def costs_and_gradients(self, pixels: ArrayT) -> tuple[Sequence[Cost], ArrayT]:
        """Implement `GradientBackend`."""
        costs, gradients = self._backend.costs_and_gradients(self._close(pixels))
        return costs, gradients * cast(ArrayT, self._opens)

    def costs(self, pixels: Array) -> Sequence[Cost]:
        """Implement `GradientBackend`."""
        return self._backend.costs(self._close(pixels))

    def _close(self, pixels: ArrayT) -> ArrayT:
        opens, fixed = cast(ArrayT, self._opens), cast(ArrayT, self._fixed)
        return pixels * opens + fixed
