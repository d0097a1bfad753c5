"""Fields that the JSON of several commands has in common."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nstx.models.cost import Cost
    from nstx.models.weights.load import Weights


def cost_json(cost: "Cost") -> dict[str, Any]:
    """Return a cost as plain data."""
    return {
        "total": cost.total,
        "content": cost.content,
        "style": cost.style,
        "total_variation": cost.total_variation,
        "style_layers": dict(cost.style_layers),
        "content_layers": dict(cost.content_layers),
    }


def extractor_json(extractor: tuple[str, str] | None) -> dict[str, str] | None:
    """Return what computed targets; None if none had to be computed."""
    if extractor is None:
        return None
    name, runs_on = extractor
    return {"name": name, "runs_on": runs_on}


def model_json(
    output: Path, weights: "Weights", parity: dict[str, Any], graph: dict[str, Any], began: float
) -> dict[str, Any]:
    """Return the fields of ``--json`` of an export.

    Args:
        output: of the model.
        weights: that it was built from.
        parity: the report, as plain data.
        graph: what it computes, as plain data.
        began: when the command began, a reading of ``time.perf_counter``.
    """
    from nstx.export.graphs.feature_graph import parity_path

    return {
        "output": str(output),
        "bytes": output.stat().st_size,
        "parity_file": str(parity_path(output)),
        **graph,
        "parity": parity,
        "weights": {"source": weights.source, "sha256": weights.sha256},
        "seconds": round(time.perf_counter() - began, 4),
    }
