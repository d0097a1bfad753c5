"""What may be chosen differently from a preset, and the settings that come of it."""

import os
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, TypedDict, Unpack

from nstx.models.arguments import check_type
from nstx.models.errors import UsageError, about
from nstx.models.layers import LayerWeighting, check_statistic, parse_layers
from nstx.models.presets import PRESETS, Preset, SolverName, find_preset
from nstx.models.printable import printable
from nstx.models.statistics import Statistic
from nstx.models.values import suggest
from nstx.models.vgg19 import Pooling

from .settings import (
    CHECKS,
    INITS,
    Auto,
    BackendName,
    Colors,
    ExtractorName,
    History,
    Init,
    Precision,
    PresetName,
    Settings,
)

_OBJECTIVE_CHOICES = (
    "content_layers", "style_layers", "content_weight", "style_weight", "tv_weight",
    "laplacian_weight", "pooling",
)  # fmt: skip


_SIZES = ("size", "width", "height")


class ChoicesButInit(TypedDict, total=False):
    """What may be chosen differently from a preset besides the start."""

    content_layers: str | Sequence[str] | None
    style_layers: str | Sequence[str] | None
    style_statistic: Statistic | None
    content_weight: float | None
    style_weight: float | None
    tv_weight: float | None
    laplacian_weight: float | None
    pooling: Pooling | None
    solver: SolverName | None
    learning_rate: float | None
    steps: int | None
    scales: int | None
    clip: bool | None
    early_stop: bool | None
    stretch: bool | None
    clean: bool | None
    colors: Colors | None
    size: int | None
    width: int | None
    height: int | None
    tile: int | None
    history: History | Auto | None
    max_memory: int | str | None
    style_scale: float | None
    seed: int | None
    device: str | None
    precision: Precision | Auto | None
    backend: BackendName | Auto | None
    extractor: ExtractorName | Auto | None
    threads: int | None
    weights: str | os.PathLike[str] | None
    use_cache: bool | None
    large: bool | None


class Choices(ChoicesButInit, total=False):
    """What may be chosen differently from a preset; None stands for the preset's value."""

    init: Init | str | os.PathLike[str] | None


def choose_settings(
    preset: PresetName | Preset | Settings | str = "default",
    *,
    auto_scales: bool = False,
    **choices: Unpack[Choices],
) -> Settings:
    """Return the settings of a preset, or other settings, with some of them chosen differently.

    Args:
        preset: ``default``, ``bold``, ``fine``, ``coursera``, ``coursera-tf2`` or ``gatys``, one of your own, or
            settings, of which all stays that is not chosen; a size replaces theirs in every form.
        auto_scales: choose the number of scales by the size, whatever the preset says.
        choices: any attribute of `Settings` but ``objective``, and of the objective:
            ``content_layers`` and ``style_layers`` (as ``name`` or ``name:weight``, separated by
            commas; the preset weighs style layers without a weight), ``content_weight``,
            ``style_weight``, ``tv_weight``, ``laplacian_weight``, ``pooling``; and ``style_statistic``, what of style layers is
            compared (`nstx.models.statistics`), for all but those that have their own behind their
            weight, as in ``conv1_1:1:wasserstein``. None stands for the preset's value.

    Raises:
        UsageError: the preset or a choice is not known, or out of its range.
    """
    check_type("auto scales", auto_scales, bool, "auto_scales=True")
    known = sorted(Choices.__annotations__)
    if unknown := sorted(choices.keys() - known):
        raise UsageError(
            f"expected settings among {', '.join(known)}, got {printable(', '.join(unknown))}; "
            f"try {suggest(unknown[0], known, 'size')}"
        )
    chosen: dict[str, Any] = {
        name: CHECKS[name](name, value) if name in CHECKS else value
        for name, value in choices.items()
        if value is not None
    }
    base = preset if isinstance(preset, Preset | Settings) else find_preset(preset)
    weighting = {"content_layers": "equal", "style_layers": _weighting_of(base)}
    statistic = _take_statistic(chosen)
    for kind in [kind for kind in weighting if kind in chosen]:
        with about(kind):
            of_kind = statistic if kind == "style_layers" and statistic else "gram"
            chosen[kind] = parse_layers(chosen[kind], weighting[kind], of_kind)
    if statistic and "style_layers" not in chosen:
        layers = base.objective.style_layers
        chosen["style_layers"] = tuple(replace(item, statistic=statistic) for item in layers)
    of_objective = {name: chosen.pop(name) for name in _OBJECTIVE_CHOICES if name in chosen}
    is_exact = "width" in chosen or "height" in chosen
    if is_exact or "size" in chosen:
        # Who names a size knows how much of a large picture is wanted.
        chosen = {**dict.fromkeys(_SIZES), "large": True, **chosen}
    if not is_exact and "init" in chosen and chosen["init"] not in INITS:
        # A start of one's own is a finished picture: a coarse scale would throw its detail away.
        chosen.setdefault("scales", 1)
    if chosen.get("solver") == "lbfgs":
        # Only the assignment's Adam goes without bounds: L-BFGS goes so far beyond them that a
        # picture costs up to three times more once it is cut to 0–255.
        chosen.setdefault("clip", True)
    if auto_scales:
        chosen["scales"] = None
    if chosen.get("colors", base.colors) == "only":
        chosen.setdefault("scales", 1)  # there is nothing that goes from one to the next
    names = [field.name for field in fields(Settings)]
    defaults = {name: getattr(base, name) for name in names if hasattr(base, name)}
    objective = replace(defaults.pop("objective"), **of_objective)
    name = base.name if isinstance(base, Preset) else defaults.pop("preset")
    return Settings(preset=name, objective=objective, **{**defaults, **chosen})


def _weighting_of(base: Preset | Settings) -> LayerWeighting:
    """Return how style layers without a weight are weighted; of settings, by the preset that they started from."""
    if isinstance(base, Preset):
        return base.style_layer_weights
    return PRESETS[base.preset].style_layer_weights if base.preset in PRESETS else "equal"


def _take_statistic(chosen: dict[str, Any]) -> Statistic | None:
    with about("style_statistic"):
        name = chosen.pop("style_statistic", None)
        return None if name is None else check_statistic(name)
