"""What the exports share: where a model goes, and the steps from its graph to the report."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..console import Console
from ..options import Machine

if TYPE_CHECKING:
    from nstx.export.gradient_parity import GradientParity
    from nstx.export.parity import ParityReport
    from nstx.export.runtime.providers import Provider
    from nstx.models.weights.load import Weights

ModelFile = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        help="The file to write; its parity report goes beside it.",
        metavar="FILE.onnx",
        show_default=False,
    ),
]


def check_paths(output: Path, inputs: Sequence[Path]) -> None:
    """Check that a model and its report can be written, and are no inputs.

    Raises:
        OutputError: they cannot, or one is.
    """
    from nstx.export.graphs.feature_graph import parity_path
    from nstx.export.model_files import SUFFIXES
    from nstx.models.storage.files import check_distinct, check_output

    check_output(output, SUFFIXES)
    check_distinct([output, parity_path(output)], inputs)


def export_model(
    output: Path,
    graph: dict[str, Any],
    export: "Callable[[Weights, Provider], ParityReport | GradientParity]",
    machine: Machine,
    console: Console,
) -> dict[str, Any]:
    """Write a model, and return the fields of ``--json`` but for the seconds.

    Args:
        output: of the model.
        graph: what it computes, as plain data.
        export: writes it, and returns how it compares with float64.
        machine: the weights, and the device that the comparison runs on.
        console: shows that it takes a while.
    """
    from nstx.engine.devices.device import Device, choose_provider_on
    from nstx.export.graphs.feature_graph import parity_path
    from nstx.models.weights.load import load_weights

    provider = choose_provider_on(Device.parse(machine.device))
    with console.working("building the graph, comparing it with float64"):
        weights = load_weights(machine.weights, use_cache=not machine.no_cache)
        parity = export(weights, provider)
    return {
        "output": str(output),
        "bytes": output.stat().st_size,
        "parity_file": str(parity_path(output)),
        **graph,
        "parity": parity.to_json(),
        "weights": {"source": weights.source, "sha256": weights.sha256},
    }
