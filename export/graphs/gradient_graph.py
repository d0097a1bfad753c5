"""What a graph of the cost and its gradient computes, as data: its inputs and outputs.

The onnx package is not needed here, so that a graph that was built earlier can be used without it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, get_args

from nstx.models.errors import ModelError, UsageError
from nstx.models.objective import Objective, objective_from_json, objective_to_json
from nstx.models.printable import printable
from nstx.models.statistics import MOST_REGIONS
from nstx.models.storage.plain_data import parse_json
from nstx.models.storage.seals import NO_SEAL
from nstx.models.values import describe
from nstx.models.version import __version__
from nstx.models.weights.load import Weights

from .feature_graph import GRAPH_PRECISIONS, INPUT_NAME, GraphPrecision, check_choice

GraphLayout = Literal["planar", "interleaved"]
"""Of activations: (batch, channels, h, w), which every runtime has; or (batch, h, w, channels) by operators
that ONNX Runtime has on CUDA alone, where tensor cores want it so."""

_FLAGS = ("gradient", "adam", "even")

_LAYOUTS: tuple[GraphLayout, ...] = get_args(GraphLayout)

# It changes when interleaved graphs of one description come out differently; planar ones have their kind.
_INTERLEAVED_VERSION = 6

AREAS_INPUT = "areas"
"""What the costs of several regions are weighed by: float32 (batch, regions)."""

WEIGHT_INPUTS = ("content_weight", "style_weight", "tv_weight")
"""α, β and the weight of the total variation: float32 (batch)."""

LAPLACIAN_INPUTS = ("laplacian_weight", "laplacian_target")
"""The weight of the content's detail, float32 (batch), and its Laplacian, float32 (batch, h, w)."""

LAYER_INPUTS = ("layer_factors", "layer_slopes", "layer_constants", "layer_growths")
"""What interleaved graphs are told of each layer, first those of contents: float32 (batch, layers); the last two
in fp16 only. `nstx.export.interleaved.interleaved_inputs` has what they are."""

ADAM_MOMENTS = ("first_moment", "second_moment")
ADAM_INPUTS = (*ADAM_MOMENTS, "step", "learning_rate", "gradient_factor", "low", "high")
"""The moments, float32 (batch, height, width, 3), then numbers, float32 (); ``step`` is from 1 on,
``gradient_factor`` scales the gradient, ``low`` and ``high`` bound the pixels after the step."""

