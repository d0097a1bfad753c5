"""The objective: the cost of style transfer as data, from which everything else follows.

With F the activation of a layer after its ReLU, seen as a C×N matrix (N = height·width), and
G = F Fᵀ / N its Gram matrix per position::

    J         = α·J_content + β·J_style + tv_weight·J_tv + laplacian_weight·J_laplacian
    J_content = Σ_layers w · k_c · mean (F − F_content)²
    J_style   = Σ_layers w · k_s · mean (G − G_style)²        (mean over the C² entries)
    J_tv      = mean of the squared differences of neighbouring pixels, 0–255
    J_laplacian = mean (Δ P x − Δ P c)², of the picture x and the content c, 0–255

P takes means over squares of 4×4 pixels, Δ is the kernel (0 −1 0; −1 4 −1; 0 −1 0) on them, summed over the
channels and without padding (Li et al. 2017, arXiv 1707.01253). Departure: their squares lie side by side, which leaves the
grid's steps in a picture; ours begin at every pixel, and the cost is the mean of theirs over its 16 grids.
The published costs differ in k only. The deeplearning.ai assignment writes
Σ(a_C − a_G)²/(4·H·W·C) and Σ(G_S − G_G)²/(4·C²·N²) with G = F Fᵀ: that is k_c = k_s = ¼. Gatys et
al. 2016, as published by the author, use mean squared errors: k_c = k_s = 1, with w = 10³/C².
In our preset ``default``, k is 1 over the mean square of the target instead. A style layer can have another
statistic than G; see `nstx.models.statistics`.

Dividing G by N, rather than the cost by N², gives the same number where both pictures have one size,
and a meaningful one where the style picture has another.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from .arguments import with_example
from .errors import UsageError, about
from .layers import LayerWeight, check_statistic
from .statistics import Statistic
from .storage.plain_data import take_list, take_number, take_text
from .values import check_flag, check_number, in_words, refuse
from .vgg19 import (
    LAYERS,
    Layer,
    Pooling,
    PoolRounding,
    Preprocessing,
    check_pooling,
    check_preprocessing,
    find_layer,
    truncate,
)


@with_example("choose_settings().objective")
@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What is minimised; `UsageError` if a layer or a weight is wrong, or nothing is left to do.

    Attributes:
        content_layers, style_layers: whose activations or statistics are compared.
        content_weight, style_weight, tv_weight: α, β and that of the total variation, ≥ 0.
        laplacian_weight: that of the content's detail, ≥ 0.
        pooling: ``max`` or ``avg`` (padding is not counted in an average).
        pool_rounding: of odd sizes; see `nstx.models.vgg19.PoolRounding`.
        content_factor, style_factor: k_c and k_s.
        preprocessing: of pixels; see `nstx.models.vgg19.Preprocessing`.
        relative: whether each layer's cost is divided by what it is at an activation of 0, of content and
            Gram matrices the mean square of the target, or by 1 where that is less. Strong and
            weak pictures then pull alike. Our own; no published preset does it.
    """

    content_layers: tuple[LayerWeight, ...]
    style_layers: tuple[LayerWeight, ...]
    content_weight: float
    style_weight: float
    tv_weight: float = 0.0
    laplacian_weight: float = 0.0
    pooling: Pooling
    pool_rounding: PoolRounding
    content_factor: float = 1.0
    style_factor: float = 1.0
    relative: bool = False
    preprocessing: Preprocessing = "published"

    def __post_init__(self) -> None:
        for option in _NUMBERS:
            object.__setattr__(self, option, _check_weight(option, getattr(self, option)))
        object.__setattr__(self, "relative", check_flag("relative", self.relative))
        check_pooling(self.pooling, self.pool_rounding)
        check_preprocessing(self.preprocessing)
        for kind in ("content", "style"):
            with about(f"{kind}_layers"):
                object.__setattr__(self, f"{kind}_layers", _check_layers(self, kind))
        if not self.layers:
            raise UsageError(
                "expected at least one content or style layer with a weight above 0, got none; "
                "try --style-weight 1"
            )

    @property
    def uses_content(self) -> bool:
        """Whether the content cost takes part."""
        return self.content_weight > 0 and bool(self.content_layers)

    @property
    def uses_style(self) -> bool:
        """Whether the style cost takes part."""
        return self.style_weight > 0 and bool(self.style_layers)

    @property
    def content_names(self) -> tuple[str, ...]:
        """Layers of which the content picture's activation is a target."""
        return tuple(item.layer for item in self.content_layers) if self.uses_content else ()

    @property
    def style_names(self) -> tuple[str, ...]:
        """Layers of which the style pictures' Gram matrix, or another statistic, is a target."""
        return tuple(self.statistics)

    @property
    def statistics(self) -> dict[str, Statistic]:
        """What is compared of each of the layers `style_names`, in their order."""
        used = self.style_layers if self.uses_style else ()
        return {item.layer: item.statistic for item in used}

    @property
    def compares_grams_alone(self) -> bool:
        """Whether no style layer has another statistic than its Gram matrix."""
        return set(self.statistics.values()) <= {"gram"}

    @property
    def poolings(self) -> tuple[Pooling, PoolRounding]:
        """The pooling and its rounding of odd sizes."""
        return self.pooling, self.pool_rounding

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that the cost needs, from the input on, each once."""
        return tuple(sorted({*self.content_names, *self.style_names}))

    @property
    def network(self) -> tuple[Layer, ...]:
        """VGG-19 truncated at the deepest layer that the cost needs."""
        return truncate(self.layers)

    def with_unit_weights(self) -> "Objective":
        """Return the objective with α, β and the weights of pixels' costs at 1 where they count, else at 0.

        Objectives that are then equal differ in these weights alone, and one graph computes them.
        """
        return replace(
            self,
            content_weight=float(self.uses_content),
            style_weight=float(self.uses_style),
            tv_weight=float(self.tv_weight > 0),
            laplacian_weight=float(self.laplacian_weight > 0),
        )


def objective_to_json(objective: Objective) -> dict[str, Any]:
    """Return an objective as plain data; what came later only where it is not the usual.

    So what was written before there were others stays what it was.
    """
    data = asdict(objective)
    for item in (*data["content_layers"], *data["style_layers"]):
        if item["statistic"] == "gram":
            del item["statistic"]
    if objective.preprocessing == "published":
        del data["preprocessing"]
    if objective.laplacian_weight == 0:
        del data["laplacian_weight"]
    return data


def objective_from_json(data: Any) -> Objective:
    """Return an objective from the plain data of `objective_to_json`; `ValueError` if it is none."""
    layers = {
        kind: tuple(
            LayerWeight(
                take_text(item, "layer"),
                take_number(item, "weight"),
                cast(Statistic, take_text({"statistic": "gram", **item}, "statistic")),
            )
            for item in take_list(data, kind, len(LAYERS))
        )
        for kind in ("content_layers", "style_layers")
    }
    try:
        return Objective(**{**data, **layers})
    except (TypeError, UsageError) as error:  # TypeError: fields are missing, or are unknown
        raise ValueError(f"the objective cannot be: {str(error)[:200]}") from error


LAPLACIAN_POOL = 4
"""Pixels a side of the squares whose means the Laplacian is of."""

LAPLACIAN_REACH = 3 * LAPLACIAN_POOL - 1
"""How many fewer rows and columns the Laplacian has than its picture."""

_LARGEST_WEIGHT = 1e30


_NUMBERS = (
    "content_weight", "style_weight", "tv_weight", "laplacian_weight", "content_factor", "style_factor",
)  # fmt: skip


def _check_weight(name: str, value: object) -> float:
    weight = check_number(name, value)
    # Costs are float32, and so are their weights.
    if not 0 <= weight <= _LARGEST_WEIGHT:
        raise UsageError(
            f"expected a {in_words(name)} of 0 … {_LARGEST_WEIGHT:g}, got {weight}; "
            "try the preset's",
            setting=name if name in _NUMBERS else None,
        )
    return weight


def _check_layers(objective: Objective, kind: str) -> tuple[LayerWeight, ...]:
    items = getattr(objective, f"{kind}_layers")
    if not isinstance(items, Sequence) or not all(isinstance(i, LayerWeight) for i in items):
        raise refuse("LayerWeights", f"{kind}_layers", items, (LayerWeight("conv4_2", 1.0),))
    checked = []
    for item in items:
        layer = find_layer(item.layer)
        weight = _check_weight(f"weight for {kind} layer {layer.name}", item.weight)
        if layer.kind != "conv":
            raise UsageError(
                f"expected a convolution as {kind} layer, got {item.layer!r}; try conv4_2"
            )
        statistic = check_statistic(item.statistic)
        if kind == "content" and statistic != "gram":
            raise UsageError(
                f"expected content layers without a statistic, got {statistic} for {layer.name}; "
                f"try --style-layers {layer.name}:{statistic}"
            )
        checked.append(LayerWeight(layer.name, weight, statistic))
    names = [item.layer for item in checked]
    if len(set(names)) != len(names):
        raise UsageError(
            f"expected each {kind} layer once, got {', '.join(names)}; try each name once"
        )
    return tuple(item for item in checked if item.weight > 0)
