"""`nstx export gradient` as a function: build, check, compare with float64, then write."""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

from ..models.errors import ModelError, OutputError
from ..models.files import check_output, write_output
from ..models.seals import seal
from ..models.weights import Weights
from .build_gradient import build_gradient_model
from .feature_graph import parity_path
from .features import SUFFIXES
from .gradient_graph import GradientGraph
from .gradient_parity import GradientParity, measure_gradient_parity
from .graph import OPSET, check_model
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
    check_output(path, SUFFIXES)
    check_output(parity_path(path), (".json",))
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
    model = seal(model)
    data = {
        "model_sha256": hashlib.sha256(model).hexdigest(),
        "opset": OPSET,
        "graph": asdict(graph),
        "weights_sha256": weights.sha256,
        **report.to_json(),
    }
    write_output(path, model)
    try:
        write_output(parity_path(path), (json.dumps(data, indent=2) + "\n").encode())
    except OutputError:
        path.unlink(missing_ok=True)
        raise
    return report