ADAM_OUTPUTS = ("next_pixels", "next_first_moment", "next_second_moment")

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Of Adam (Kingma and Ba 2015), with ε as in their section 2 (and TensorFlow 1), on gradients that are scaled to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientGraph:
    """The cost of pictures under an objective, and its gradient.

    Inputs are ``pixels``, float32 (batch, height, width, 3), RGB, 0–255; `WEIGHT_INPUTS`; and the
    targets, ``content_LAYER``, float32 (batch, channels, h, w), and ``style_LAYER``, float32
    (batch, channels, channels), or for other statistics than ``gram`` moments (batch, channels + 1,
    channels + 1), beside which ``wasserstein`` needs ``style_root_LAYER``, float32 (batch, channels,
    channels), of `nstx.models.statistics.covariance_root`. With ``regions`` there is ``shares_LAYER`` of each style
    layer, float32 (batch, h, w): how much each position counts, summing to 1. Of several, all that there is of style
    layers is (batch, regions, …), and ``areas``, float32 (batch, regions), are what their costs are weighed by. Where
    the objective's ``laplacian_weight`` is above 0, there are `LAPLACIAN_INPUTS`, and ``laplacian``, float32 (batch),
    is an output. Outputs are ``total``, ``content``, ``style`` and
    ``total_variation``, float32 (batch); ``content_layers`` and ``style_layers``, float32
    (batch, layers), before their weights; and ``gradient``, float32 (batch, height, width, 3).
    Each picture of a batch has its own targets, weights and costs.

    An ``interleaved`` graph serves pictures of one size, and takes what `nstx.export.interleaved.interleaved_inputs` makes
    of a planar one's inputs. Its outputs are ``layers``, float32 (batch, layers), of contents and styles; the
    gradient; and costs of pixels where their weights are above 0.

    Attributes:
        objective: whose layers, layer weights and formulas are built in. Its α, β and weights of the
            total variation and the Laplacian are inputs, and only whether they are above 0 matters: a part whose
            weight is 0 is left out, but for a planar graph's total variation.
        precision: ``fp32`` or ``fp16``, of convolutions; pixels, Gram matrices, costs and the
            gradient are float32 in both.
        gradient: whether the gradient is an output; without it the graph is a third of the work.
        adam: whether the graph makes Adam's step instead (`ADAM_INPUTS`, `ADAM_OUTPUTS`).
        layout: of activations, and of the content's targets. ``interleaved`` is for gradients with average
            pooling, in fp16 and tf32: float32 convolutions of such a graph are meant to be in TF32, and
            Gram matrices are made up for it.
        even: whether all sides that are pooled are even, so that nothing need be cut or padded.
        regions: how many there are whose positions count by shares that are inputs; 0 where all count alike.
    """

    objective: Objective
    precision: GraphPrecision = "fp32"
    gradient: bool = True
    adam: bool = False
    layout: GraphLayout = "planar"
    even: bool = False
    regions: int = 0

    # The version of this description: it changes when graphs of one come out differently.
    kind: ClassVar[str] = "gradient-2"

    def __post_init__(self) -> None:
        check_choice("precision", self.precision, GRAPH_PRECISIONS)
        if self.adam and not self.gradient:
            raise UsageError(
                "expected a graph with its gradient for Adam, got costs alone; try one of the two"
            )
        if not 0 <= self.regions <= MOST_REGIONS:
            raise UsageError(
                f"expected 0 … {MOST_REGIONS} regions, got {describe(self.regions)}; try fewer"
            )
        check_choice("layout", self.layout, _LAYOUTS)
        if self.layout == "interleaved" and not self.objective.compares_grams_alone:
            raise UsageError(
                "expected Gram matrices alone for an interleaved graph, got another style statistic; "
                "try layout='planar'"
            )
        plain = self.gradient and not self.adam and self.objective.pooling == "avg"
        if self.layout == "interleaved" and not (plain and not self.regions):
            raise UsageError(
                "expected a gradient with average pooling, without Adam or regions, for an interleaved graph, "
                "got another; try layout='planar'"
            )

    @property
    def has_variation(self) -> bool:
        """Whether the total variation is computed."""
        return self.layout == "planar" or self.objective.tv_weight > 0

    @property
    def has_laplacian(self) -> bool:
        """Whether the content's detail is compared."""
        return self.objective.laplacian_weight > 0

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the inputs that hold targets."""
        content = [content_input(name) for name in self.objective.content_names]
        style = [style_input(name) for name in self.objective.style_names]
        shares = map(shares_input, self.objective.style_names if self.regions else ())
        areas = (AREAS_INPUT,) if self.regions > 1 else ()
        detail = LAPLACIAN_INPUTS[1:] if self.has_laplacian else ()
        return (*content, *style, *map(root_input, self.root_layers), *shares, *areas, *detail)

    @property
    def root_layers(self) -> tuple[str, ...]:
        """Style layers of which a root is an input, beside the target that it follows from."""
        statistics = self.objective.statistics.items()
        return tuple(name for name, statistic in statistics if statistic == "wasserstein")

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of all inputs, in their order."""
        if self.layout == "interleaved":
            weights = self.weights[2 if self.has_variation else 3 :]
            return (INPUT_NAME, *weights, *self.targets, *self.layer_inputs)
        return (INPUT_NAME, *self.weights, *self.targets, *(ADAM_INPUTS if self.adam else ()))

    @property
    def layer_inputs(self) -> tuple[str, ...]:
        """Names of `LAYER_INPUTS` that an interleaved graph has."""
        return LAYER_INPUTS if self.precision == "fp16" else LAYER_INPUTS[:2]

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the weights of parts of the cost, as a planar graph has them."""
        return (*WEIGHT_INPUTS, *(LAPLACIAN_INPUTS[:1] if self.has_laplacian else ()))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of all outputs, in their order."""
        planar = self.layout == "planar"
        names = ["total"] if planar else []
        names += ["total_variation"] if self.has_variation else []
        names += ["laplacian"] if self.has_laplacian else []
        if not planar:
            return (*names, "layers", "gradient")
        for kind in ("content", "style"):
            if getattr(self.objective, f"{kind}_names"):
                names += [kind, f"{kind}_layers"]
        if self.adam:
            return (*names, *ADAM_OUTPUTS)
        return (*names, "gradient") if self.gradient else tuple(names)

    def metadata(self, weights: Weights) -> dict[str, str]:
        """Return the metadata of a model file, with the mean and the checksum of its weights."""
        metadata = {
            "nstx_version": __version__,
            "kind": self.kind,
            "objective": json.dumps(objective_to_json(self.objective)),
            "precision": self.precision,
            "gradient": json.dumps(self.gradient),
            "adam": json.dumps(self.adam),
            "content_layers": ",".join(self.objective.content_names),
            "style_layers": ",".join(self.objective.style_names),
            "pooling": self.objective.pooling,
            "pool_rounding": self.objective.pool_rounding,
            "mean": json.dumps(weights.mean),
            "weights_sha256": weights.sha256,
            "file_sha256": NO_SEAL,
        }
        if self.regions:
            metadata["regions"] = json.dumps(self._regions)
        if self.layout != "planar":
            metadata |= {"layout": self.layout, "even": json.dumps(self.even)}
        return metadata

    @property
    def _regions(self) -> int:
        """As before there were several, so that what was kept then is found."""
        return True if self.regions == 1 else self.regions

    def key(self) -> dict[str, Any]:
        """Return what a graph of this description is looked up by, as plain data."""
        parts = {**asdict(self), "objective": objective_to_json(self.objective)}
        parts["regions"] = self._regions
        # As before there were others, so that what was kept then is found.
        if not self.regions:
            del parts["regions"]
        if self.layout == "planar":
            del parts["layout"], parts["even"]
            return parts
        return parts | {"version": _INTERLEAVED_VERSION}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], path: str) -> "GradientGraph":
        """Return a file's description; `ModelError` if this version knows none such."""
        try:
            if metadata["kind"] != cls.kind:
                raise ValueError(f"kind {metadata['kind']!r}")
            precision: Any = metadata["precision"]
            layout: Any = metadata.get("layout", "planar")
            return cls(
                objective=objective_from_json(parse_json(metadata["objective"])),
                precision=precision,
                layout=layout,
                regions=_parse_regions(metadata.get("regions", "0")),
                **{name: _parse_flag(metadata.get(name, "false")) for name in _FLAGS},
            )
        except (KeyError, ValueError, UsageError) as error:
            raise ModelError(
                f"expected a model of 'nstx export gradient' in {path}, got another "
                f"({printable(error)[:200]}); try to export it again"
            ) from error


def _parse_flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"{text[:20]!r} in the place of true or false")
    return text == "true"


def _parse_regions(text: str) -> int:
    if text == "true":
        return 1
    if not (text.isascii() and text.isdigit() and len(text) <= 3):
        raise ValueError(f"{text[:20]!r} in the place of a number of regions")
    return int(text)


def content_input(layer: str) -> str:
    """Return the name of the input that holds a layer's content target: ``content_conv4_2``."""
    return f"content_{layer}"


def style_input(layer: str) -> str:
    """Return the name of the input that holds a layer's style target: ``style_conv1_1``."""
    return f"style_{layer}"


def shares_input(layer: str) -> str:
    """Return the name of the input that holds the shares of a style layer's positions: ``shares_conv1_1``."""
    return f"shares_{layer}"


def root_input(layer: str) -> str:
    """Return the name of the input that holds a style target's root: ``style_root_conv1_1``."""
    return f"style_root_{layer}"
