"""What a session of VGG-19's features is, and where an extractor gets one from.

There are two sources: an exported file (`nstx.engine.sessions.model_file`), and graphs that are built from the
weights and kept in the cache (`nstx.engine.sessions.session_cache`).
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nstx.export.graphs.feature_graph import FeatureGraph
from nstx.export.runtime.providers import Provider
from nstx.models.errors import ModelError
from nstx.models.storage.cache import cache_folder, mark_used

_log = logging.getLogger("nstx")


@dataclass(frozen=True, slots=True, eq=False)
class FeatureSession:
    """A graph that is ready to run.

    Attributes:
        session: the `onnxruntime.InferenceSession`.
        graph: what it computes.
        mean: the network's mean colour, RGB.
        provider: that runs it.
    """

    session: Any
    graph: FeatureGraph
    mean: tuple[float, float, float]
    provider: Provider


class SessionSource(Protocol):
    """Where an extractor gets its sessions from."""

    @property
    def provider(self) -> Provider:
        """That runs them."""
        ...

    def open(self, activations: tuple[str, ...], grams: tuple[str, ...]) -> FeatureSession:
        """Return a session that has these outputs, and perhaps others.

        Raises:
            UsageError: a layer is unknown.
            ModelError: the model cannot be loaded or has no such output.
            DeviceError: the provider is not there.
        """
        ...


def describe_session(
    session: Any, provider: Provider, path: str, weights_sha256: str | None
) -> FeatureSession:
    """Return a session with what its model says of itself.

    Raises:
        ModelError: it is no model of features, or one of other weights.
    """
    metadata: dict[str, str] = session.get_modelmeta().custom_metadata_map
    graph = FeatureGraph.from_metadata(metadata, path)
    found = metadata.get("weights_sha256", "")
    if weights_sha256 is not None and found != weights_sha256:
        raise ModelError(
            f"expected a model of the weights {weights_sha256[:12]}… in {path}, got one of "
            f"{found[:12] or 'unknown'}…; try 'nstx export features' with the same --weights"
        )
    try:
        red, green, blue = json.loads(metadata["mean"])
        mean = (float(red), float(green), float(blue))
    except (KeyError, ValueError, TypeError) as error:
        raise ModelError(
            f"expected a mean colour in {path}, got none; try 'nstx export features' again"
        ) from error
    return FeatureSession(session, graph, mean, provider)


def engine_folder(
    provider: Provider, use_cache: bool, model: str, shape: tuple[int, int, int] | None
) -> Path | None:
    """Return where TensorRT keeps its engines of one model, or None where it is not to."""
    if provider.kind != "tensorrt" or not use_cache:
        return None
    sizes = "x".join(map(str, shape)) if shape else "free"
    folder = cache_folder() / "tensorrt" / f"{model[:32]}-{sizes}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mark_used(folder)
    except OSError as error:
        _log.warning("%s cannot be made (%s); engines are built each time", folder, error)
        return None
    return folder
