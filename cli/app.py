"""The application: its commands and what comes before each of them.

Nothing heavy is imported before a command runs, so that ``nstx --help`` answers at once.
"""

import io
import sys

import typer

from .bench.command import bench
from .bench.optimize import optimize as optimize_bench
from .commands.cache import cache
from .commands.compare import compare
from .commands.doctor import doctor
from .commands.evaluate import evaluate
from .commands.export import export
from .commands.features import features
from .commands.model import model
from .commands.precompute import SeveralValues, precompute
from .config import apply_config
from .errors import run_app
from .interrupts import exit_on_terminate
from .optimize.command import optimize

app = typer.Typer(
    name="nstx",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from nstx import __version__

        typer.echo(f"nstx {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: bool = typer.Option(
        False, "--version", help="Print the version.", callback=_version, is_eager=True
    ),
) -> None:
    """Neural style transfer: paint a photograph in the style of a painting.

    nstx optimize photo.jpg painting.jpg -o out.png
    """
    if not {"-h", "--help"} & set(sys.argv):
        # A wrong configuration must not stand before the help that it points to.
        apply_config(context)


for _command in (optimize, compare, evaluate, features, model, doctor):
    app.command()(_command)
app.command(cls=SeveralValues)(precompute)
bench.command("optimize")(optimize_bench)
for _group, _name in ((export, "export"), (bench, "bench"), (cache, "cache")):
    app.add_typer(_group, name=_name)


def run() -> int:
    """Run the command line and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that has no × in its encoding must not cost anybody a result.
            stream.reconfigure(errors="replace")
    # SIGTERM ends every command as an exit, so that half-written files are removed.
    with exit_on_terminate():
        return run_app(app)
