"""``nstx export``: ONNX files."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..choices import split_layers
from ..console import Console
from ..grouped import Group, Help, grouped, only, without
from ..lazy import CommandGroup
from ..options import shared as options
from .export_report import describe_features, describe_gradient

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nstx.export.gradient_parity import GradientParity
    from nstx.export.graphs.feature_graph import FeatureGraph
    from nstx.export.parity import ParityReport
    from nstx.export.runtime.providers import Provider
    from nstx.models.objective import Objective

app = typer.Typer(
    cls=CommandGroup,
    add_completion=False,
    help="Write an ONNX file: VGG-19's features, or the cost and its gradient.",
    no_args_is_help=True,
)

_INPUTS = {
    "network": "float32 (batch, 3, height, width), RGB 0–255 minus the mean colour",
    "float32": "float32 (batch, height, width, 3), RGB 0–255",
    "uint8": "uint8 (batch, height, width, 3), RGB",
}

_ModelFile = Annotated[
    Path,
    Help(
        "The file to write; its parity report goes beside it.",
        ("--output", "-o"),
        metavar="FILE.onnx",
    ),
]
_Machine = Annotated[options.Machine, only("weights", "device", "no_cache", device="cpu")]


@app.command()
@grouped
def gradient(
    output: _ModelFile,
    precision: Annotated[str, Help("fp32, or fp16 (convolutions; costs stay fp32).")] = "fp32",
    adam: Annotated[bool, Help("Make Adam's step in the graph, too.")] = False,
    costs_only: Annotated[bool, Help("Leave the gradient out.")] = False,
    region_count: Annotated[
        int,
        Help("Of how many regions there are targets, shares of positions and areas as inputs."),
    ] = 0,
    *,
    objective: Annotated[
        options.GraphObjective, without("content_weight", "style_weight", "tv_weight")
    ],
    machine: _Machine,
    shown: options.Output,
) -> None:
    """Write the cost of an objective with its gradient as one ONNX file of standard operators.

    Pictures, targets and the weights of the costs are inputs; batch, height and width are free. It
    is compared with float64 first.
    """
    began = time.perf_counter()
    from nstx.export.gradient import export_gradient
    from nstx.export.graphs.gradient_graph import GradientGraph
    from nstx.models.objective import objective_to_json

    console = shown.console()
    _check_paths(output, machine.weights)
    graph = GradientGraph(
        objective=options.objective_of(objective),
        precision=precision,  # type: ignore[arg-type]  # checked by the graph
        gradient=not costs_only,
        adam=adam,
        regions=region_count,
    )
    description = {
        "precision": precision,
        "objective": objective_to_json(graph.objective),
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
    }
    export = partial(export_gradient, output, graph)
    provider = _choose_provider(machine)
    data = _export_model(output, description, export, graph.objective, provider, machine, console)
    data["seconds"] = round(time.perf_counter() - began, 4)
    console.result(data, describe_gradient)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs(Group):
    """What the graph takes and gives."""

    layers: Annotated[
        str | None,
        Help(
            "Layers whose activations are outputs, separated by commas; without --layers and "
            "--grams, the preset's content layers.",
            is_list=True,
        ),
    ] = None
    grams: Annotated[
        str | None,
        Help(
            "Layers whose Gram matrices are outputs; without --layers and --grams, the preset's "
            "style layers.",
            is_list=True,
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


@app.command()
@grouped
def features(
    output: _ModelFile,
    outputs: Outputs,
    objective: Annotated[options.GraphObjective, only("preset", "pooling", "rounding")],
    machine: _Machine,
    shown: options.Output,
) -> None:
    """Write VGG-19, truncated at the last layer needed, as one ONNX file.

    Batch, height and width are free. Every output is compared with float64 first.
    """
    began = time.perf_counter()
    from nstx.export.features import export_features

    console = shown.console()
    _check_paths(output, machine.weights, outputs.check_with or [])
    chosen = options.objective_of(objective)
    graph, computed = _choose_graph(outputs, chosen)
    provider = _choose_provider(machine)
    pictures = _read_pictures(outputs.check_with) if outputs.check_with else None
    description = {
        "precision": graph.precision,
        "pooling": graph.pooling,
        "pool_rounding": graph.pool_rounding,
        "truncated_at": graph.network[-1].name,
        "input": {"name": "pixels", "convention": graph.input, "is": _INPUTS[graph.input]},
        "outputs": list(graph.outputs),
    }
    export = partial(export_features, output, graph, objective=computed, pictures=pictures)
    data = _export_model(output, description, export, chosen, provider, machine, console)
    data["seconds"] = round(time.perf_counter() - began, 4)
    console.result(data, describe_features)


def _choose_graph(
    outputs: Outputs, objective: "Objective"
) -> "tuple[FeatureGraph, Objective | None]":
    """Return the graph, and the objective if its layers are the preset's."""
    from nstx.export.graphs.feature_graph import FeatureGraph

    of_preset = outputs.layers is None and outputs.grams is None
    activations, grams = objective.content_names, objective.style_names
    if not of_preset:
        activations = split_layers("layers", outputs.layers)
        grams = split_layers("grams", outputs.grams)
    graph = FeatureGraph(
        activations=activations,
        grams=grams,
        pooling=objective.pooling,
        pool_rounding=objective.pool_rounding,
        precision=outputs.precision,  # type: ignore[arg-type]  # checked by the graph
        input=outputs.convention,  # type: ignore[arg-type]  # checked by the graph
    )
    return graph, objective if of_preset else None


