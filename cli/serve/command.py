"""``nstx serve``: jobs over HTTP."""

import typer

from ..grouped import grouped
from ..options import shared as options
from ..options.memory import Memory
from .asking import Limits, Serving

app = typer.Typer(add_completion=False)


@app.command()
@grouped
def serve(
    *,
    serving: Serving,
    limits: Limits,
    machine: options.Machine,
    memory: Memory,
    shown: options.Output,
) -> None:
    """Take jobs over HTTP, show how they develop, and serve a page for them.

    What waits when the server ends, however that comes, is made when it is started again.
    """
    from .run import run_server

    choices = {**machine.choices(), **memory.choices()}
    run_server(serving, limits, choices, shown.console())
