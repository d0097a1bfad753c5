"""`nstx export gradient` as a function: build, check, compare with float64, then write."""

from dataclasses import replace
from pathlib import Path

from ..models.errors import ModelError
from ..models.weights import Weights
from .build_gradient import build_gradient_model
from .gradient_graph import GradientGraph
from .gradient_parity import GradientParity, measure_gradient_parity
from .graph import check_model
from .model_files import check_model_output, write_model
from .providers import CPU, Provider


def export_gradient(
    path: str | Path, graph: GradientGraph, weights: Weights, *, provider: Provider = CPU
) -> GradientParity:
    """Write the cost of an objective with its gradient as one ONNX file, and its parity report.

    Nothing is written unless it agrees with float64. Of a graph with Adam's step, the same graph
    without it is compared: the step has no reference in float64 but the formula.

    Args:
        path: ends in ``.onnx``; the report goes to `nstx.export.feature_graph.parity_path`.
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
    plain = replace(graph, adam=False)
    compared = model
    if graph.adam:
        compared = check_model(build_gradient_model(plain, weights)).SerializeToString()
    report = measure_gradient_parity(compared, plain, weights, provider)
    if not report.passed:
        raise ModelError(
            f"expected a gradient within {report.gradient_tolerance:g} and a cost within "
            f"{report.cost_tolerance:g} of float64, got {report.gradient_error} and "
            f"{report.cost_error}; nothing was written: try --precision fp32, or report this"
        )
    write_model(path, model, graph, weights.sha256, report.to_json())
    return report
