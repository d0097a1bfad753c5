"""``nstx export gradient``: the cost and its gradient as one ONNX file."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import options
from ..formats import format_bytes, format_seconds
from ..grouped import grouped, only, without
from .export_model import ModelFile, check_paths, export_model

if TYPE_CHECKING:
    from nstx.export.gradient_parity import GradientParity
    from nstx.export.graphs.gradient_graph import GradientGraph
    from nstx.export.runtime.providers import Provider
    from nstx.models.weights.load import Weights


@grouped
def gradient(
    output: ModelFile,
    precision: Annotated[
        str,
        typer.Option("--precision", help="fp32, or fp16 (convolutions; costs stay fp32)."),
    ] = "fp32",
    adam: Annotated[
        bool, typer.Option("--adam", help="Make Adam's step in the graph, too.")
    ] = False,
    costs_only: Annotated[
        bool, typer.Option("--costs-only", help="Leave the gradient out.")
    ] = False,
    *,
    objective: Annotated[
        options.GraphObjective, without("content_weight", "style_weight", "tv_weight")
    ],
    machine: Annotated[options.Machine, only("weights", "device", "no_cache", device="cpu")],
    shown: options.Output,
) -> None:
    """Write the cost of an objective with its gradient as one ONNX file of standard operators.

    Pictures, targets and the weights of the costs are inputs; batch, height and width are free. It
    is compared with float64 first.
    """
    began = time.perf_counter()
    from nstx.export.gradient import export_gradient
    from nstx.export.graphs.gradient_graph import GradientGraph

    console = shown.console()
    check_paths(output, [Path(machine.weights)])
    graph = GradientGraph(
        objective=options.objective_of(objective),
        precision=precision,  # type: ignore[arg-type]  # checked by the graph
        gradient=not costs_only,
        adam=adam,
    )

    def export(weights: "Weights", provider: "Provider") -> "GradientParity":
        return export_gradient(output, graph, weights, provider=provider)

    data = export_model(output, _graph_json(graph), export, machine, console)
    data["seconds"] = round(time.perf_counter() - began, 4)
    console.result(_describe(data), data)


def _graph_json(graph: "GradientGraph") -> dict[str, Any]:
    from nstx.export.graphs.builder import OPSET

    return {
        "opset": OPSET,
        "precision": graph.precision,
        "objective": asdict(graph.objective),
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
    }


def _describe(data: dict[str, Any]) -> str:
    parity = data["parity"]
    errors = f"cost {parity['cost_error']:.1e} (at most {parity['cost_tolerance']:g})"
    if parity["gradient_errors"]:
        gradients = ", ".join(f"{error:.1e}" for error in parity["gradient_errors"])
        errors = f"gradients {gradients}, {errors}"
    if parity["step_error"] is not None:
        errors += f", Adam's step {parity['step_error']:.1e} pixel values"
    size = format_bytes(data["bytes"])
    where = f"{parity['batch']} pictures of {parity['width']}×{parity['height']}"
    lines = [
        f"saved {data['output']}  {size}, {data['precision']}, opset {data['opset']}",
        f"  inputs   {', '.join(data['inputs'])}",
        f"  outputs  {', '.join(data['outputs'])}",
        f"  against float64, relative: {errors}",
        f"           on {where} by {parity['provider']}",
        f"  report   {data['parity_file']}, in {format_seconds(data['seconds'])}",
    ]
    return "\n".join(lines)
