"""`nstx export features` as a function: build, check, compare with float64, then write."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nstx.models.arguments import check_arguments
from nstx.models.errors import UsageError
from nstx.models.objective import Objective
from nstx.models.weights.load import Weights

from .graphs.build_features import build_feature_model
from .graphs.feature_graph import FeatureGraph
from .model_files import check_model_output, write_model
from .nodes.builder import check_model
from .parity import ParityReport, measure_parity
from .runtime.providers import CPU, Provider


@check_arguments
def export_features(
    path: str | Path,
    graph: FeatureGraph,
    weights: Weights,
    *,
    objective: Objective | None = None,
    pictures: NDArray[np.uint8] | None = None,
    provider: Provider = CPU,
) -> ParityReport:
    """Write VGG-19's features as one ONNX file, and its parity report beside it (`parity_path`).

    Nothing is written, and `ModelError` is raised, unless every output agrees with float64 and no
    activation of an fp16 graph comes near to overflowing.

    Args:
        path: ends in ``.onnx``; OutputError if it cannot be written.
        graph: what the file computes.
        weights: of VGG-19.
        objective: that the outputs serve, for the file's metadata; its pooling is the graph's.
        pictures: uint8 (batch, height, width, 3), to compare on; None makes some.
        provider: that runs the graph for the comparison.
    """
    path = Path(path)
    check_model_output(path)
    if pictures is not None and (pictures.ndim != 4 or pictures.shape[3] != 3 or not pictures.size):
        raise UsageError(
            f"expected pictures (batch, height, width, 3), got {pictures.shape}; try pictures=None"
        )
    if objective is not None:
        objective = replace(objective, pooling=graph.pooling, pool_rounding=graph.pool_rounding)
    model = check_model(build_feature_model(graph, weights, objective)).SerializeToString()
    report = measure_parity(model, graph, weights, pictures, provider)
    write_model(path, model, graph, weights.sha256, report)
    return report
