"""Sessions of features whose graphs are built from the weights, and kept (`kept_graphs`)."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from nstx.export.graphs.feature_graph import FeatureGraph
from nstx.export.runtime.providers import Provider
from nstx.export.runtime.session import SessionChoices
from nstx.models.weights.load import Weights

from .feature_sessions import FeatureSession, describe_session, engine_folder
from .kept_graphs import graph_key, open_kept


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedSessions:
    """Sessions that are built from weights, and kept in the cache folder.

    Attributes:
        weights_sha256: of the weight file.
        load: returns the weights; called only if a graph must be built.
        template: pooling, rounding, precision and input of the graphs; its outputs do not count.
        provider: that runs them.
        threads: of the CPU; None takes the physical cores.
        use_cache: whether the cache folder is read and written.
        fixed_shape: (batch, height, width) if the sessions will see no other.
    """

    weights_sha256: str
    load: Callable[[], Weights]
    template: FeatureGraph
    provider: Provider
    threads: int | None = None
    use_cache: bool = True
    fixed_shape: tuple[int, int, int] | None = None

    def open(self, activations: tuple[str, ...], grams: tuple[str, ...]) -> FeatureSession:
        """See `nstx.engine.sessions.feature_sessions.SessionSource`."""
        graph = replace(self.template, activations=activations, grams=grams)
        choices = SessionChoices(
            provider=self.provider,
            threads=self.threads,
            fixed_shape=self.fixed_shape,
            planar=graph.input == "network",
        )
        key = self._key(graph, choices)
        folder = engine_folder(self.provider, self.use_cache, key, self.fixed_shape)
        choices = replace(choices, engine_folder=folder)
        return open_kept(
            key, lambda: self._build(graph), choices, self._describe, use_cache=self.use_cache
        )

    def _describe(self, session: Any) -> FeatureSession:
        return describe_session(session, self.provider, "the cache", self.weights_sha256)

    def _build(self, graph: FeatureGraph) -> bytes:
        from nstx.export.graphs.build_features import build_feature_model

        model: bytes = build_feature_model(graph, self.load()).SerializeToString()
        return model

    def _key(self, graph: FeatureGraph, choices: SessionChoices) -> str:
        description = {"graph": asdict(graph), "description": graph.kind}
        return graph_key(description, self.weights_sha256, choices)