def _read_pictures(paths: list[Path]) -> "NDArray[np.uint8]":
    import numpy as np

    from nstx.engine.pictures.resizing import resize_picture
    from nstx.engine.pictures.writing import to_8_bit
    from nstx.engine.preparation.inputs import take_styles
    from nstx.export.parity import CHECK_HEIGHT, CHECK_WIDTH

    taken = (picture for picture, _ in take_styles(list(paths)))
    return np.stack([to_8_bit(resize_picture(p, CHECK_HEIGHT, CHECK_WIDTH)) for p in taken])


def _check_paths(output: Path, weights: str, pictures: Sequence[Path] = ()) -> None:
    """Check that a model and its report can be written, and are no inputs."""
    from nstx.export.graphs.feature_graph import parity_path
    from nstx.export.model_files import SUFFIXES
    from nstx.models.storage.files import check_distinct, check_output
    from nstx.models.weights.sources import split_source

    check_output(output, SUFFIXES)
    check_distinct([output, parity_path(output)], [split_source(weights)[0], *pictures])


def _choose_provider(machine: options.Machine) -> "Provider":
    from nstx.engine.devices.device import Device, choose_provider_on

    return choose_provider_on(Device.parse(machine.device))


def _export_model(
    output: Path,
    description: dict[str, Any],
    export: "Callable[..., ParityReport | GradientParity]",
    objective: "Objective",
    provider: "Provider",
    machine: options.Machine,
    console: Console,
) -> dict[str, Any]:
    """Write a model, and return the fields of ``--json`` but for the seconds.

    ``description`` is of its graph. ``export`` takes the weights and the ``provider`` that is
    compared with float64. The objective's preprocessing becomes part of them.
    """
    from nstx.export.graphs.feature_graph import parity_path
    from nstx.export.nodes.builder import OPSET
    from nstx.models.weights.load import load_weights

    with console.working("building the graph, comparing it with float64"):
        use_cache = not machine.no_cache
        weights = load_weights(machine.weights, objective.preprocessing, use_cache=use_cache)
        parity = export(weights, provider=provider)
    return {
        "output": str(output),
        "bytes": output.stat().st_size,
        "parity_file": str(parity_path(output)),
        "opset": OPSET,
        **description,
        "parity": parity.to_json(),
        "weights": {"source": weights.source, "sha256": weights.sha256},
    }
