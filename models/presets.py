"""The presets: published objectives and ours, each with the way of solving it that goes with it."""

from dataclasses import dataclass, replace
from typing import Literal

from .errors import UsageError
from .layers import LayerWeight, LayerWeighting, weigh_layers
from .objective import Objective
from .values import describe, suggest

SolverName = Literal["adam", "lbfgs"]

_STYLE_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """An objective and the defaults of a run that go with it; every one can be overridden.

    Attributes:
        style_layer_weights: how style layers that are named without a weight are weighted.
        learning_rate: of Adam, in pixel values (0–255).
        steps: solver iterations in all.
        init: ``content``, ``matched``, ``noise``, ``blend`` or ``noisy``.
        scales: number of scales of the coarse-to-fine pyramid; None chooses by the size.
        clip: whether pixels are kept within 0–255 while they are optimised.
        early_stop: whether a scale ends early where there is no progress; published presets do not.
        size: long side in pixels.
        stretch: whether pictures are brought to a square of this size whatever their proportions.
        clean: whether the result's flat areas and its rim are cleaned; published presets do not.
        colors: where the result's colours come from: ``style``, ``luminance``, ``matched``, ``histogram`` or
            ``only``.
    """

    name: str
    objective: Objective
    style_layer_weights: LayerWeighting
    solver: SolverName
    learning_rate: float
    steps: int
    init: str
    scales: int | None
    clip: bool
    early_stop: bool
    size: int
    stretch: bool = False
    clean: bool = False
    colors: str = "style"


_COURSERA = Objective(
    content_layers=(LayerWeight("conv4_2", 1.0),),
    style_layers=weigh_layers(_STYLE_LAYERS, "equal"),
    content_weight=10.0,
    style_weight=40.0,
    pooling="avg",
    pool_rounding="ceil",
    content_factor=0.25,
    style_factor=0.25,
)

_COURSERA_TF2 = replace(
    _COURSERA,
    content_layers=(LayerWeight("conv5_4", 1.0),),
    pooling="max",
    pool_rounding="floor",
    preprocessing="unit_rgb",
)

_GATYS = Objective(
    content_layers=(LayerWeight("conv4_2", 1.0),),
    style_layers=weigh_layers(_STYLE_LAYERS, "inverse_channels_squared"),
    content_weight=1.0,
    style_weight=1.0,
    pooling="max",
    pool_rounding="floor",
)

_DEFAULT = Objective(
    content_layers=(LayerWeight("conv4_2", 1.0),),
    style_layers=weigh_layers(_STYLE_LAYERS, "equal"),
    content_weight=0.15,
    style_weight=1.0,
    pooling="avg",
    pool_rounding="ceil",
    relative=True,
)

_OURS = Preset(
    name="default",
    objective=_DEFAULT,
    style_layer_weights="equal",
    solver="lbfgs",
    learning_rate=5.0,
    steps=120,
    init="content",
    scales=None,
    clip=True,
    early_stop=True,
    size=512,
    clean=True,
)

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        # Ours, chosen by looking at results: relative costs, so that one weight of the content
        # suits soft and strong paintings alike, and coarse to fine.
        _OURS,
        # Less of the photograph, and crisper strokes by maximum pooling.
        replace(
            _OURS, name="bold", objective=replace(_DEFAULT, pooling="max", content_weight=0.05)
        ),
        # More of the photograph, and thin strokes: none of the painting's large forms.
        replace(
            _OURS,
            name="fine",
            objective=replace(
                _DEFAULT, style_layers=weigh_layers(_STYLE_LAYERS[:4], "equal"), content_weight=0.4
            ),
        ),
        # The deeplearning.ai assignment, as it stands.
        Preset(
            name="coursera",
            objective=_COURSERA,
            style_layer_weights="equal",
            solver="adam",
            learning_rate=2.0,
            steps=200,
            init="blend",
            scales=1,
            clip=False,
            early_stop=False,
            size=400,
        ),
        # The assignment since it uses TensorFlow 2: its learning rate is 0.01 on the scale 0–1.
        Preset(
            name="coursera-tf2",
            objective=_COURSERA_TF2,
            style_layer_weights="equal",
            solver="adam",
            learning_rate=2.55,
            steps=2501,
            init="noisy",
            scales=1,
            clip=True,
            early_stop=False,
            size=400,
            stretch=True,
        ),
        # Gatys, Ecker and Bethge 2016. Departure: pixels stay within 0–255 while they are
        # optimised, which the author's unbounded L-BFGS only did when it saved.
        Preset(
            name="gatys",
            objective=_GATYS,
            style_layer_weights="inverse_channels_squared",
            solver="lbfgs",
            learning_rate=5.0,
            steps=500,
            init="content",
            scales=1,
            clip=True,
            early_stop=False,
            size=512,
        ),
    )
}


def find_preset(name: str) -> Preset:
    """Return a preset by its name; `UsageError` if there is none."""
    if not isinstance(name, str) or name not in PRESETS:
        raise UsageError(
            f"expected a preset of {', '.join(PRESETS)}, got {describe(name)}; "
            f"try {suggest(name, PRESETS, 'default')}",
            setting="preset",
        )
    return PRESETS[name]
