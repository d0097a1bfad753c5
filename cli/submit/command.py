"""``nstx submit``: have a picture made by a server."""

from pathlib import Path
from typing import Annotated

import typer

from nstx.models.errors import UsageError

from ..grouped import Help, argument, grouped
from ..options import regions
from ..options import shared as options
from ..options.saving import Saved
from .asking import Asking

app = typer.Typer(add_completion=False)


@app.command()
@grouped
def submit(
    content: Annotated[Path, argument("The photograph.", "CONTENT")],
    styles: Annotated[
        list[str],
        argument("One or more paintings, each as PATH or PATH:weight.", "STYLE..."),
    ],
    output: Annotated[
        Path,
        Help(
            "Where the picture goes: .png, .jpg, .webp, .avif or .tiff.",
            ("--output", "-o"),
            metavar="OUT",
        ),
    ],
    *,
    asking: Asking,
    objective: options.Objective,
    colours: options.Colours,
    region: regions.Regions,
    size: options.Size,
    solver: options.Solver,
    saved: Saved,
    shown: options.Output,
) -> None:
    """Have CONTENT stylised by a server that 'nstx serve' runs, and show how it goes.

    Ctrl-C cancels the job; the server keeps its picture so far.
    """
    if region.style_for and region.regions is None:
        raise UsageError(
            "expected --regions with --style-for, got none; try --regions map.png",
            setting="style_for",
        )
    from .run import run_submit

    groups = (objective, colours, size, solver)
    run_submit(content, styles, output, asking, groups, region, saved, shown.console())
