"""``nstx export gradient``: the cost and its gradient as one ONNX file."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import options
from ..console import format_bytes, format_seconds
from ..grouped import grouped, only, without

if TYPE_CHECKING:
    from nstx.export.graphs.gradient_graph import GradientGraph


@grouped
def gradient(
    output: options.ModelFile,
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
    from nstx.engine.devices.device import Device, choose_provider_on
    from nstx.export.gradient import export_gradient
    from nstx.export.graphs.feature_graph import parity_path
    from nstx.export.graphs.gradient_graph import GradientGraph
    from nstx.export.model_files import SUFFIXES
    from nstx.models.storage.files import check_distinct, check_output
    from nstx.models.weights.load import load_weights

    from ..fields import model_json

    console = shown.console()
    check_output(output, SUFFIXES)
    check_distinct([output, parity_path(output)], [Path(machine.weights)])
    computed = options.objective_of(objective)
    graph = GradientGraph(
        objective=computed,
        precision=precision,  # type: ignore[arg-type]  # checked by the graph
        gradient=not costs_only,
        adam=adam,
    )
    provider = choose_provider_on(Device.parse(machine.device))
    with console.working("building the graph, comparing it with float64"):
        loaded = load_weights(machine.weights, use_cache=not machine.no_cache)
        report = export_gradient(output, graph, loaded, provider=provider)
    data = model_json(output, loaded, report.to_json(), _graph_json(graph), began)
    console.result(_describe(data), data)


def _graph_json(graph: "GradientGraph") -> dict[str, Any]:
    from dataclasses import asdict

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
        found = ", ".join(f"{error:.1e}" for error in parity["gradient_errors"])
        errors = f"gradients {found}, {errors}"
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
