"""``nstx submit``: have a picture made by a server."""

from pathlib import Path
from typing import Annotated

import typer

from nstx.models.errors import UsageError

from ..grouped import Help, argument, grouped
from ..options import regions
from ..options import shared as options
from ..options.saving import Saved
from ..options.targets import read_saved
from .asking import Asking

app = typer.Typer(add_completion=False)


@app.command()
@grouped
def submit(
    content: Annotated[Path | None, argument("The photograph.", "CONTENT")] = None,
    styles: Annotated[
        list[str] | None,
        argument("One or more paintings, each as PATH or PATH:weight.", "STYLE..."),
    ] = None,
    output: Annotated[
        Path | None,
        Help(
            "Where the picture goes: .png, .jpg, .webp, .avif or .tiff.",
            ("--output", "-o"),
            metavar="OUT",
        ),
    ] = None,
    targets: Annotated[
        Path | None,
        Help("A file of 'nstx precompute' in place of CONTENT and STYLE.", metavar="FILE"),
    ] = None,
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
    if output is None:
        raise UsageError("expected an output, got none; try -o out.png")
    if region.style_for and region.regions is None:
        raise UsageError(
            "expected --regions with --style-for, got none; try --regions map.png",
            setting="style_for",
        )
    from .run import Sent, choose, choose_beside, name_pictures, run_submit

    if targets is None:
        if content is None or not (styles or region.style_for):
            raise UsageError(
                f"expected CONTENT and STYLE, or --targets, got {'no STYLE' if content else 'neither'}; "
                "try 'nstx submit photo.jpg painting.jpg -o out.png'"
            )
        pictures = name_pictures(content, styles or [], region)
        fields = choose(objective, colours, size, solver)
    else:
        if content or styles:
            raise UsageError(
                "expected CONTENT and STYLE, or --targets, got both; try one of the two"
            )
        pictures = Sent(targets=targets)
        fields = choose_beside(read_saved(targets, size, region), objective, colours, size, solver)
    run_submit(pictures, output, asking, fields, saved, shown.console())
