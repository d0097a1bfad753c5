"""``nstx resume``: going on with a run of ``nstx optimize``."""

import time
from pathlib import Path
from typing import Annotated

import typer

from ..errors.exits import report_failure
from ..grouped import argument, grouped
from ..interrupts import handling
from ..options import shared as options
from .garbage import uncollected
from .interrupt import Interrupt

app = typer.Typer(add_completion=False)


@app.command()
@grouped
def resume(
    folder: Annotated[Path, argument("The folder that --checkpoint named.", "DIR")],
    *,
    shown: options.Output,
) -> None:
    """Go on with the run of 'nstx optimize' that is kept in DIR, and write what it was to write.

    The files that it reads and writes are those that the checkpoint names.
    """
    began = time.perf_counter()
    from nstx.engine.gradients.ahead import begin_loading, is_loading

    interrupt = Interrupt(is_loading, report_failure)
    with handling(interrupt):
        with uncollected():
            from nstx.engine.checkpoints.reading import find_manifest

            manifest = find_manifest(folder)
            begin_loading(manifest.settings)
            from .keeping import read_request
            from .run import run_optimize
        run_optimize(read_request(manifest, folder, began), shown.console(), interrupt)
