"""What a graph of VGG-19's features computes, as data: its outputs, its input, its precision.

The onnx package is not needed here, so that a graph that was built earlier can be used without it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from nstx.models.arguments import check_type, with_example
from nstx.models.errors import ModelError, UsageError
from nstx.models.objective import Objective, objective_to_json
from nstx.models.printable import printable
from nstx.models.storage.seals import NO_SEAL
from nstx.models.values import describe
from nstx.models.version import __version__
from nstx.models.vgg19 import (
    LAYERS,
    Layer,
    Pooling,
    PoolRounding,
    check_pooling,
    find_layer,
    split_layers,
    truncate,
)
from nstx.models.weights.load import Weights

InputConvention = Literal["network", "float32", "uint8"]
"""What a graph takes, under the name ``pixels``.

``network``: float32 (batch, 3, height, width), RGB, 0–255, minus the network's mean colour.
``float32``: float32 (batch, height, width, 3), RGB, 0–255, as nstx works with pictures.
``uint8``: uint8 (batch, height, width, 3), RGB, as a picture file is decoded.
"""

GraphPrecision = Literal["fp32", "fp16"]
"""Of the convolutions and their weights. Gram matrices and all outputs are float32 in both."""

INPUTS: tuple[InputConvention, ...] = get_args(InputConvention)
GRAPH_PRECISIONS: tuple[GraphPrecision, ...] = get_args(GraphPrecision)
INPUT_NAME = "pixels"

FP16_SCALE = 1 / 16
"""Of everything before an output of an fp16 graph. A power of 2, so that it costs no precision:
activations of black-and-white pictures reach 40 000, and fp16 ends at 65 504. A ReLU network with
its biases scaled too is linear in its input's scale, so outputs are scaled back exactly."""

_OUTPUTS = ("activations", "grams", "moments")
_PROPERTIES = ("pooling", "pool_rounding", "precision", "input")


def parity_path(path: Path) -> Path:
    """Return where a model's parity report goes: ``vgg19.onnx`` → ``vgg19.parity.json``."""
    return path.with_suffix(".parity.json")


def gram_name(layer: str) -> str:
    """Return the name of the output that holds a layer's Gram matrix: ``conv1_1_gram``."""
    return f"{layer}_gram"


def moments_name(layer: str) -> str:
    """Return the name of the output that holds a layer's moments: ``conv1_1_moments``."""
    return f"{layer}_moments"


