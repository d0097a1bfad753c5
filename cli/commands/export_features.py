"""``nstx export features``: VGG-19's features as one ONNX file."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from .. import options
from ..formats import format_bytes, format_seconds
from ..grouped import Group, Help, grouped, only
from .export_model import ModelFile, check_paths, export_model

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nstx.export.graphs.feature_graph import FeatureGraph
    from nstx.export.parity import ParityReport
    from nstx.export.runtime.providers import Provider
    from nstx.models.objective import Objective
    from nstx.models.weights.load import Weights

_INPUTS = {
    "network": "float32 (batch, 3, height, width), RGB 0–255 minus the mean colour",
    "float32": "float32 (batch, height, width, 3), RGB 0–255",
    "uint8": "uint8 (batch, height, width, 3), RGB",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs(Group):
    """What the graph takes and gives."""

    variables: ClassVar[bool] = False

    layers: Annotated[
        str | None,
        Help(
            "Layers whose activations are outputs, separated by commas; without --layers and "
            "--grams, the preset's content layers."
        ),
    ] = None
    grams: Annotated[
        str | None,
        Help(
            "Layers whose Gram matrices are outputs; without --layers and --grams, the preset's "
            "style layers."
        ),
    ] = None
    precision: Annotated[str, Help("fp32, or fp16 (convolutions; Gram matrices stay fp32).")] = (
        "fp32"
    )
    convention: Annotated[
        str,
        Help(
            "What the graph takes: network (float32 NCHW minus the mean), float32 or uint8 (NHWC, "
            "RGB 0–255).",
            ("--input",),
        ),
    ] = "network"
    check_with: Annotated[
        list[Path] | None,
        Help("A picture to compare on, at 317×211; can be repeated; without it, three are made."),
    ] = None


@grouped
def features(
    output: ModelFile,
    outputs: Outputs,
    objective: Annotated[options.GraphObjective, only("preset", "pooling", "rounding")],
    machine: Annotated[options.Machine, only("weights", "device", "no_cache", device="cpu")],
    shown: options.Output,
) -> None:
    """Write VGG-19, truncated at the last layer needed, as one ONNX file.

    Batch, height and width are free. Every output is compared with float64 first.
    """
    began = time.perf_counter()
    from nstx.export.features import export_features

    console = shown.console()
    check_paths(output, [Path(machine.weights), *(outputs.check_with or [])])
    graph, computed = _choose_graph(outputs, options.objective_of(objective))
    pictures = _read_pictures(outputs.check_with) if outputs.check_with else None

    def export(weights: "Weights", provider: "Provider") -> "ParityReport":
        return export_features(
            output, graph, weights, objective=computed, pictures=pictures, provider=provider
        )

    data = export_model(output, _graph_json(graph), export, machine, console)
    data["seconds"] = round(time.perf_counter() - began, 4)
    console.result(_describe(data), data)


def _choose_graph(
    outputs: Outputs, objective: "Objective"
) -> "tuple[FeatureGraph, Objective | None]":
    """Return the graph, and the objective if its layers are the preset's."""
    from nstx.export.graphs.feature_graph import FeatureGraph
    from nstx.models.vgg19 import split_layers

    layers, grams = outputs.layers, outputs.grams
    of_preset = layers is None and grams is None
    content = tuple(item.layer for item in objective.content_layers)
    style = tuple(item.layer for item in objective.style_layers)
    graph = FeatureGraph(
        activations=content if of_preset else split_layers(layers) if layers else (),
        grams=style if of_preset else split_layers(grams) if grams else (),
        pooling=objective.pooling,
        pool_rounding=objective.pool_rounding,
        precision=outputs.precision,  # type: ignore[arg-type]  # checked by the graph
        input=outputs.convention,  # type: ignore[arg-type]  # checked by the graph
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
