"""The settings of a run: a preset with what was chosen differently, validated once."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

from nstx.models.arguments import check_type, with_example
from nstx.models.errors import UsageError, about
from nstx.models.objective import Objective
from nstx.models.presets import SolverName
from nstx.models.values import (
    check_bytes,
    check_flag,
    check_number,
    check_text,
    check_whole,
    describe,
    refuse,
    suggest,
)

PresetName = Literal["default", "bold", "fine", "coursera", "coursera-tf2", "gatys"]

Init = Literal["content", "matched", "noise", "blend", "noisy"]
INITS: tuple[Init, ...] = get_args(Init)
"""Starts that are made; anything else is the path of a picture."""

Colors = Literal["style", "luminance", "matched", "histogram", "only"]
COLORS: tuple[Colors, ...] = get_args(Colors)
"""Ways to colour a result; see `nstx.engine.colours.modes`."""

Resampling = Literal["lanczos", "bicubic"]
"""Filters of Pillow's; ``bicubic`` is its usual one."""

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
BackendName = Literal["torch", "onnx"]
ExtractorName = Literal["onnx", "tensorrt", "torch"]
"""``tensorrt`` is ONNX Runtime with its TensorRT provider."""

History = Literal["memory", "disk"]
"""Where L-BFGS keeps the steps that it goes by."""

Auto = Literal["auto"]
_OR_AUTO = {
    "backend": BackendName, "extractor": ExtractorName, "precision": Precision, "history": History,
}  # fmt: skip
CHOICES: dict[str, tuple[str, ...]] = {
    "solver": get_args(SolverName),
    "colors": COLORS,
    **{name: ("auto", *get_args(names)) for name, names in _OR_AUTO.items()},
}
"""The names that attributes of `Settings` may have."""

MIN_SIDE = 16
"""Shorter side, in pixels, at which every layer up to conv5_4 still has a value."""

MAX_SIDE = 65_535
"""Longest side, in pixels, that is accepted: more is a slip of the keyboard."""

MOST_SCALES = 16
"""Of a pyramid."""

_MOST = {"threads": 1024, "steps": 1_000_000, "scales": MOST_SCALES}

OF_THIS_MACHINE = ("use_cache", "max_memory", "history", "large")
"""Settings that no picture depends on."""

BY_ROUNDING = (*OF_THIS_MACHINE, "threads")
"""Those by which a picture is another in its rounding at most."""

PAIRS = 10
"""Steps that L-BFGS goes by, each with what it changed of the gradient: ten serve as well as 20 or 40."""


@with_example("choose_settings(size=512)")
@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything about a run but its pictures.

    Attributes:
        preset: name of the preset that the rest started from.
        learning_rate: of Adam, in pixel values (0–255).
        steps: solver iterations over all scales.
        init: ``content``, ``matched`` (it, in the colours of the styles), ``noise``, ``blend`` (noise
            and content), ``noisy`` (content plus noise), or the path of a picture.
        scales: of the coarse-to-fine pyramid, up to 16; None chooses by the size.
        clip: whether pixels are kept within 0–255 while they are optimised.
        early_stop: whether a scale ends when its cost has fallen by under 0.1 % in ten steps.
        stretch: whether pictures are brought to the result's size whatever their proportions, by
            Pillow's usual filter, as in the assignment; with ``size`` alone it is a square.
        clean: whether flat areas of the result lose ripples, and its rim what zeros beyond it do.
        colors: ``style`` takes the paintings'; ``luminance`` keeps the photograph's hues and chroma, and takes light
            and shade from the paintings; ``matched`` gives the paintings the photograph's mean and covariance of
            colours first; ``histogram`` the result the photograph's distribution of each channel afterwards;
            ``only`` makes no step, and gives the photograph the paintings' mean and covariance.
        size: long side in pixels; None if ``width`` or ``height`` says it.
        tile: side in pixels, a multiple of 16 of 64 or more, of the tiles that larger pictures are evaluated by, one
            at a time; None evaluates pictures whole where memory holds them. It changes memory and time, and results
            by rounding alone.
        history: where L-BFGS keeps the steps that it goes by: ``memory``, or ``disk`` on the CPU or by tiles, which makes
            the same picture; ``auto`` is the disk where memory holds them by no tiles, or by small ones alone.
        max_memory: bytes of main memory that a run on the CPU may take, or a text as ``4GiB``; None takes what is free.
        style_scale: long side of the style pictures, as a multiple of the result's.
        seed: of the noise in the start.
        device: ``auto``, ``cpu``, ``cuda[:N]`` or ``mps``.
        backend: what computes the gradient.
        extractor: what computes the targets.
        threads: of the CPU; None leaves it to the library.
        weights: ``embedded`` or a file.
        use_cache: whether the cache folder is read and written.
        large: whether pictures may have more than 89 million pixels, Pillow's bound against decompression bombs; they
            are read at the size that they are used at.

    `UsageError` if a value is out of its range.
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
    stretch: bool
    size: int | None
    width: int | None = None
    height: int | None = None
    clean: bool = False
    tile: int | None = None
    history: History | Auto = "auto"
    max_memory: int | None = None
    colors: Colors = "style"
    style_scale: float = 1.0
    seed: int = 0
    device: str = "auto"
    precision: Precision | Auto = "auto"
    backend: BackendName | Auto = "auto"
    extractor: ExtractorName | Auto = "auto"
    threads: int | None = None
    weights: str = "embedded"
    use_cache: bool = True
    large: bool = False

    def __post_init__(self) -> None:
        for name, check in CHECKS.items():
            value = getattr(self, name)
            if value is not None or name not in _MAY_BE_NONE:
                object.__setattr__(self, name, check(name, value))
        if self.objective.preprocessing != "published" and self.init in ("noise", "blend"):
            # Both are noise around the network's mean colour.
            raise UsageError(
                f"expected a start without the mean colour, which preprocessing "
                f"{self.objective.preprocessing} lacks, got {self.init}; try --init noisy",
                setting="init",
            )

    @property
    def resampling(self) -> Resampling:
        """The filter by which pictures are resized."""
        return "bicubic" if self.stretch else "lanczos"

    @property
    def most_steps(self) -> int:
        """Steps that are made unless a run ends early: none where there is nothing to optimise."""
        return 0 if self.colors == "only" else self.steps


