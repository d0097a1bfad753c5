"""``nstx features``: pictures of a layer's activations."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nstx.models.errors import UsageError

from . import options
from .console import Console, format_seconds

if TYPE_CHECKING:
    from nstx.engine.feature_sheets import LayerPictures


def features(
    context: typer.Context,
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE", help="The picture.", show_default=False)
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The folder for the pictures; made if need be.",
            metavar="DIR",
            show_default=False,
        ),
    ],
    layers: Annotated[
        str,
        typer.Option("--layers", help="Layers, separated by commas: conv4_2, relu4_2, pool4."),
    ] = "conv1_1,conv2_1,conv3_1,conv4_1,conv4_2,conv5_1",
    strongest: Annotated[
        int, typer.Option("--strongest", help="Channels on each sheet, by their mean.")
    ] = 16,
    channels: Annotated[
        bool, typer.Option("--channels", help="Also write one picture per channel.")
    ] = False,
    size: options.Size = None,
    pooling: Annotated[str, typer.Option("--pooling", help="avg or max.")] = "avg",
    rounding: Annotated[
        str, typer.Option("--rounding", help="Of odd sizes by a pooling: ceil or floor.")
    ] = "ceil",
    extractor: options.Extractor = "auto",
    device: options.Device = "auto",
    weights: options.Weights = "embedded",
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            help="Run this file of 'nstx export features' instead of the weights.",
            metavar="FILE.onnx",
        ),
    ] = None,
    threads: options.Threads = None,
    no_cache: options.NoCache = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show what VGG-19 sees in IMAGE: a sheet of each layer's strongest channels."""
    began = time.perf_counter()
    from nstx.engine.extractors import Extraction
    from nstx.engine.feature_sheets import write_feature_sheets
    from nstx.engine.features import extract_features
    from nstx.engine.images import read_image
    from nstx.models.files import check_folder
    from nstx.models.vgg19 import check_pooling, split_layers

    from .choices import check_count

    if model is not None:
        _refuse_poolings(context)
    console = Console(as_json=as_json, quiet=quiet)
    names = split_layers(layers)
    kind, direction = check_pooling(pooling, rounding)
    check_count("--strongest", strongest, 512)
    extraction = Extraction(
        extractor=extractor,
        device=device,
        pooling=kind,
        pool_rounding=direction,
        weights=_named_weights(context, weights),
        model=model,
        threads=threads,
        use_cache=not no_cache,
    )
    picture = read_image(image)
    check_folder(output)
    with console.working("evaluating the network"):
        found = extract_features(picture, names, size=size or 512, extraction=extraction)
    extracted = time.perf_counter()
    with console.counting("drawing", len(names)) as advance:
        written = write_feature_sheets(
            output,
            found.features.activations,
            strongest=strongest,
            channels=channels,
            on_layer=advance,
        )
    data = {
        "image": str(image),
        "width": found.width,
        "height": found.height,
        "output": str(output),
        "extractor": {"name": found.extractor, "runs_on": found.runs_on},
        "layers": [_layer_json(layer) for layer in written],
        "seconds": {
            "total": round(time.perf_counter() - began, 4),
            "extract": round(extracted - began, 4),
        },
    }
    console.result(_describe(data), data)


def _refuse_poolings(context: typer.Context) -> None:
    """A model file has its pooling already."""
    for name in ("pooling", "rounding"):
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise UsageError(
                f"expected --model without --{name}, as the file has its own, got both; "
                f"try 'nstx export features --{name} …'"
            )


def _named_weights(context: typer.Context, weights: str) -> str | None:
    """Return the weights if they were chosen: a model file brings its own, and must be of these."""
    source = context.get_parameter_source("weights")
    return None if source is None or source.name == "DEFAULT" else weights


def _layer_json(layer: "LayerPictures") -> dict[str, Any]:
    channels = [str(path) for path in layer.channels]
    return {**asdict(layer.summary), "sheet": str(layer.sheet), "channels": channels}


def _describe(data: dict[str, Any]) -> str:
    ran = data["extractor"]
    lines = [f"{data['image']}  {data['width']}×{data['height']}"]
    lines.append(f"  {'layer':<9} {'shape':<21} {'largest':>9} {'mean':>9} {'zero':>5}  sheet")
    lines += [
        f"  {layer['name']:<9} {layer['shape']!s:<21} {layer['largest']:>9.4g} "
        f"{layer['mean']:>9.4g} {layer['zero_share']:>5.0%}  {layer['sheet']}"
        for layer in data["layers"]
    ]
    count = sum(len(layer["channels"]) for layer in data["layers"])
    if count:
        lines.append(f"  and {count} single channels in {data['output']}")
    lines.append(
        f"  by {ran['name']} on {ran['runs_on']}, in {format_seconds(data['seconds']['total'])}"
    )
    return "\n".join(lines)
