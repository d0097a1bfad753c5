"""The plan of a comparison: runs of the same pictures that differ in some of their settings."""

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nstx.models.errors import UsageError, about
from nstx.models.printable import printable
from nstx.models.values import check_number

from ..choices import choose_settings
from ..settings import INITS, Settings

MOST_RUNS = 64
DEFAULT_LAYERS = ("conv3_2", "conv4_2", "conv5_2")
"""The content layers that are compared by default: fine, usual and coarse content."""

COMPARABLE = (
    "content_layers", "style_statistic", "laplacian_weight", "init", "content_weight", "style_weight",
    "style_scale", "steps", "colors", "blend",
)  # fmt: skip
"""What may take several values, in the order of the axes: settings, and the second of two styles' share in their blend.

What a gradient backend depends on comes first: runs that share it can share a backend if they follow one another.
"""

_LONGEST_NAME = 60  # characters, of up to four bytes each
_MOST_COLUMNS = 4  # where the runs simply follow one another, up to 16 of them
_Value = str | float | int


@dataclass(frozen=True, slots=True)
class Axis:
    """What takes two or more values, written as ``conv4_2`` or ``0.3``."""

    name: str
    values: tuple[str, ...]

    @property
    def title(self) -> str:
        """The setting in words: ``style weight``."""
        return self.name.replace("_", " ")

    @property
    def option(self) -> str:
        """The setting as an option of the command line: ``style-weight``."""
        return self.name.replace("_", "-")

    @property
    def labels(self) -> list[str]:
        """Each value with the setting's title."""
        return [printable(f"{self.title} {value}") for value in self.values]


@dataclass(frozen=True, slots=True)
class ComparisonRun:
    """One run of a comparison, with a value of each axis.

    Attributes:
        name: of its files, without suffix: ``conv4_2``, ``content-weight-5_init-noise``.
        label: for people: ``conv4_2``, ``content weight 5, init noise``.
        blend: the second style's share, 0–1; None where all have their weights.
    """

    name: str
    label: str
    values: tuple[str, ...]
    settings: Settings
    blend: float | None = None

    def weigh(self, weights: Sequence[float]) -> tuple[float, ...]:
        """Return the styles' weights in this run, which may be 0, from those of the comparison."""
        return tuple(weights) if self.blend is None else (1 - self.blend, self.blend)


@dataclass(frozen=True, slots=True)
class ComparisonPlan:
    """Runs, every combination of the axes' values, the last axis changing fastest.

    `UsageError` unless there are 1 … 64 different ones. One run has no axes.
    """

    axes: tuple[Axis, ...]
    runs: tuple[ComparisonRun, ...]

    def __post_init__(self) -> None:
        _check_count(len(self.runs))
        names: dict[tuple[Settings, float | None], str] = {}
        for run in self.runs:
            key = run.settings, run.blend
            if key in names:
                raise UsageError(
                    f"expected runs that differ, got {names[key]} and {run.label}; "
                    "try each value once"
                )
            names[key] = run.label

    @property
    def is_table(self) -> bool:
        """Whether the runs form a table: two axes, the first down, the second across."""
        return len(self.axes) == 2

    @property
    def columns(self) -> int:
        """How many runs stand side by side."""
        if self.is_table:
            return len(self.axes[1].values)
        count = len(self.runs)
        return min(count, max(_MOST_COLUMNS, math.isqrt(count)))


def plan_comparison(
    preset: str,
    compared: Mapping[str, Sequence[_Value]],
    *,
    auto_scales: bool = False,
    **choices: Any,
) -> ComparisonPlan:
    """Plan a run for every combination of some settings' values.

    Args:
        preset: as in `nstx.engine.choices.choose_settings`, like the options after it.
        compared: values by names of `COMPARABLE`. Layers that one run uses together are joined by
            ``+``, as in ``conv3_2+conv4_2``. A name without values takes the preset's. If no name
            has two values and there are no content layers, these are `DEFAULT_LAYERS`.
        auto_scales: for all runs.
        choices: what all runs have in common.

    Raises:
        UsageError: a value is invalid, there are more than 64 runs, or two are the same.
    """
    options = {name: tuple(compared[name]) for name in COMPARABLE if compared.get(name)}
    if "content_layers" not in options and all(len(values) < 2 for values in options.values()):
        options = {"content_layers": DEFAULT_LAYERS, **options}
    _check_count(math.prod(map(len, options.values())))
    texts = {name: _write_values(name, values) for name, values in options.items()}
    axes = tuple(Axis(name, values) for name, values in texts.items() if len(values) > 1)
    if "content_layers" in options:
        layers = options["content_layers"]
        options["content_layers"] = tuple(str(value).replace("+", ",") for value in layers)
    combinations = itertools.product(*options.values())
    written = itertools.product(*(axis.values for axis in axes))
    runs = []
    # Settings with a single value have no axis, and do not change the order of the combinations.
    for combination, values in zip(combinations, written, strict=True):
        chosen = choices | dict(zip(options, combination, strict=True))
        blend = _take_blend(chosen.pop("blend", None))
        settings = choose_settings(preset, auto_scales=auto_scales, **chosen)
        runs.append(replace(_name_run(axes, values, settings), blend=blend))
    return ComparisonPlan(axes, tuple(_number_repeated(runs)))


def _take_blend(value: object) -> float | None:
    if value is None:
        return None
    with about("blend"):
        blend = check_number("share of the second style in a blend", value)
        if not 0 <= blend <= 1:
            raise UsageError(
                f"expected shares of 0 … 1 of the second style in a blend, got {blend:g}; try 0,0.5,1"
            )
        return blend


def _check_count(count: int) -> None:
    if not 1 <= count <= MOST_RUNS:
        raise UsageError(f"expected 1 … {MOST_RUNS} runs, got {count}; try fewer values")


def _write_values(name: str, values: Sequence[_Value]) -> tuple[str, ...]:
    """Write values for people; pictures by their files' names, if these differ."""
    if name == "init":
        paths = [str(value) for value in values]
        short = [path if path in INITS else Path(path).name for path in paths]
        return tuple(short if len(set(short)) == len(set(paths)) else paths)
    return tuple(value if isinstance(value, str) else f"{value:.10g}" for value in values)


def _name_run(axes: Sequence[Axis], values: tuple[str, ...], settings: Settings) -> ComparisonRun:
    names, labels = [], []
    for axis, value in zip(axes, values, strict=True):
        # The name of a layer already says which setting it is a value of.
        if axis.name == "content_layers":
            names.append(value)
            labels.append(value)
        else:
            names.append(f"{axis.option}-{Path(value).stem if axis.name == 'init' else value}")
            labels.append(printable(f"{axis.title} {value}"))
    name = "_".join(names) or "+".join(settings.objective.content_names) or "result"
    # Characters that mean something to a file system or shell become hyphens.
    name = re.sub(r"[^\w.+-]+", "-", name)[:_LONGEST_NAME].strip(".-")
    return ComparisonRun(name, ", ".join(labels) or name, values, settings)


def _number_repeated(runs: Iterable[ComparisonRun]) -> Iterator[ComparisonRun]:
    """Number names that became equal when they were written for a file system."""
    names: set[str] = set()
    for run in runs:
        name, number = run.name, 1
        while name.lower() in names:
            number += 1
            name = f"{run.name}-{number}"
        names.add(name.lower())
        yield replace(run, name=name)
