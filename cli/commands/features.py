"""``nstx features``: pictures of a layer's activations."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nstx.models.errors import UsageError, about
from nstx.models.vgg19 import check_pooling

from ..console import Console
from ..formats import format_seconds
from ..grouped import Group, Help, argument, grouped, only
from ..options import shared as options
from ..sources import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from nstx.engine.drawing.feature_sheets import LayerPictures
    from nstx.engine.features.extraction import Extraction

app = typer.Typer(add_completion=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheets(Group):
    """What is drawn, and of which layers."""

    output: Annotated[
        Path,
        Help("The folder for the pictures; made if need be.", ("--output", "-o"), metavar="DIR"),
    ]
    layers: Annotated[
        str | None,
        Help(
            "Layers, separated by commas, such as conv4_2, relu4_2, pool4. Without it, those of "
            "the presets, or all of a model file.",
            is_list=True,
        ),
    ] = None
    strongest: Annotated[int, Help("Channels on each sheet, those with the largest mean.")] = 16
    channels: Annotated[bool, Help("Also write one picture per channel.")] = False
    model: Annotated[
        Path | None,
        Help(
            "Run this file of 'nstx export features' instead of the weights.", metavar="FILE.onnx"
        ),
    ] = None


@app.command()
@grouped
def features(
    image: Annotated[Path, argument("The picture.", "IMAGE")],
    sheets: Sheets,
    size: Annotated[options.Size, only("size")],
    objective: Annotated[options.GraphObjective, only("pooling", "rounding")],
    machine: Annotated[
        options.Machine, only("extractor", "device", "weights", "threads", "no_cache")
    ],
    shown: options.Output,
) -> None:
    """Show what VGG-19 sees in IMAGE: a sheet of each layer's strongest channels."""
    began = time.perf_counter()
    from nstx.engine.features.extraction import FEATURE_LAYERS, extract_features
    from nstx.engine.pictures.reading import read_image
    from nstx.models.storage.files import check_file, check_new_files
    from nstx.models.vgg19 import split_layers

    console = shown.console()
    if not 1 <= sheets.strongest <= 512:
        raise UsageError(
            f"expected 1 … 512 channels a sheet, got {sheets.strongest}; try --strongest 16",
            setting="strongest",
        )
    extraction = _choose_extraction(sheets.model, objective, machine)
    with about("layers"):
        names = None if sheets.layers is None else split_layers(sheets.layers)
    picture = read_image(image)
    check_new_files(sheets.output)
    for name in names or FEATURE_LAYERS:
        check_file(_sheet(sheets, name))
    with console.working("evaluating the network"):
        long_side = 512 if size.size is None else size.size
        extracted = extract_features(picture, names, size=long_side, extraction=extraction)
    extract_seconds = time.perf_counter() - began
    layers = _draw(sheets, extracted.features.activations, image, console)
    seconds = {"extract": extract_seconds, "total": time.perf_counter() - began}
    data = {
        "image": str(image),
        "width": extracted.width,
        "height": extracted.height,
        "output": str(sheets.output),
        "extractor": {"name": extracted.extractor, "runs_on": extracted.runs_on},
        "layers": [_layer_json(layer) for layer in layers],
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
    }
    console.result(data, _describe)


def _choose_extraction(
    model: Path | None, objective: options.GraphObjective, machine: options.Machine
) -> "Extraction":
    from nstx.engine.features.extraction import Extraction

    # A model file brings its weights, and is compared with those that were chosen, if any were.
    weights = None if machine.sources["weights"] == DEFAULT else machine.weights
    pooling, rounding = objective.pooling, objective.rounding
    return Extraction(
        extractor=machine.extractor,  # type: ignore[arg-type]  # checked by the extraction
        device=machine.device,
        pooling=None if pooling is None else check_pooling(pooling, "ceil")[0],
        pool_rounding=None if rounding is None else check_pooling("avg", rounding)[1],
        weights=weights,
        model=model,
        threads=machine.threads,
        use_cache=not machine.no_cache,
    )


def _sheet(sheets: Sheets, layer: str) -> Path:
    return sheets.output / f"{layer}.png"


def _draw(
    sheets: Sheets, activations: "Mapping[str, NDArray[np.float32]]", image: Path, console: Console
) -> "Sequence[LayerPictures]":
    from nstx.engine.drawing.feature_sheets import write_feature_sheets
    from nstx.models.storage.files import check_distinct

    check_distinct([_sheet(sheets, name) for name in activations], [image])
    with console.counting("drawing", len(activations)) as advance:
        return write_feature_sheets(
            sheets.output,
            activations,
            strongest=sheets.strongest,
            channels=sheets.channels,
            on_layer=advance,
        )


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
