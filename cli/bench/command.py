"""``nstx bench``: how fast this machine is."""

import typer

from .features import features
from .gradient import gradient
from .optimize import optimize

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Measure throughput on this machine."
)
for command in (features, gradient, optimize):
    app.command()(command)
