"""How far a run is besides its solver and its backend: steps, costs, checks; as arrays, and read from them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from nstx.models.cost import Cost
from nstx.models.objective import Objective

from ..gradients.backend import PrecisionCheck
from ..settings import Precision

_PRECISIONS: tuple[str, ...] = get_args(Precision)
_CHECK = 9
"""Numbers of a check."""

MOST_BEST = 11
"""Costs that progress is told by: of a step, and of ten more."""

_MOST_CHECKS = 1000
"""Of a run of no steps; a step may add some."""

_PARTS = ("total", "content", "style", "total_variation")


class StepRecord(NamedTuple):
    """A step that was made: its scale, from 1; evaluations and seconds until then; and its cost."""

    scale: int
    evaluations: int
    seconds: float
    cost: Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """Where a run is after a step.

    Attributes:
        scale: that it is at, from 1.
        is_over: whether the step was the last of the scale, as there was no progress.
        evaluations: that were begun.
        seconds: that the run took.
        first_cost: of the first evaluation.
        steps: of all scales.
        best: the best costs that progress is told by, at most `MOST_BEST`.
        checks: of the precision.
    """

    scale: int
    is_over: bool
    evaluations: int
    seconds: float
    first_cost: Cost | None
    steps: Sequence[StepRecord]
    best: Sequence[float]
    checks: Sequence[PrecisionCheck]

    def to_arrays(self, objective: Objective) -> dict[str, NDArray[Any]]:
        """Return all of it as float64 arrays, by name; layers are those of the objective."""
        rows = [
            [step.scale, step.evaluations, step.seconds, *_cost_row(step.cost, objective)]
            for step in self.steps
        ]
        first = [] if self.first_cost is None else [_cost_row(self.first_cost, objective)]
        width = len(cost_columns(objective))
        return {
            "reached": np.array(
                [self.scale, self.is_over, self.evaluations, self.seconds], np.float64
            ),
            "first_cost": np.array(first, np.float64).reshape(-1, width),
            "steps": np.array(rows, np.float64).reshape(-1, 3 + width),
            "best": np.array(self.best, np.float64),
            "checks": np.array([*map(_check_row, self.checks)], np.float64).reshape(-1, _CHECK),
        }


def cost_columns(objective: Objective) -> list[tuple[str, str]]:
    """Return what the numbers of a cost are: parts, and layers of style and content."""
    layers = [("style", name) for name in objective.style_names]
    layers += [("content", name) for name in objective.content_names]
    parts = (*_PARTS, "laplacian") if objective.laplacian_weight > 0 else _PARTS
    return [*((part, "") for part in parts), *layers]


def reached_shapes(objective: Objective, steps: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the arrays of `Reached.to_arrays`, of a run of so many steps at most, with the most rows each."""
    width = len(cost_columns(objective))
    return {
        "reached": (4,),
        "first_cost": (1, width),
        "steps": (steps, 3 + width),
        "best": (MOST_BEST,),
        "checks": (_MOST_CHECKS + steps, _CHECK),
    }


def _cost_row(cost: Cost, objective: Objective) -> list[float]:
    """Return a cost's numbers; a layer without a cost has NaN."""
    layers = {"style": cost.style_layers, "content": cost.content_layers}
    return [
        layers[part].get(layer, math.nan) if layer else getattr(cost, part)
        for part, layer in cost_columns(objective)
    ]


def _check_row(check: PrecisionCheck) -> list[float]:
    precisions = map(_PRECISIONS.index, (check.precision, check.continues_in))
    return [
        check.height, check.width, check.evaluation, *precisions, check.error, check.bound, check.kept,
        check.seconds,
    ]  # fmt: skip


def read_reached(
    arrays: Mapping[str, NDArray[Any]], objective: Objective, *, scales: int, steps: int
) -> Reached:
    """Return what `Reached.to_arrays` made; `ValueError` if something in it cannot be.

    Args:
        arrays: by name, float64.
        objective: of the run.
        scales: of the run.
        steps: at most, of the run.
    """
    most = reached_shapes(objective, steps)
    for name, shape in most.items():
        array = arrays[name]
        if array.dtype != np.float64 or not shape_fits(array.shape, shape):
            raise ValueError(f"its {name} have another form, or are more than its run can have")
    if len(arrays["reached"]) != most["reached"][0]:
        raise ValueError("it does not say how far it is")
    scale, is_over, evaluations, seconds = arrays["reached"].tolist()
    # Row by row, as a number of Python's takes four times the memory.
    records = [_read_step(row.tolist(), objective, scales) for row in arrays["steps"]]
    first, best = arrays["first_cost"], arrays["best"]
    if not np.isfinite(best).all():
        raise ValueError("it has costs that are none")
    return Reached(
        scale=_whole(scale, 1, scales),
        is_over=bool(_whole(is_over, 0, 1)),
        evaluations=_whole(evaluations, 0, 2**53),
        seconds=_at_least_0(seconds),
        first_cost=_read_cost(first[0].tolist(), objective) if len(first) else None,
        steps=records,
        best=best.tolist(),
        checks=[_read_check(row.tolist()) for row in arrays["checks"]],
    )


def shape_fits(shape: tuple[int, ...], most: tuple[int, ...]) -> bool:
    """Whether an array has the form of `reached_shapes`, with as many rows at most."""
    return len(shape) == len(most) and shape[0] <= most[0] and shape[1:] == most[1:]


def _read_step(row: Sequence[float], objective: Objective, scales: int) -> StepRecord:
    scale, evaluations, seconds, *cost = row
    return StepRecord(
        _whole(scale, 1, scales),
        _whole(evaluations, 0, 2**53),
        _at_least_0(seconds),
        _read_cost(cost, objective),
    )


def _read_cost(row: Sequence[float], objective: Objective) -> Cost:
    layers: dict[str, dict[str, float]] = {"style": {}, "content": {}}
    parts: dict[str, float] = {}
    for (part, layer), value in zip(cost_columns(objective), row, strict=True):
        if layer and not math.isnan(value):
            layers[part][layer] = value
        elif not layer:
            parts[part] = value
    if not all(map(math.isfinite, parts.values())):
        raise ValueError("it has a cost that is not finite")
    return Cost(**parts, style_layers=layers["style"], content_layers=layers["content"])


def _read_check(row: Sequence[float]) -> PrecisionCheck:
    height, width, evaluation, precision, following, error, bound, kept, seconds = row
    if math.isnan(error):
        raise ValueError("it has a check without an error")
    last = len(_PRECISIONS) - 1
    return PrecisionCheck(
        height=_whole(height, 1, 2**16),
        width=_whole(width, 1, 2**16),
        evaluation=_whole(evaluation, 0, 2**53),
        precision=_PRECISIONS[_whole(precision, 0, last)],
        error=error,
        bound=_at_least_0(bound),
        kept=bool(_whole(kept, 0, 1)),
        continues_in=_PRECISIONS[_whole(following, 0, last)],
        seconds=_at_least_0(seconds),
    )


def is_whole(value: float, low: int, high: int) -> bool:
    """Whether a number is a whole one of a range."""
    return low <= value <= high and value == int(value)


def _whole(value: float, low: int, high: int) -> int:
    if not is_whole(value, low, high):
        raise ValueError(f"it has {value:g} where a whole number of {low} … {high} stands")
    return int(value)


def _at_least_0(value: float) -> float:
    if not 0 <= value < math.inf:
        raise ValueError(f"it has {value:g} where a number from 0 on stands")
    return value
