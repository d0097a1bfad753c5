"""What a solver goes on from: its state after a step, by name.

So that a run can be stopped and go on as if it had not been: a solver that begins with the state of another
after a step makes the same steps, to the last bit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..devices.arrays import Array, Arrays

State = Mapping[str, Array | NDArray[np.float64] | float]
"""Pictures, numbers and small matrices by name; nothing changes them later."""

Saved = Mapping[str, NDArray[Any]]
"""A `State` as `fetch_state` returns it: float32 pictures, and float64 numbers, of shape ()."""


@dataclass(slots=True, eq=False)
class SolverMemory:
    """Where a solver finds the state to go on from, and leaves the way to its own.

    Attributes:
        earlier: what a solver goes on from; None lets it begin.
        export: returns the state after the step that the solver is calling back with.
        is_due: whether the state is wanted now, of a solver that is ahead of what it has reported.
        keep: takes note of the state then.
        is_ahead: whether the solver is, so that `export` is for `keep` alone.
    """

    earlier: Saved | None = None
    export: Callable[[], State] = dict
    is_due: Callable[[], bool] = bool
    keep: Callable[[], None] = lambda: None
    is_ahead: bool = False


def fetch_state(state: State, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Return a state as NumPy's arrays, which may share its memory."""
    return {name: _fetch(value, arrays) for name, value in state.items()}


def _fetch(value: Array | NDArray[np.float64] | float, arrays: Arrays) -> NDArray[Any]:
    if isinstance(value, float | np.ndarray):
        return np.asarray(value)
    return arrays.fetch(value)


def place_value(value: NDArray[Any], arrays: Arrays) -> Array | float:
    """Return a value of `fetch_state` as it was: a number of the host's, or an array of its kind."""
    if value.dtype == np.float64:
        return float(value)
    # `Arrays.place` makes () to (1,).
    return arrays.place(value) if value.shape else arrays.place(value[None])[0]
