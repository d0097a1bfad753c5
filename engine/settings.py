"""The settings of a run: a preset with what was chosen differently, validated once."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict, Unpack, get_args

from nstx.models.errors import UsageError
from nstx.models.objective import Objective, parse_layers
from nstx.models.presets import Preset, SolverName, find_preset
from nstx.models.vgg19 import Pooling

PresetName = Literal["default", "coursera", "gatys"]

Init = Literal["content", "matched", "noise", "blend"]
INITS: tuple[Init, ...] = get_args(Init)
"""Starts that are made; anything else is the path of a picture."""

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
BackendName = Literal["torch", "onnx"]
ExtractorName = Literal["onnx", "tensorrt", "torch"]
"""``tensorrt`` is ONNX Runtime with its TensorRT provider."""

Auto = Literal["auto"]
CHOICES: dict[str, tuple[str, ...]] = {
    "solver": get_args(SolverName),
    "backend": ("auto", *get_args(BackendName)),
    "extractor": ("auto", *get_args(ExtractorName)),
    "precision": ("auto", *get_args(Precision)),
}
"""The names that attributes of `Settings` may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything about a run but its pictures.

    Attributes:
        preset: name of the preset that the rest started from.
        objective: what is minimised.
        solver: ``adam`` or ``lbfgs``.
        learning_rate: of Adam, in pixel values, above 0.
        steps: solver iterations over all scales, 1 or more.
        init: ``content``, ``matched`` (the content in the colours of the styles), ``noise``,
            ``blend``, or the path of a picture.
        scales: of the coarse-to-fine pyramid, 1 or more; None chooses by the size.
        clip: whether pixels are kept within 0–255 while they are optimised.
        early_stop: whether a scale ends when its cost has fallen by less than 0.1 % in ten steps.
        size: long side in pixels; None if ``width`` or ``height`` is given.
        width: in pixels.
        height: in pixels.
        style_scale: long side of the style pictures, as a multiple of the result's.
        seed: of the noise in the start.
        device: ``auto``, ``cpu``, ``cuda[:N]`` or ``mps``.
        precision: ``auto``, ``fp32``, ``tf32``, ``bf16`` or ``fp16``.
        backend: what computes the gradient: ``auto``, ``torch`` or ``onnx``.
        extractor: what computes the targets: ``auto``, ``onnx``, ``tensorrt`` or ``torch``.
        threads: of the CPU; None leaves it to the library.
        weights: ``embedded`` or a file.
        use_cache: whether the cache folder is read and written.

    Raises:
        UsageError: a value is out of its range.
    """

    preset: str
    objective: Objective
    solver: SolverName
    learning_rate: float
    steps: int
    init: str
    scales: int | None
    clip: bool
    early_stop: bool
    size: int | None
    width: int | None = None
    height: int | None = None
    style_scale: float = 1.0
    seed: int = 0
    device: str = "auto"
    precision: Precision | Auto = "auto"
    backend: BackendName | Auto = "auto"
    extractor: ExtractorName | Auto = "auto"
    threads: int | None = None
    weights: str = "embedded"
    use_cache: bool = True

    def __post_init__(self) -> None:
        for name in CHOICES:
            check_choice(name, getattr(self, name))
        _check_positive("learning rate", self.learning_rate, 2)
        _check_positive("style scale", self.style_scale, 1)
        check_threads(self.threads)
        for name, most in (("steps", 1_000_000), ("scales", 16)):
            value = getattr(self, name)
            if value is not None:
                _check_count(name, value, most)
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"expected a seed of 0 … 2⁶³−1, got {self.seed}; try --seed 0")


def check_choice(what: str, name: str) -> None:
    """Check the name of a ``solver``, ``backend``, ``extractor`` or ``precision``.

    Raises:
        UsageError: there is none of this name.
    """
    names = CHOICES[what]
    if name not in names:
        article = "an" if what[0] in "aeiou" else "a"
        suggestion = "auto" if "auto" in names else names[-1]
        raise UsageError(
            f"expected {article} {what} of {', '.join(names)}, got {name!r}; try {suggestion}"
        )


def check_threads(threads: int | None) -> None:
    """Check a number of threads; None leaves it to the library.

    Raises:
        UsageError: it is out of its range.
    """
    if threads is not None:
        _check_count("threads", threads, 1024)


_OBJECTIVE_CHOICES = (
    "content_layers", "style_layers", "content_weight", "style_weight", "tv_weight", "pooling",
)  # fmt: skip
_PRESET_CHOICES = (
    "solver", "learning_rate", "steps", "init", "scales", "clip", "early_stop", "size",
)  # fmt: skip


def _check_count(name: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise UsageError(f"expected 1 … {most} {name}, got {value}; try --{name} 1")


def _check_positive(what: str, value: float, suggestion: int) -> None:
    if not math.isfinite(value) or value <= 0:
        option = what.replace(" ", "-")
        raise UsageError(f"expected a {what} above 0, got {value}; try --{option} {suggestion}")


class Choices(TypedDict, total=False):
    """What `choose_settings` may choose differently from a preset; None stands for the preset's own."""

    content_layers: str | None
    style_layers: str | None
    content_weight: float | None
    style_weight: float | None
    tv_weight: float | None
    pooling: Pooling | None
    solver: SolverName | None
    learning_rate: float | None
    steps: int | None
    init: Init | str | None
    scales: int | None
    clip: bool | None
    early_stop: bool | None
    size: int | None
    width: int | None
    height: int | None
    style_scale: float | None
    seed: int | None
    device: str | None
    precision: Precision | Auto | None
    backend: BackendName | Auto | None
    extractor: ExtractorName | Auto | None
    threads: int | None
    weights: str | None
    use_cache: bool | None


