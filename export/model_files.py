"""Writing an exported model with its parity report beside it: sealed, and both or neither."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from nstx.models.errors import OutputError
from nstx.models.storage.files import check_output, write_output
from nstx.models.storage.seals import digest_bytes, seal

from .graphs.feature_graph import FeatureGraph, parity_path
from .graphs.gradient_graph import GradientGraph
from .nodes.builder import OPSET

SUFFIXES = (".onnx",)


class Report(Protocol):
    """What was measured of a model before it is written."""

    def check(self) -> None:
        """Raise `ModelError` if the model must not be used."""

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data."""


def check_model_output(path: Path) -> None:
    """Check, before any work, that a model and its report can be written; `OutputError` if not."""
    check_output(path, SUFFIXES)
    check_output(parity_path(path), (".json",))


def write_model(
    path: Path, model: bytes, graph: FeatureGraph | GradientGraph, sha256: str, report: Report
) -> None:
    """Write a model, with its checksum in the place of `NO_SEAL`, and its report at `parity_path`.

    Neither is there if the report objects (`ModelError`) or one cannot be written (`OutputError`).
    """
    report.check()
    model = seal(model)
    data = {
        "model_sha256": digest_bytes(model),
        "opset": OPSET,
        "graph": asdict(graph),
        "weights_sha256": sha256,
        **report.to_json(),
    }
    write_output(path, model)
    try:
        write_output(parity_path(path), (json.dumps(data, indent=2) + "\n").encode())
    except OutputError:
        path.unlink(missing_ok=True)
        raise
