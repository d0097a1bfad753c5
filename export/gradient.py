"""`nstx export gradient` as a function: build, check, compare with float64, then write."""

from pathlib import Path

from nstx.models.weights.load import Weights, prepare_weights

from .gradient_parity import GradientParity, measure_gradient_parity
from .graphs.build_gradient import build_gradient_model
from .graphs.gradient_graph import GradientGraph
from .model_files import check_model_output, write_model
from .nodes.builder import check_model
from .runtime.providers import CPU, Provider


def export_gradient(
    path: str | Path, graph: GradientGraph, weights: Weights, *, provider: Provider = CPU
) -> GradientParity:
    """Write an objective's cost and gradient as one ONNX file, its parity report beside it.

    Neither is written, and `ModelError` is raised, unless it agrees with float64.
    """
    path = Path(path)
    check_model_output(path)
    weights = prepare_weights(weights, graph.objective.preprocessing)
    model = check_model(build_gradient_model(graph, weights)).SerializeToString()
    report = measure_gradient_parity(model, graph, weights, provider)
    write_model(path, model, graph, weights.sha256, report)
    return report
