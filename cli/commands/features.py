"""``nstx features``: pictures of a layer's activations."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import options
from ..console import format_seconds
from ..grouped import DEFAULT, grouped, only

if TYPE_CHECKING:
    from nstx.engine.drawing.feature_sheets import LayerPictures

app = typer.Typer(add_completion=False)


@app.command()
@grouped
def features(
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
        str | None,
        typer.Option(
            "--layers",
            help="Layers, separated by commas, such as conv4_2, relu4_2, pool4. Without it, those "
            "of the presets, or all of a model file.",
        ),
    ] = None,
    strongest: Annotated[
        int,
        typer.Option("--strongest", help="Channels on each sheet, those with the largest mean."),
    ] = 16,
    channels: Annotated[
        bool, typer.Option("--channels", help="Also write one picture per channel.")
    ] = False,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            help="Run this file of 'nstx export features' instead of the weights.",
            metavar="FILE.onnx",
        ),
    ] = None,
    *,
    size: Annotated[options.Size, only("size")],
    objective: Annotated[options.GraphObjective, only("pooling", "rounding")],
    machine: Annotated[
        options.Machine, only("extractor", "device", "weights", "threads", "no_cache")
    ],
    shown: options.Output,
) -> None:
    """Show what VGG-19 sees in IMAGE: a sheet of each layer's strongest channels."""
    began = time.perf_counter()
    from nstx.engine.drawing.feature_sheets import write_feature_sheets
    from nstx.engine.features.activations import extract_features
    from nstx.engine.features.opening import Extraction
    from nstx.engine.pictures.reading import read_image
    from nstx.models.storage.files import check_distinct, check_folder
    from nstx.models.vgg19 import check_pooling, split_layers

    from ..choices import check_count

    console = shown.console()
    pooling, rounding = objective.pooling, objective.rounding
    check_count("--strongest", strongest, 512)
    extraction = Extraction(
        extractor=machine.extractor,  # type: ignore[arg-type]  # it is checked there
        device=machine.device,
        pooling=None if pooling is None else check_pooling(pooling, "ceil")[0],
        pool_rounding=None if rounding is None else check_pooling("avg", rounding)[1],
        weights=_named_weights(machine),
        model=model,
        threads=machine.threads,
        use_cache=not machine.no_cache,
    )
    names = None if layers is None else split_layers(layers)
    picture = read_image(image)
    check_folder(output)
    with console.working("evaluating the network"):
        long_side = 512 if size.size is None else size.size
        found = extract_features(picture, names, size=long_side, extraction=extraction)
    extracted = time.perf_counter()
    activations = found.features.activations
    check_distinct([output / f"{name}.png" for name in activations], [image])
    with console.counting("drawing", len(activations)) as advance:
        written = write_feature_sheets(
            output, activations, strongest=strongest, channels=channels, on_layer=advance
        )
    seconds = {"extract": extracted - began, "total": time.perf_counter() - began}
    data = {
        "image": str(image),
        "width": found.width,
        "height": found.height,
        "output": str(output),
        "extractor": {"name": found.extractor, "runs_on": found.runs_on},
        "layers": [_layer_json(layer) for layer in written],
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
    }
    console.result(_describe(data), data)


def _named_weights(machine: options.Machine) -> str | None:
    """Return the weights if they were chosen: a model file brings its own, and must be of these."""
    return None if machine.sources["weights"] == DEFAULT else machine.weights


def _layer_json(layer: "LayerPictures") -> dict[str, Any]:
    channels = [str(path) for path in layer.channels]
    return {**asdict(layer.summary), "sheet": str(layer.sheet), "channels": channels}


def _describe(data: dict[str, Any]) -> str:
    ran = data["extractor"]
    lines = [f"{data['image']}  {data['width']}×{data['height']}"]
    lines.append(
        f"  {'layer':<9} {'(1, h, w, channels)':<21} {'largest':>9} {'mean':>9} {'zero':>5}  sheet"
    )
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