def choose_settings(
    preset: PresetName | Preset | str = "default",
    *,
    auto_scales: bool = False,
    **choices: Unpack[Choices],
) -> Settings:
    """Return the settings of a preset with some of them chosen differently.

    Args:
        preset: ``default``, ``coursera`` or ``gatys``, or one of your own.
        auto_scales: choose the number of scales by the size, whatever the preset says.
        choices: any attribute of `Settings` but ``objective``, and of the objective:
            ``content_layers`` and ``style_layers`` (as ``name`` or ``name:weight``, separated by
            commas), ``content_weight``, ``style_weight``, ``tv_weight``, ``pooling``. None stands
            for the preset's own.

    Raises:
        UsageError: the preset or a choice is not known, or out of its range.
    """
    chosen: dict[str, Any] = {k: value for k, value in choices.items() if value is not None}
    base = preset if isinstance(preset, Preset) else find_preset(preset)
    of_objective = {name: chosen.pop(name) for name in _OBJECTIVE_CHOICES if name in chosen}
    objective = choose_objective(base, **of_objective)
    if "width" in chosen or "height" in chosen:
        chosen.setdefault("size", None)
    elif "init" in chosen and chosen["init"] not in INITS:
        # A start of one's own is a finished picture: a coarse scale would throw its detail away.
        chosen.setdefault("scales", 1)
    if chosen.get("solver") == "lbfgs":
        # Only the assignment's Adam goes without bounds: L-BFGS goes so far beyond them that a
        # picture costs up to three times more once it is cut to 0–255.
        chosen.setdefault("clip", True)
    if auto_scales:
        chosen["scales"] = None
    defaults = {name: getattr(base, name) for name in _PRESET_CHOICES}
    try:
        return Settings(preset=base.name, objective=objective, **{**defaults, **chosen})
    except TypeError as error:
        names = ", ".join(Settings.__dataclass_fields__)
        raise UsageError(f"expected settings among {names}, got: {error}") from error


def choose_objective(
    base: Preset,
    *,
    content_layers: str | None = None,
    style_layers: str | None = None,
    content_weight: float | None = None,
    style_weight: float | None = None,
    tv_weight: float | None = None,
    pooling: Pooling | None = None,
) -> Objective:
    """Return a preset's objective with some of it chosen differently.

    Args:
        base: preset.
        content_layers: as ``name`` or ``name:weight``, separated by commas.
        style_layers: in the same form; the preset weighs those without a weight.
        content_weight: of the content cost.
        style_weight: of the style cost.
        tv_weight: of the total variation.
        pooling: ``max`` or ``avg``.

    Raises:
        UsageError: a layer is unknown or a weight out of its range.
    """
    changes: dict[str, Any] = {
        "content_weight": content_weight,
        "style_weight": style_weight,
        "tv_weight": tv_weight,
        "pooling": pooling,
    }
    if content_layers is not None:
        changes["content_layers"] = parse_layers(content_layers, "equal")
    if style_layers is not None:
        changes["style_layers"] = parse_layers(style_layers, base.style_layer_weights)
    return replace(base.objective, **{k: v for k, v in changes.items() if v is not None})