def check_choice(what: str, name: str) -> str:
    """Return a name; `UsageError` if there is no ``solver``, ``backend``, … (`CHOICES`) of it."""
    names = CHOICES[what]
    # A list cannot be looked up, and is no name.
    if not isinstance(name, str) or name not in names:
        kind = what if what.endswith("s") else f"{'an' if what[0] in 'aeiou' else 'a'} {what}"
        suggestion = suggest(name, names, _LIKELY.get(what, "auto"))
        raise UsageError(
            f"expected {kind} of {', '.join(names)}, got {describe(name)}; try {suggestion}",
            setting=what,
        )
    return name


def check_count(name: str, value: int | None) -> int | None:
    """Return ``threads``, ``steps`` or ``scales``; `UsageError` if out of range. None is but of steps."""
    if value is None and name != "steps":
        return None
    count = check_whole(name, value)
    if not 1 <= count <= _MOST[name]:
        raise refuse(f"1 … {_MOST[name]}", name, count, 1)
    return count


def check_side(name: str, value: int) -> int:
    """Return a ``size``, ``width`` or ``height`` in pixels; `UsageError` if out of range."""
    side = check_whole(name, value, 512)
    if not MIN_SIDE <= side <= MAX_SIDE:
        raise refuse(f"{MIN_SIDE} … {MAX_SIDE} pixels", name, side, 512)
    return side


@about("device")
def split_device(name: str) -> tuple[str, int]:
    """Return the kind of device that ``auto``, ``cpu``, ``mps`` or ``cuda[:N]`` names, and N or 0."""
    text = name if isinstance(name, str) else ""
    if match := re.fullmatch(r"(auto|cpu|cuda|mps)|cuda:(\d{1,4})", text):
        return match[1] or "cuda", int(match[2] or 0)
    if text.startswith("cuda:"):
        raise UsageError(f"expected a number after 'cuda:', got {describe(name)}; try cuda:0")
    likely = "cuda" if text == "gpu" else suggest(text, ("cpu", "cuda", "mps"), "auto")
    raise UsageError(
        f"expected a device of auto, cpu, cuda[:N], mps, got {describe(name)}; try {likely}"
    )


def _check_tile(name: str, value: Any) -> int:
    tile = check_whole(name, value, 512)
    if not 64 <= tile <= MAX_SIDE or tile % 16:
        near = min(max(64, tile // 16 * 16), MAX_SIDE // 16 * 16)
        raise refuse(f"a multiple of 16 of 64 … {MAX_SIDE} pixels", name, tile, near)
    return tile


def _check_positive(suggestion: int, name: str, value: Any) -> float:
    number = check_number(name, value)
    if number <= 0:
        raise refuse("a number above 0", name, number, suggestion)
    return number


def _check_seed(name: str, value: Any) -> int:
    seed = check_whole(name, value, 0)
    if not 0 <= seed < 2**63:
        raise refuse("0 … 2⁶³−1", name, seed, 0)
    return seed


CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "preset": partial(check_text, suggestion="default"),
    "objective": partial(check_type, hint=Objective, example=""),
    **dict.fromkeys(CHOICES, check_choice),
    "learning_rate": partial(_check_positive, 2),
    "style_scale": partial(_check_positive, 1),
    **dict.fromkeys(_MOST, check_count),
    **dict.fromkeys(("size", "width", "height"), check_side),
    **dict.fromkeys(("clip", "early_stop", "stretch", "clean", "use_cache", "large"), check_flag),
    "init": partial(check_text, suggestion="content"),
    "weights": partial(check_text, suggestion="embedded"),
    "seed": _check_seed,
    "tile": _check_tile,
    "max_memory": partial(check_bytes, least=64 << 20),
    "device": lambda _, text: text if split_device(text) else "",
}
"""What each attribute of `Settings` passes; it returns the value in Python's own type."""

_LIKELY = {"solver": "lbfgs", "colors": "luminance"}
"""What is suggested in place of a name that resembles none."""

_MAY_BE_NONE = ("scales", "size", "width", "height", "threads", "tile", "max_memory")
