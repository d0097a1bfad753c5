"""``nstx export features``: VGG-19's features as one ONNX file."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import options
from ..console import format_bytes, format_seconds
from ..grouped import grouped, only

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nstx.export.graphs.feature_graph import FeatureGraph
    from nstx.models.objective import Objective

_INPUTS = {
    "network": "float32 (batch, 3, height, width), RGB 0–255 minus the mean colour",
    "float32": "float32 (batch, height, width, 3), RGB 0–255",
    "uint8": "uint8 (batch, height, width, 3), RGB",
}


@grouped
def features(
    output: options.ModelFile,
    layers: Annotated[
        str | None,
        typer.Option(
            "--layers",
            help="Layers whose activations are outputs, separated by commas; without "
            "--layers and --grams, the preset's content layers.",
        ),
    ] = None,
    grams: Annotated[
        str | None,
        typer.Option(
            "--grams",
            help="Layers whose Gram matrices are outputs; without --layers and --grams, "
            "the preset's style layers.",
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option("--precision", help="fp32, or fp16 (convolutions; Gram matrices stay fp32)."),
    ] = "fp32",
    convention: Annotated[
        str,
        typer.Option(
            "--input",
            help="What the graph takes: network (float32 NCHW minus the mean), float32 or uint8 "
            "(NHWC, RGB 0–255).",
        ),
    ] = "network",
    check_with: Annotated[
        list[Path] | None,
        typer.Option(
            "--check-with",
            help="A picture to compare on, at 317×211; can be repeated; without it, three are made.",
        ),
    ] = None,
    *,
    objective: Annotated[options.GraphObjective, only("preset", "pooling", "rounding")],
    machine: Annotated[options.Machine, only("weights", "device", "no_cache", device="cpu")],
    shown: options.Output,
) -> None:
    """Write VGG-19, truncated at the last layer needed, as one ONNX file.

    Batch, height and width are free. Every output is compared with float64 first.
    """
    began = time.perf_counter()
    from nstx.engine.devices.device import Device, choose_provider_on
    from nstx.export.features import export_features
    from nstx.export.graphs.feature_graph import parity_path
    from nstx.export.model_files import SUFFIXES
    from nstx.models.storage.files import check_distinct, check_output
    from nstx.models.weights.load import load_weights

    from ..fields import model_json

    console = shown.console()
    check_output(output, SUFFIXES)
    inputs = [Path(machine.weights), *(check_with or [])]
    check_distinct([output, parity_path(output)], inputs)
    graph, computed = _choose_graph(objective, layers, grams, precision, convention)
    provider = choose_provider_on(Device.parse(machine.device))
    pictures = _read_pictures(check_with) if check_with else None
    with console.working("building the graph, comparing it with float64"):
        loaded = load_weights(machine.weights, use_cache=not machine.no_cache)
        report = export_features(
            output, graph, loaded, objective=computed, pictures=pictures, provider=provider
        )
    data = model_json(output, loaded, report.to_json(), _graph_json(graph), began)
    console.result(_describe(data), data)


def _choose_graph(
    group: options.GraphObjective,
    layers: str | None,
    grams: str | None,
    precision: str,
    convention: str,
) -> "tuple[FeatureGraph, Objective | None]":
    """Return the graph, and the objective if its layers are the preset's."""
    from nstx.export.graphs.feature_graph import FeatureGraph
    from nstx.models.vgg19 import split_layers

    objective = options.objective_of(group)
    of_preset = layers is None and grams is None
    content = tuple(item.layer for item in objective.content_layers)
    style = tuple(item.layer for item in objective.style_layers)
    graph = FeatureGraph(
        activations=content if of_preset else split_layers(layers) if layers else (),
        grams=style if of_preset else split_layers(grams) if grams else (),
        pooling=objective.pooling,
        pool_rounding=objective.pool_rounding,
        precision=precision,  # type: ignore[arg-type]  # checked by the graph
        input=convention,  # type: ignore[arg-type]  # checked by the graph
    )
    return graph, objective if of_preset else None


def _read_pictures(paths: list[Path]) -> "NDArray[np.uint8]":
    import numpy as np

    from nstx.engine.pictures.reading import read_image
    from nstx.engine.pictures.resizing import resize_picture
    from nstx.engine.pictures.writing import to_8_bit
    from nstx.export.parity import CHECK_HEIGHT, CHECK_WIDTH

    pictures = [resize_picture(read_image(path), CHECK_HEIGHT, CHECK_WIDTH) for path in paths]
    return np.stack([to_8_bit(pixels) for pixels in pictures])


def _graph_json(graph: "FeatureGraph") -> dict[str, Any]:
    from nstx.export.graphs.builder import OPSET

    return {
        "opset": OPSET,
        "precision": graph.precision,
        "pooling": graph.pooling,
        "pool_rounding": graph.pool_rounding,
        "truncated_at": graph.network[-1].name,
        "input": {"name": "pixels", "convention": graph.input, "is": _INPUTS[graph.input]},
        "outputs": list(graph.outputs),
    }


def _describe(data: dict[str, Any]) -> str:
    parity = data["parity"]
    network = f"VGG-19 to {data['truncated_at']}, {data['precision']}, opset {data['opset']}"
    stored = "  stored in fp16" if parity["precision"] == "fp16" else ""
    pictures = "a picture" if parity["batch"] == 1 else f"{parity['batch']} pictures"
    lines = [
        f"saved {data['output']}  {format_bytes(data['bytes'])}, {network}",
        f"  input   {data['input']['name']}: {data['input']['is']}",
        f"  {'output':<14} {'shape here':<18} {'largest':>9}  relative error{stored}",
    ]
    lines += [
        f"  {item['name']:<14} {' × '.join(map(str, item['shape'])):<18} "
        f"{item['largest']:>9.3g}  {item['relative_error']:.1e}"
        + (f"         {item['fp16_storage_error']:.1e}" if stored else "")
        for item in parity["outputs"]
    ]
    lines.append(
        f"  against float64 on {pictures} of {parity['width']}×{parity['height']} "
        f"by {parity['provider']}: at most {parity['tolerance']:g} is allowed"
    )
    if parity["precision"] == "fp16" and not parity["fp16_arithmetic"]:
        lines.append(
            "  this provider rounds only weights to fp16; the last column is of activations "
            "in fp16 too, as on a GPU"
        )
    lines.append(f"  report  {data['parity_file']}, in {format_seconds(data['seconds'])}")
    return "\n".join(lines)
