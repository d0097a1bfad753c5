"""``nstx compare``: the options."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from nstx.engine.comparison.plan import DEFAULT_LAYERS
from nstx.engine.settings import COLORS, INITS
from nstx.models.statistics import STATISTICS

from ..grouped import Group, Help, argument, grouped, without
from ..options import regions
from ..options import shared as options

app = typer.Typer(add_completion=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared(Group):
    """What takes several values."""

    panel: ClassVar[str | None] = "Compared: several values, separated by commas"

    content_layers: Annotated[
        str | None,
        Help(
            "Layers to compare, separated by commas; those that one run uses together are joined "
            f"by +. [default, if nothing else is compared: {','.join(DEFAULT_LAYERS)}]",
            is_list=True,
        ),
    ] = None
    init: Annotated[
        str | None, Help(f"Starts: {', '.join(INITS)}, or pictures' paths.", is_list=True)
    ] = None
    content_weight: Annotated[
        str | None, Help("Weights of the content cost (α).", is_list=True)
    ] = None
    style_weight: Annotated[str | None, Help("Weights of the style cost (β).", is_list=True)] = None
    style_statistic: Annotated[
        str | None,
        Help(f"What of style layers is compared: {', '.join(STATISTICS)}.", is_list=True),
    ] = None
    laplacian_weight: Annotated[
        str | None, Help("Weights of the photograph's detail.", is_list=True)
    ] = None
    style_scale: Annotated[
        str | None,
        Help("Long sides of the style pictures as multiples of the result's.", is_list=True),
    ] = None
    steps: Annotated[str | None, Help("Solver iterations.", is_list=True)] = None
    colors: Annotated[
        str | None, Help(f"Ways to colour the result: {', '.join(COLORS)}.", is_list=True)
    ] = None
    blend: Annotated[
        str | None,
        Help(
            "Of two paintings, the share of the second, 0 … 1; the first has the rest.",
            is_list=True,
        ),
    ] = None


@app.command()
@grouped
def compare(
    content: Annotated[Path, argument("The photograph.", "CONTENT")],
    output: Annotated[
        Path,
        Help(
            "The folder for pictures, sheet, animations and page; made if need be.",
            ("--output", "-o"),
            metavar="DIR",
        ),
    ],
    styles: Annotated[
        list[str] | None,
        argument(
            "One or more paintings, each as PATH or PATH:weight; blended in every run: see --blend.",
            "STYLE...",
        ),
    ] = None,
    *,
    compared: Compared,
    objective: Annotated[
        options.Objective,
        without(
            "content_layers",
            "content_weight",
            "style_weight",
            "style_statistic",
            "laplacian_weight",
        ),
    ],
    region: regions.Regions,
    size: Annotated[options.Size, without("style_scale")],
    solver: Annotated[options.Solver, without("steps", "init")],
    machine: options.Machine,
    shown: options.Output,
    force: Annotated[
        bool,
        Help(
            "Replace the comparison in DIR, even if it is of other pictures or settings; its files "
            "are removed when the new one is complete."
        ),
    ] = False,
) -> None:
    """Stylise CONTENT in several ways and lay the results side by side.

    Every combination of the values is a run. What is in DIR already is not made again, so that the
    same command goes on after an interruption, and further values and options of those that are
    compared add runs. The folder of another comparison is left alone; see --force.
    """
    began = time.perf_counter()
    from nstx.engine.comparison.plan import plan_comparison

    from .compare_run import describe_comparison, run_compare, split_values

    plan = plan_comparison(
        compared=split_values(**compared.choices()),
        **options.choices_of(objective, size, solver, machine),
    )
    console = shown.console()
    data = run_compare(content, styles or [], plan, output, console, region=region, force=force)
    data["seconds"] = round(time.perf_counter() - began, 4)
    console.result(data, describe_comparison)
