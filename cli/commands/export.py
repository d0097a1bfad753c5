"""``nstx export``: ONNX files."""

import typer

from .export_features import features
from .export_gradient import gradient

app = typer.Typer(
    add_completion=False,
    help="Write an ONNX file: VGG-19's features, or the cost and its gradient.",
    no_args_is_help=True,
)
for command in (gradient, features):
    app.command()(command)
