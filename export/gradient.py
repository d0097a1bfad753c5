"""`nstx export gradient` as a function: build, check, compare with float64, then write."""

from pathlib import Path

from nstx.models.weights.load import Weights

from .gradient_parity import GradientParity, measure_gradient_parity
from .graphs.build_gradient import build_gradient_model
from .graphs.builder import check_model
from .graphs.gradient_graph import GradientGraph
from .model_files import check_model_output, write_model
from .runtime.providers import CPU, Provider


def export_gradient(
    path: str | Path, graph: GradientGraph, weights: Weights, *, provider: Provider = CPU
) -> GradientParity:
    """Write the cost of an objective with its gradient as one ONNX file, and its parity report.

    Nothing is written unless it agrees with float64, Adam's step included.

    Args:
        path: ends in ``.onnx``; the report goes to `nstx.export.graphs.feature_graph.parity_path`.
        graph: what the file computes.
        weights: of VGG-19.
        provider: that runs the graph for the comparison.

    Raises:
        OutputError: the file cannot be written there.
        ModelError: cost or gradient differ from float64 by more than the tolerance.
        DeviceError: the provider is not there.
    """
    path = Path(path)
    check_model_output(path)
    model = check_model(build_gradient_model(graph, weights)).SerializeToString()
    report = measure_gradient_parity(model, graph, weights, provider)
    write_model(path, model, graph, weights.sha256, report)
    return report
