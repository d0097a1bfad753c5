"""A sweep: runs of the same pictures that differ in some of their settings, planned as data."""

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nstx.models.errors import UsageError
from nstx.models.objective import LayerWeight

from ..settings import INITS, Settings, choose_settings

MOST_RUNS = 64
DEFAULT_LAYERS = ("conv3_2", "conv4_2", "conv5_2")
"""The content layers that are compared where nothing else is: fine, usual and coarse content."""

SWEPT = ("content_layers", "init", "content_weight", "style_weight", "style_scale", "steps")
"""What can be swept, in the order of the runs. Content layers come first, because runs that have
them in common share a gradient backend and should follow one another."""

_LONGEST_NAME = 60  # characters, of up to four bytes each
_Value = str | float | int


@dataclass(frozen=True, slots=True)
class Axis:
    """A setting that takes several values.

    Attributes:
        name: one of `SWEPT`.
        values: as they are written, such as ``conv4_2`` or ``0.3``; two or more.
    """

    name: str
    values: tuple[str, ...]

    @property
    def title(self) -> str:
        """The setting as a person reads it: ``style weight``."""
        return self.name.replace("_", " ")


@dataclass(frozen=True, slots=True)
class SweepRun:
    """One run of a sweep.

    Attributes:
        name: of its files, without suffix: ``conv4_2``, ``content-weight-5_init-noise``.
        values: of each axis, as they are written.
        settings: of the run.
    """

    name: str
    values: tuple[str, ...]
    settings: Settings


@dataclass(frozen=True, slots=True)
class Sweep:
    """What is run, and how it is laid out.

    Attributes:
        axes: what differs among the runs; none if there is one run only.
        runs: every combination, the last axis changing fastest.

    Raises:
        UsageError: there are none, more than 64, or two that are the same.
    """

    axes: tuple[Axis, ...]
    runs: tuple[SweepRun, ...]

    def __post_init__(self) -> None:
        count = len(self.runs)
        if not 1 <= count <= MOST_RUNS:
            raise UsageError(f"expected 1 … {MOST_RUNS} runs, got {count}; try fewer values")
        seen: dict[Settings, str] = {}
        for run in self.runs:
            if run.settings in seen:
                raise UsageError(
                    f"expected runs that differ, got {seen[run.settings]} and {run.name}; "
                    "try each value once"
                )
            seen[run.settings] = run.name

    @property
    def grid(self) -> tuple[tuple[SweepRun, ...], ...] | None:
        """The runs in rows if there are two axes: the first goes down, the second across."""
        if len(self.axes) != 2:
            return None
        width = len(self.axes[1].values)
        return tuple(self.runs[place : place + width] for place in range(0, len(self.runs), width))

    def label(self, run: SweepRun) -> str:
        """Return what a person reads of a run: ``conv4_2``, ``content weight 5, init noise``."""
        return ", ".join(_label(axis, value) for axis, value in self._pairs(run)) or run.name

    def _pairs(self, run: SweepRun) -> Iterable[tuple[Axis, str]]:
        return zip(self.axes, run.values, strict=True)


def _label(axis: Axis, value: str) -> str:
    # A layer's name says what it is.
    return value if axis.name == "content_layers" else f"{axis.title} {value}"


def plan_sweep(
    preset: str, swept: Mapping[str, Sequence[_Value]], *, auto_scales: bool = False, **choices: Any
) -> Sweep:
    """Return the product of some settings' values.

    Args:
        preset: as of `nstx.engine.settings.choose_settings`.
        swept: one or more values by names of `SWEPT`; layers that one run uses together are joined
            by ``+``, as in ``conv3_2+conv4_2``. Where a name is missing or has no value, the
            preset's own is taken. If no name has two, the content layers are `DEFAULT_LAYERS`,
            unless they are given.
        auto_scales: as of `choose_settings`.
        choices: likewise, what all runs have in common.

    Raises:
        UsageError: a value cannot be, or there are too many runs or two that are the same.
    """
    given = {name: tuple(swept[name]) for name in SWEPT if swept.get(name)}
    if "content_layers" not in given and all(len(values) < 2 for values in given.values()):
        given = {"content_layers": DEFAULT_LAYERS, **given}
    if math.prod(map(len, given.values())) > MOST_RUNS:
        count = math.prod(map(len, given.values()))
        raise UsageError(f"expected at most {MOST_RUNS} runs, got {count}; try fewer values")
    texts = {name: _write_values(name, values) for name, values in given.items()}
    axes = tuple(Axis(name, text) for name, text in texts.items() if len(text) > 1)
    runs = []
    for places in itertools.product(*(range(len(values)) for values in given.values())):
        chosen = {name: given[name][place] for name, place in zip(given, places, strict=True)}
        layers = chosen.get("content_layers")
        if layers is not None:
            chosen["content_layers"] = str(layers).replace("+", ",")
        settings = choose_settings(preset, auto_scales=auto_scales, **{**choices, **chosen})
        by_name = dict(zip(given, places, strict=True))
        values = tuple(axis.values[by_name[axis.name]] for axis in axes)
        runs.append(SweepRun(_file_name(axes, values, settings), values, settings))
    return Sweep(axes, tuple(_tell_apart(runs)))


def _write_values(name: str, values: Sequence[_Value]) -> tuple[str, ...]:
    """Write values as a person reads them; pictures by their files' names, if these differ."""
    if name == "init":
        paths = [str(value) for value in values]
        short = [path if path in INITS else Path(path).name for path in paths]
        return tuple(short if len(set(short)) == len(set(paths)) else paths)
    return tuple(value if isinstance(value, str) else f"{value:.10g}" for value in values)


def _file_name(axes: Sequence[Axis], values: Sequence[str], settings: Settings) -> str:
    parts = []
    for axis, value in zip(axes, values, strict=True):
        if axis.name == "content_layers":
            parts.append(value)
        else:
            bare = Path(value).stem if axis.name == "init" else value
            parts.append(f"{axis.name.replace('_', '-')}-{bare}")
    if not parts:
        parts = ["+".join(settings.objective.content_names) or "result"]
    # What some file system or shell takes for something else becomes a hyphen.
    return re.sub(r"[^\w.+-]+", "-", "_".join(parts))[:_LONGEST_NAME].strip(".-")


def _tell_apart(runs: Iterable[SweepRun]) -> Iterable[SweepRun]:
    """Number the names that have become the same by being written for a file system."""
    seen: set[str] = set()
    for run in runs:
        name, number = run.name, 1
        while name.lower() in seen:
            number += 1
            name = f"{run.name}-{number}"
        seen.add(name.lower())
        yield replace(run, name=name)


def all_content_layers(runs: Sequence[SweepRun]) -> tuple[LayerWeight, ...]:
    """Return every content layer that some run uses, each once, for targets computed together."""
    names = {name for run in runs for name in run.settings.objective.content_names}
    return tuple(LayerWeight(name, 1.0) for name in sorted(names))
