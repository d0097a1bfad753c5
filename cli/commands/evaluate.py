"""``nstx evaluate``: the yardstick."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nstx.models.errors import UsageError, about

from ..formats import format_cost
from ..grouped import Help, argument, grouped, only
from ..options import regions
from ..options import shared as options
from ..sources import COMMAND_LINE

if TYPE_CHECKING:
    from nstx.engine.pictures.picture import WeightedPicture
    from nstx.models.objective import Objective

app = typer.Typer(add_completion=False)


@app.command()
@grouped
def evaluate(
    image: Annotated[Path, argument("The picture to evaluate.", "IMAGE")],
    content: Annotated[Path, Help("The content picture.")],
    styles: Annotated[
        list[str] | None,
        Help("A style picture, as PATH or PATH:weight; can be repeated.", ("--style",)),
    ] = None,
    *,
    objective: options.Objective,
    colours: options.Colours,
    region: regions.Regions,
    size: Annotated[options.Size, only("style_scale", "size")],
    machine: Annotated[options.Machine, only("weights", "no_cache")],
    shown: options.Output,
    artefacts: Annotated[
        bool, Help("Measure ripple, rim, speckles and untouched areas as well (docs/quality.md).")
    ] = False,
) -> None:
    """Print the cost of any picture, computed in float64 apart from the fast paths.

    The content and style pictures are brought to the size that goes with IMAGE's. --size reduces IMAGE first, which beyond 89 million pixels
    it must be; it counts on the command line alone. Where IMAGE is transparent
    its colours count as they are in the file, seen or not.
    """
    from nstx.engine.preparation.evaluated import allow_large, take_evaluated, take_reduced
    from nstx.engine.streaming.reduced import read_fitting
    from nstx.engine.targets.paintings import fit_beside, fit_to_result
    from nstx.engine.transfer.artefacts import measure_artefacts
    from nstx.engine.transfer.costs import evaluate_picture

    from ..choices import read_styles, read_styles_for, split_styles_for

    console = shown.console()
    settings = allow_large(options.settings_of(objective, colours, size, machine))
    side = size.size if size.sources["size"] == COMMAND_LINE else None
    picture = take_evaluated(image) if side is None else take_reduced(image, side, settings)
    with about("content"):
        photograph = read_fitting(content, fit_to_result(picture.size, settings))
    fit = fit_beside(picture.size, settings)
    with about("style"):
        paintings = read_styles(styles or (), fit)
    by_colour = read_styles_for(split_styles_for(region.style_for or ()), fit)
    if not paintings and not by_colour:
        raise UsageError("expected a style, got none; try --style painting.jpg")
    cost = evaluate_picture(
        picture, photograph, paintings, settings, mask=region.mask, regions=region.regions,
        style_for=by_colour or None,
    )  # fmt: skip
    named: list[tuple[str | None, WeightedPicture]] = [(None, style) for style in paintings]
    named += [(colour, style) for colour, blend in by_colour.items() for style in blend]
    inputs = (
        picture.as_input("image"),
        photograph.as_input("content"),
        *(style.as_input("style", weight, colour) for colour, (style, weight) in named),
    )
    data = {
        "image": str(image),
        "width": picture.width,
        "height": picture.height,
        "cost": asdict(cost),
        "preset": settings.preset,
        "colors": settings.colors,
        "precision": "fp64",
        "mask": region.mask,
        "regions": None if region.regions is None else str(region.regions),
        "artefacts": None,
        "inputs": [asdict(item) for item in inputs],
    }
    if artefacts:
        every = [style for _, style in named]
        data["artefacts"] = asdict(measure_artefacts(picture, photograph, every, settings))
    console.result(data, partial(_describe, settings.objective))


def _describe(objective: "Objective", data: dict[str, Any]) -> str:
    cost = data["cost"]
    lines = [
        f"{data['image']}  {data['width']}×{data['height']}",
        f"total    {cost['total']:.6e}",
        f"content  {cost['content']:.6e}  × {objective.content_weight:g}",
        f"style    {cost['style']:.6e}  × {objective.style_weight:g}",
    ]
    lines += [f"    {name:<8} {value:.6e}" for name, value in cost["style_layers"].items()]
    if objective.tv_weight:
        lines.append(f"variation {format_cost(cost['total_variation'])}")
    if objective.laplacian_weight:
        weight = f"{objective.laplacian_weight:g}"
        lines.append(f"detail   {format_cost(cost['laplacian'])}  × {weight}")
    if data["artefacts"] is not None:
        lines += _describe_artefacts(data["artefacts"])
    return "\n".join(lines)


def _describe_artefacts(figures: dict[str, Any]) -> list[str]:
    """Return a line for each figure; those that a picture is too small for are dashes."""
    return [
        "artefacts (0 is none)",
        *(
            f"    {name:<9} {_number(figures[name], scale)}  {unit}"
            for name, scale, unit in (
                (
                    "ripple",
                    1,
                    "of 255, texture of 2–9 pixels in flat areas beyond the photograph's and the painting's",
                ),
                ("locked", 1, "of 255, the part of it that repeats every 2, 4 or 8 pixels"),
                ("rim", 1, "deviations by which the outer 4 pixels stand out"),
                ("speckles", 1, "of 1000 pixels in flat areas, unlike all around them"),
                ("untouched", 100, "% of the picture, as the photograph was"),
            )
        ),
    ]


def _number(value: float | None, scale: int) -> str:
    return "    –" if value is None else f"{value * scale:5.2f}"
