"""A graph that ONNX Runtime is ready to run, whatever it computes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from nstx.export.graphs.feature_graph import FeatureGraph
from nstx.export.graphs.gradient_graph import GradientGraph
from nstx.export.runtime.providers import Provider
from nstx.export.runtime.session import SessionChoices, open_session
from nstx.models.errors import ModelError

GraphT = TypeVar("GraphT", FeatureGraph, GradientGraph)
"""The description of a graph, which its model file carries in the metadata."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Session(Generic[GraphT]):
    """A loaded graph with its description.

    Attributes:
        runner: the `onnxruntime.InferenceSession`.
        mean: the network's mean colour, RGB.
    """

    runner: Any
    graph: GraphT
    mean: tuple[float, float, float]
    provider: Provider
    metadata: Mapping[str, str]


def load_session(
    model: bytes | Path,
    graph_type: type[GraphT],
    choices: SessionChoices,
    *,
    weights_sha256: str | None = None,
    place: str = "the cache",
) -> Session[GraphT]:
    """Load a model and check its kind and, unless None, its weights; ``place`` is for messages."""
    runner = open_session(model, choices)
    metadata: Mapping[str, str] = runner.get_modelmeta().custom_metadata_map
    graph = graph_type.from_metadata(metadata, place)
    actual = metadata.get("weights_sha256", "")
    if weights_sha256 is not None and actual != weights_sha256:
        raise ModelError(
            f"expected a model of the weights {weights_sha256[:12]}… in {place}, got one of "
            f"{actual[:12] or 'unknown'}…; try to export it again with the same --weights"
        )
    try:
        red, green, blue = json.loads(metadata["mean"])
        mean = (float(red), float(green), float(blue))
    except (KeyError, ValueError, TypeError) as error:
        raise ModelError(
            f"expected a mean colour in {place}, got none; try to export it again"
        ) from error
    return Session(
        runner=runner, graph=graph, mean=mean, provider=choices.provider, metadata=metadata
    )
