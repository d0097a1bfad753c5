"""The settings of a run: a preset with what was chosen differently, validated once."""

import math
from dataclasses import dataclass, replace
from typing import Any

from nstx.models.errors import UsageError
from nstx.models.objective import Objective, parse_layers
from nstx.models.presets import Preset, SolverName, find_preset
from nstx.models.vgg19 import Pooling

INITS = ("content", "matched", "noise", "blend")
"""Starts that are made; anything else is the path of a picture."""

BACKENDS = ("auto", "torch", "onnx")
EXTRACTORS = ("auto", "onnx", "tensorrt", "torch")
"""``tensorrt`` is ONNX Runtime with its TensorRT provider."""


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
    precision: str = "auto"
    backend: str = "auto"
    extractor: str = "auto"
    threads: int | None = None
    weights: str = "embedded"
    use_cache: bool = True

    def __post_init__(self) -> None:
        if self.solver not in ("adam", "lbfgs"):
            raise UsageError(f"expected a solver of adam, lbfgs, got {self.solver!r}; try lbfgs")
        if self.backend not in BACKENDS:
            raise UsageError(
                f"expected a backend of {', '.join(BACKENDS)}, got {self.backend!r}; try auto"
            )
        check_extractor(self.extractor)
        _check_positive("learning rate", self.learning_rate, 2)
        _check_positive("style scale", self.style_scale, 1)
        check_threads(self.threads)
        for name, most in (("steps", 1_000_000), ("scales", 16)):
            value = getattr(self, name)
            if value is not None:
                _check_count(name, value, most)
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"expected a seed of 0 … 2⁶³−1, got {self.seed}; try --seed 0")


def check_extractor(name: str) -> None:
    """Check that an extractor is known.

    Raises:
        UsageError: it is not.
    """
    if name not in EXTRACTORS:
        raise UsageError(
            f"expected an extractor of {', '.join(EXTRACTORS)}, got {name!r}; try auto"
        )


def check_threads(threads: int | None) -> None:
    """Check a number of threads; None leaves it to the library.

    Raises:
        UsageError: it is out of its range.
    """
    if threads is not None:
        _check_count("threads", threads, 1024)


def _check_count(name: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise UsageError(f"expected 1 … {most} {name}, got {value}; try --{name} 1")


def _check_positive(what: str, value: float, suggestion: int) -> None:
    if not math.isfinite(value) or value <= 0:
        option = what.replace(" ", "-")
        raise UsageError(f"expected a {what} above 0, got {value}; try --{option} {suggestion}")


def choose_settings(
    preset: str | Preset = "default", *, auto_scales: bool = False, **choices: Any
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
    chosen = {name: value for name, value in choices.items() if value is not None}
    base = preset if isinstance(preset, Preset) else find_preset(preset)
    objective = choose_objective(
        base,
        content_layers=chosen.pop("content_layers", None),
        style_layers=chosen.pop("style_layers", None),
        content_weight=chosen.pop("content_weight", None),
        style_weight=chosen.pop("style_weight", None),
        tv_weight=chosen.pop("tv_weight", None),
        pooling=chosen.pop("pooling", None),
    )
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
    defaults = {
        name: getattr(base, name)
        for name in (
            "solver",
            "learning_rate",
            "steps",
            "init",
            "scales",
            "clip",
            "early_stop",
            "size",
        )
    }
    try:
        return Settings(preset=base.name, objective=objective, **{**defaults, **chosen})
    except TypeError as error:
        known = ", ".join(Settings.__dataclass_fields__)
        raise UsageError(f"expected settings among {known}, got: {error}") from error


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
    """Return a preset's objective with some of it chosen differently; see `choose_settings`.

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
