"""What the arrays of a checkpoint may be: all names, types, shapes and ranges are checked here.

A checkpoint may come from anybody. What solvers and backends take over has passed here, and is as they export it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstx.models.objective import Objective

from ..settings import PAIRS
from ..solvers.pairs import MULTIPLIED, PRODUCTS
from ..targets.sealed_arrays import Shapes
from ..targets.targets import Targets
from .reached import Reached, is_whole, reached_shapes, read_reached, shape_fits

Loaded = Mapping[str, NDArray[Any]]

REACHED, SOLVER, BACKEND = "reached/", "solver/", "backend/"
PICTURE = "picture"
"""The picture of the last step, where it is not the solver's."""

_PICTURE, _NUMBER = "float32", "float64"

# Numbers that are PyTorch's, of float32, where pictures are.
_EITHER = {f"{SOLVER}curvature/{index}" for index in range(PAIRS)} | {f"{SOLVER}factor"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a run before its checkpoint is read.

    Attributes:
        objective: of the run.
        steps: at most.
        targets: of each scale, whose sizes they have.
        solver: ``lbfgs`` or ``adam``.
        on_device: whether L-BFGS is `nstx.engine.solvers.torch_descent`, or Adam ahead of its host.
        backend: what there is of its state: ``none``, ``seed`` (of PyTorch), or ``checked``.
        stages: precisions of a run that is checked.
    """

    objective: Objective
    steps: int
    targets: Sequence[Targets]
    solver: str
    on_device: bool
    backend: str
    stages: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a checkpoint holds.

    Attributes:
        reached: how far the run is.
        solver: state of it.
        backend: state of it.
        picture: of the last step, float32 (height, width, 3).
    """

    reached: Reached
    solver: Loaded
    backend: Loaded
    picture: NDArray[np.float32]


def check_shapes(shapes: Shapes, facts: Facts) -> None:
    """Check the types and shapes of arrays before they are read, as they say how much memory that takes.

    `ValueError` if one of them, or what is there of them, cannot be.
    """
    if "solver/pixels" not in shapes:
        raise ValueError("there is no picture in it")
    kind, size = shapes["solver/pixels"]
    sizes = {(t.height, t.width, 3): t for t in facts.targets}
    if kind != _PICTURE or size not in sizes:
        raise ValueError("its picture has the size of no scale")
    known = _solver_shapes(facts, size[0], size[1]) | {PICTURE: (_PICTURE, size)}
    known |= _backend_shapes(facts, sizes[size])
    reached = {
        REACHED + name: most for name, most in reached_shapes(facts.objective, facts.steps).items()
    }
    for name, shape in shapes.items():
        if name.startswith(REACHED):
            fits = shape[0] == _NUMBER and name in reached and shape_fits(shape[1], reached[name])
        else:
            fits = known.get(name) == shape or (name in _EITHER and shape == (_PICTURE, ()))
        if not fits:
            raise ValueError(f"{name} has no place in it, or another form")
    missing = {name for name in known if _is_needed(name, facts)} - shapes.keys()
    missing |= reached.keys() - shapes.keys()
    for index in range(PAIRS):
        names = [f"{SOLVER}{part}/{index}" for part in ("step", "change", "curvature")]
        earlier = f"{SOLVER}step/{index - 1}"
        present = [name in shapes for name in names]
        if any(present) and not (all(present) and (index == 0 or earlier in shapes)):
            missing.update(names)
    if missing:
        raise ValueError(f"it lacks {', '.join(sorted(missing))[:100]}")


def _is_needed(name: str, facts: Facts) -> bool:
    if name == PICTURE:
        return facts.solver == "adam" and facts.on_device
    if name.startswith(BACKEND):
        return name == "backend/checking" or (facts.backend == "seed")
    return name.count("/") == 1


def _solver_shapes(facts: Facts, height: int, width: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    picture, number = (_PICTURE, (height, width, 3)), (_NUMBER, ())
    shapes = {"pixels": picture, "made": number, "scale": number}
    if facts.solver == "adam":
        shapes |= dict.fromkeys(("mean", "square"), picture)
        shapes |= {"scale": (_PICTURE, ())} if facts.on_device else {"gradient": picture}
    elif facts.on_device:
        planes = (_PICTURE, (3, height, width))
        square = (_NUMBER, (PAIRS, PAIRS))
        shapes |= {
            "total": number, "slot": number, "rows": (_PICTURE, (MULTIPLIED, 3, height, width)),
            "free": planes, "downhill": planes, "pairs": (_NUMBER, (3,)), "inverse": square,
            "smoothed": square, "diagonal": (_NUMBER, (PAIRS,)), "products": (_NUMBER, (PRODUCTS,)),
        }  # fmt: skip
    else:
        shapes |= {"total": number, "gradient": picture, "factor": number}
        for index in range(PAIRS):
            shapes |= {f"step/{index}": picture, f"change/{index}": picture}
            shapes |= {f"curvature/{index}": number}
    return {SOLVER + name: shape for name, shape in shapes.items()}


def _backend_shapes(facts: Facts, targets: Targets) -> dict[str, tuple[str, tuple[int, ...]]]:
    if facts.backend == "none":
        return {}
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {"seed": (_NUMBER, ())}
    if facts.backend == "checked":
        shapes["checking"] = _NUMBER, (6,)
        for kind in ("content", "style"):
            for layer, target in getattr(targets, kind).items():
                # Of several regions a style's target has as many rows as a batch would.
                stacked = kind == "style" and len(targets.areas) > 1
                shape = target.shape if stacked else (1, *target.shape)
                shapes[f"aim/{kind}/{layer}"] = _PICTURE, shape
    return {BACKEND + name: shape for name, shape in shapes.items()}


def read_contents(arrays: Loaded, facts: Facts) -> Contents:
    """Return what arrays hold whose shapes were checked; `ValueError` if a value in them cannot be."""
    parts: dict[str, dict[str, NDArray[Any]]] = {REACHED: {}, SOLVER: {}, BACKEND: {}}
    for name, array in arrays.items():
        for prefix, part in parts.items():
            if name.startswith(prefix):
                part[name.removeprefix(prefix)] = array
        # Errors of checks may be infinite, and the best cost before there is one.
        if (
            not name.startswith(REACHED)
            and name != "backend/checking"
            and not np.isfinite(array).all()
        ):
            raise ValueError(f"{name} is not finite")
    scales = len(facts.targets)
    reached = read_reached(parts[REACHED], facts.objective, scales=scales, steps=facts.steps)
    solver, at = parts[SOLVER], facts.targets[reached.scale - 1]
    if solver["pixels"].shape[:2] != (at.height, at.width):
        raise ValueError("its picture is not of its scale")
    _check_numbers(solver, parts[BACKEND], facts)
    picture = arrays.get(PICTURE, solver["pixels"])
    return Contents(reached=reached, solver=solver, backend=parts[BACKEND], picture=picture)


def _check_numbers(solver: Loaded, backend: Loaded, facts: Facts) -> None:
    """Check the numbers that say how much there is of something; the others may be any."""
    whole = {"made": (solver["made"], 0, facts.steps + 1)}
    if "pairs" in solver:
        count, following, _ = solver["pairs"]
        whole |= {"count": (count, 0, PAIRS), "next": (following, 0, PAIRS - 1)}
        whole |= {"slot": (solver["slot"], -1, PAIRS - 1)}
    if "checking" in backend:
        stage, *counts, best = backend["checking"]
        whole |= {"stage": (stage, 0, facts.stages - 1)} | {
            f"count {k}": (n, 0, 2**53) for k, n in enumerate(counts)
        }
        if np.isnan(best):
            raise ValueError("its best cost is none")
    for name, (value, low, high) in whole.items():
        if not is_whole(float(value), low, high):
            raise ValueError(f"its {name} is no whole number of {low} … {high}")
