"""Where an ONNX Runtime extractor gets its sessions: graphs built from weights, or one file."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from nstx.export.graphs.feature_graph import FeatureGraph, gram_name
from nstx.export.runtime.session import SessionChoices
from nstx.models.errors import ModelError
from nstx.models.weights.load import Weights

from ..sessions.opening import open_graph, open_model_file
from ..sessions.session import Session


class SessionSource(Protocol):
    """Opens sessions of VGG-19's features."""

    def open(self, activations: tuple[str, ...], grams: tuple[str, ...]) -> Session[FeatureGraph]:
        """Return a session with these outputs, and perhaps others; `ModelError` if it lacks one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltGraphs:
    """Graphs that are built from weights, one for each set of outputs.

    Attributes:
        load: returns the weights; called only if a graph must be built.
        template: pooling, rounding, precision and input of the graphs; its outputs do not count.
    """

    weights_sha256: str
    load: Callable[[], Weights]
    template: FeatureGraph
    choices: SessionChoices
    use_cache: bool = True

    def open(self, activations: tuple[str, ...], grams: tuple[str, ...]) -> Session[FeatureGraph]:
        """Implement `SessionSource`, with exactly these outputs."""
        graph = replace(self.template, activations=activations, grams=grams)

        def build() -> bytes:
            from nstx.export.graphs.build_features import build_feature_model

            model: bytes = build_feature_model(graph, self.load()).SerializeToString()
            return model

        return open_graph(
            graph,
            build,
            replace(self.choices, planar=graph.input == "network"),
            weights_sha256=self.weights_sha256,
            use_cache=self.use_cache,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One exported file, whose outputs are fixed, of certain weights or (None) of any."""

    path: Path
    choices: SessionChoices
    weights_sha256: str | None = None
    use_cache: bool = True

    def open(self, activations: tuple[str, ...], grams: tuple[str, ...]) -> Session[FeatureGraph]:
        """Implement `SessionSource`."""
        session = open_model_file(
            self.path,
            FeatureGraph,
            self.choices,
            weights_sha256=self.weights_sha256,
            use_cache=self.use_cache,
        )
        outputs = session.graph.outputs
        names = (*activations, *map(gram_name, grams))
        missing = [name for name in names if name not in outputs]
        if missing:
            raise ModelError(
                f"expected the outputs {', '.join(missing)} in {self.path}, got "
                f"{', '.join(outputs)}; try 'nstx export features' with these layers"
            )
        return session


def model_activations(path: Path) -> tuple[str, ...]:
    """Return the layers whose activations an exported file has; `ModelError` if it has none."""
    graph = ModelFile(path=path, choices=SessionChoices()).open((), ()).graph
    if not graph.activations:
        raise ModelError(
            f"expected activations in {path}, got {', '.join(graph.outputs)}; "
            "try 'nstx export features --layers …', as Gram matrices are not drawn"
        )
    return graph.activations
