"""What graphs of a tile of a larger picture compute, as data: the two passes of `nstx.engine.tiled`.

The onnx package is not needed here, so that a graph that was built earlier can be used without it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

from ..graphs.feature_graph import INPUT_NAME, check_choice
from ..graphs.gradient_graph import content_input

TilePart = Literal["sums", "gradient"]
"""The pass forward, or that forward and back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileGraph:
    """A pass over tiles, in float32.

    Both have the inputs ``pixels``, (batch, height, width, 3), RGB, 0–255, and ``shares_R_LAYER`` of each region R and
    style layer, (batch, h, w), how much each position counts. The outputs of ``sums`` are ``gram_R_LAYER``,
    F diag(s) Fᵀ, (batch, channels, channels); of other statistics than ``gram`` also ``mean_R_LAYER``, F s, (batch,
    channels, 1); and activations of content layers, (batch, channels, h, w), named as the layers. Further inputs of
    ``gradient`` are ``slope_R_LAYER``, S, as ``gram_R_LAYER``, and ``border_R_LAYER``, b, as ``mean_R_LAYER``; and ``content_LAYER``, T, as the
    activation, and ``scale_LAYER``, q, (batch, 1, h, w). Its output is the ``gradient`` that begins as
    (S F + b 1ᵀ) diag(s) of each region and as q ∘ (F − T), (batch, height, width, 3).

    Attributes:
        objective: whose layers, statistics and poolings are built in.
        regions: how many there are, from 0 on.
    """

    objective: Objective
    part: TilePart
    regions: int = 1

    # The version of this description: it changes when graphs of one come out differently.
    kind: ClassVar[str] = "tile-1"

    def __post_init__(self) -> None:
        check_choice("part", self.part, get_args(TilePart))
        if not 1 <= self.regions <= MOST_REGIONS:
            raise UsageError(
                f"expected 1 … {MOST_REGIONS} regions, got {describe(self.regions)}; try fewer"
            )

    @property
    def moment_layers(self) -> tuple[str, ...]:
        """Style layers that compare means, too."""
        statistics = self.objective.statistics.items()
        return tuple(name for name, statistic in statistics if statistic != "gram")

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of all inputs, in their order."""
        content, style = self.objective.content_names, self.objective.style_names
        inputs = (INPUT_NAME, *self._of_regions("shares", style))
        if self.part == "sums":
            return inputs
        slopes = self._of_regions("slope", style)
        borders = self._of_regions("border", self.moment_layers)
        return (
            *inputs,
            *slopes,
            *borders,
            *map(content_input, content),
            *map(scale_input, content),
        )

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of all outputs, in their order."""
        if self.part == "gradient":
            return ("gradient",)
        grams = self._of_regions("gram", self.objective.style_names)
        means = self._of_regions("mean", self.moment_layers)
        return (*grams, *means, *self.objective.content_names)

    def _of_regions(self, kind: str, layers: Sequence[str]) -> list[str]:
        return [tile_name(kind, region, name) for name in layers for region in range(self.regions)]

    def metadata(self, weights: Weights) -> dict[str, str]:
        """Return the metadata of a model, with the mean and the checksum of its weights."""
        return {
            "nstx_version": __version__,
            "kind": self.kind,
            "objective": json.dumps(objective_to_json(self.objective)),
            "part": self.part,
            "regions": str(self.regions),
            "mean": json.dumps(weights.mean),
            "weights_sha256": weights.sha256,
            "file_sha256": NO_SEAL,
        }

    def key(self) -> dict[str, Any]:
        """Return what a graph of this description is looked up by, as plain data."""
        objective = objective_to_json(self.objective)
        return {"objective": objective, "part": self.part, "regions": self.regions}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], path: str) -> "TileGraph":
        """Return a model's description; `ModelError` if this version knows none such."""
        try:
            if metadata["kind"] != cls.kind:
                raise ValueError(f"kind {metadata['kind']!r}")
            part: Any = metadata["part"]
            return cls(
                objective=objective_from_json(parse_json(metadata["objective"])),
                part=part,
                regions=int(metadata["regions"]),
            )
        except (KeyError, ValueError, UsageError) as error:
            raise ModelError(
                f"expected a graph of a tile in {path}, got another ({printable(error)[:200]}); "
                "try 'nstx cache clear'"
            ) from error


def tile_name(kind: str, region: int, layer: str) -> str:
    """Return the name of a region's input or output of a kind, of a layer: ``gram_0_conv1_1``."""
    return f"{kind}_{region}_{layer}"


def scale_input(layer: str) -> str:
    """Return the name of what differences from a content target are multiplied with: ``scale_conv4_2``."""
    return f"scale_{layer}"