@with_example("FeatureGraph(activations='conv4_2')")
@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureGraph:
    """VGG-19, truncated at the deepest layer that an output needs.

    Attributes:
        activations: layers whose activation after the ReLU is an output: float32
            (batch, channels, h, w), named as the layer. Poolings may be named too.
        grams: layers whose Gram matrix G = F Fᵀ / N is an output: float32
            (batch, channels, channels), named ``LAYER_gram``.
        moments: layers whose Gram matrix with a channel of ones is an output: G, bordered by the means of
            channels, with a 1 in the corner, float32 (batch, channels + 1, channels + 1), named
            ``LAYER_moments``.
        pooling: ``max`` or ``avg`` (padding is not counted in an average).
        pool_rounding: of odd sizes, ``ceil`` (75 → 38) or ``floor`` (75 → 37).
    """

    activations: tuple[str, ...] = ()
    grams: tuple[str, ...] = ()
    moments: tuple[str, ...] = ()
    pooling: Pooling = "avg"
    pool_rounding: PoolRounding = "ceil"
    precision: GraphPrecision = "fp32"
    input: InputConvention = "network"

    # The version of this description: it changes when graphs of one come out differently.
    kind: ClassVar[str] = "features-1"

    def __post_init__(self) -> None:
        for kind in _OUTPUTS:
            layers = getattr(self, kind)
            check_type(kind, layers, str | Sequence[str], f"{kind}=('conv4_2',)")
            names = split_layers(layers) if isinstance(layers, str) else layers
            object.__setattr__(self, kind, _by_depth(names))
        if not self.layers:
            raise UsageError("expected at least one layer, got none; try --layers conv4_2")
        check_pooling(self.pooling, self.pool_rounding)
        check_choice("precision", self.precision, GRAPH_PRECISIONS)
        check_choice("input", self.input, INPUTS)

    @property
    def layers(self) -> tuple[str, ...]:
        """Every layer that an output is of, by depth, each once."""
        return _by_depth((*self.activations, *self.grams, *self.moments))

    @property
    def network(self) -> tuple[Layer, ...]:
        """The layers that are evaluated."""
        return truncate(self.layers)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs: one."""
        return (INPUT_NAME,)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in their order: activations, Gram matrices, moments."""
        return name_outputs(self.activations, self.grams, self.moments)

    def to_input(
        self, pixels: NDArray[np.floating | np.uint8], mean: Sequence[float]
    ) -> NDArray[Any]:
        """Return RGB pictures, (batch, height, width, 3), 0–255, as the graph takes them."""
        if self.input == "uint8":
            return np.asarray(np.rint(pixels).clip(0, 255), np.uint8)
        floats = pixels.astype(np.float32)
        if self.input == "network":
            floats = (floats - np.asarray(mean, np.float32)).transpose(0, 3, 1, 2)
        return np.ascontiguousarray(floats)

    def key(self) -> dict[str, Any]:
        """Return what a graph of this description is looked up by, as plain data."""
        key = asdict(self)
        if not self.moments:
            del key["moments"]  # of before there were some, so that what was kept then is found
        return key

    def metadata(self, weights: Weights, objective: Objective | None) -> dict[str, str]:
        """Return a model file's metadata, with the objective that the outputs serve, if any."""
        metadata = {
            "nstx_version": __version__,
            "kind": self.kind,
            "layers": ",".join(layer.name for layer in self.network),
            "activations": ",".join(self.activations),
            "grams": ",".join(self.grams),
            **{name: getattr(self, name) for name in _PROPERTIES},
            "mean": json.dumps(weights.mean),
            "weights_sha256": weights.sha256,
            "file_sha256": NO_SEAL,
        }
        if self.moments:
            metadata["moments"] = ",".join(self.moments)
        if objective is not None:
            metadata["objective"] = json.dumps(objective_to_json(objective))
        return metadata

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], path: str) -> "FeatureGraph":
        """Return a file's description; `ModelError` if this version knows none such."""
        if metadata.get("kind") != cls.kind:
            raise ModelError(
                f"expected a model of 'nstx export features' in {path}, got one of kind "
                f"{printable(metadata.get('kind', 'unknown'))[:40]!r}; try to export it again"
            )
        chosen: dict[str, Any] = {name: metadata.get(name, "") for name in _PROPERTIES}
        for name in _OUTPUTS:
            chosen[name] = tuple(filter(None, metadata.get(name, "").split(",")))
        try:
            return cls(**chosen)
        except UsageError as error:
            raise ModelError(
                f"expected a model of 'nstx export features' in {path}, got one with a wrong "
                f"description ({printable(error)[:200]}); try to export it again"
            ) from error


def name_outputs(
    activations: Sequence[str], grams: Sequence[str], moments: Sequence[str]
) -> tuple[str, ...]:
    """Return the names of a graph's outputs, of its layers."""
    return (*activations, *map(gram_name, grams), *map(moments_name, moments))


def _by_depth(names: Sequence[str]) -> tuple[str, ...]:
    layers = {find_layer(name) for name in names}
    return tuple(layer.name for layer in LAYERS if layer in layers)


def check_choice(what: str, value: str, choices: Sequence[str]) -> None:
    """Check a property of a graph; `UsageError` if it is none of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise UsageError(
            f"expected a graph's {what} of {', '.join(choices)}, got {describe(value)}; "
            f"try {choices[0]}",
            setting=what,
        )
