"""``nstx export gradient``: the cost and its gradient as one ONNX file."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import options
from ..console import Console, format_bytes, format_seconds

if TYPE_CHECKING:
    from nstx.export.graphs.gradient_graph import GradientGraph


def gradient(
    output: options.Model,
    preset: options.Preset = "default",
    content_layers: options.ContentLayers = None,
    style_layers: options.StyleLayers = None,
    pooling: options.Pooling = None,
    rounding: options.Rounding = None,
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
    weights: options.Weights = "embedded",
    device: options.Device = "cpu",
    no_cache: options.NoCache = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write the cost of an objective with its gradient as one ONNX file of standard operators.

    Pictures, targets and the weights of the costs are inputs; batch, height and width are free. It
    is compared with float64 first.
    """
    began = time.perf_counter()
    from dataclasses import replace

    from nstx.engine.devices.names import parse_device
    from nstx.engine.settings import choose_settings
    from nstx.export.gradient import export_gradient
    from nstx.export.graphs.feature_graph import parity_path
    from nstx.export.graphs.gradient_graph import GradientGraph
    from nstx.export.model_files import SUFFIXES
    from nstx.export.runtime.providers import choose_provider
    from nstx.models.storage.files import check_distinct, check_output
    from nstx.models.vgg19 import check_pooling
    from nstx.models.weights.load import load_weights

    from ..fields import model_json

    console = Console(as_json=as_json, quiet=quiet)
    check_output(output, SUFFIXES)
    check_distinct([output, parity_path(output)], [Path(weights)])
    objective = choose_settings(
        preset, content_layers=content_layers, style_layers=style_layers, pooling=pooling
    ).objective
    if rounding is not None:
        objective = replace(objective, pool_rounding=check_pooling("avg", rounding)[1])
    graph = GradientGraph(
        objective=objective,
        precision=precision,  # type: ignore[arg-type]  # checked by the graph
        gradient=not costs_only,
        adam=adam,
    )
    provider = choose_provider(*parse_device(device))
    with console.working("building the graph, comparing it with float64"):
        loaded = load_weights(weights, use_cache=not no_cache)
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
