"""The application: its commands and what comes before each of them."""

import codecs
import contextlib
import io
import os
import re
import sys
from typing import Any, cast

import typer

from nstx.models.errors import OutputError, UsageError
from nstx.models.printable import printable
from nstx.models.version import __version__

from .console import print_lines
from .errors.exits import is_folder_gone, report_failure, run_app
from .interrupts import Ending, handling
from .lazy import CommandGroup, Entry, LazyGroup
from .session import session


class Commands(LazyGroup):
    """The commands of ``nstx``."""

    table = {  # noqa: RUF012  (annotated in the base)
        "optimize": Entry(
            "Stylise the picture CONTENT with the style of one or more paintings.",
            ".optimize.command",
        ),
        "resume": Entry(
            "Go on with the run of 'nstx optimize' that is kept in DIR, and write what it was to write.",
            ".optimize.resume",
        ),
        "batch": Entry(
            "Stylise folders of pictures, or a list of jobs, by several processes; again, what is missing.",
            ".batch.command",
        ),
        "serve": Entry(
            "Take jobs over HTTP, show how they develop, and serve a page for them.",
            ".serve.command",
        ),
        "submit": Entry(
            "Have CONTENT stylised by a server that 'nstx serve' runs, and show how it goes.",
            ".submit.command",
        ),
        "compare": Entry("Stylise CONTENT in several ways and lay the results side by side."),
        "evaluate": Entry(
            "Print the cost of any picture, computed in float64 apart from the fast paths."
        ),
        "plan": Entry(
            "Print what 'nstx optimize' would take: memory and time, whole and by tiles, and what it would choose."
        ),
        "features": Entry(
            "Show what VGG-19 sees in IMAGE: a sheet of each layer's strongest channels."
        ),
        "model": Entry(
            "Print VGG-19's layers: shape for a picture's size, stride, receptive field, "
            "operations."
        ),
        "doctor": Entry(
            "Say which devices, precisions and ONNX Runtime providers really work here."
        ),
        "precompute": Entry(
            "Compute the targets of contents and styles ahead of the runs that will need them."
        ),
        "export": Entry("Write an ONNX file: VGG-19's features, or the cost and its gradient."),
        "bench": Entry("Measure throughput on this machine.", ".bench.command"),
        "cache": Entry("Look at, check and empty the folder of what is computed once."),
    }

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Return the words that are left; with ``--show-completion SHELL`` there will be none."""
        name, equals, value = args[0].partition("=") if args else ("", "", "")
        if name in _OF_COMPLETION and ctx.resilient_parsing:  # which a shell does that completes
            ctx.meta[_SHELL_FOLLOWS] = not equals and not args[1:]
        elif name in _OF_COMPLETION:
            words = [value] if equals else [word for word in args[1:2] if word[:1] != "-"]
            _complete(ctx, name, *words)
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Return what may follow: a shell behind ``--show-completion``, else as typer has it."""
        follows = bool(ctx.meta.get(_SHELL_FOLLOWS)) and incomplete[:1] != "-"
        items = super().shell_complete(ctx, "" if follows else incomplete)
        if not follows:
            return items
        make = type(items[0])  # typer does not name it to others
        return [make(shell) for shell in _SHELLS if shell.startswith(incomplete)]


def _complete(context: Any, name: str, shell: str | None = None) -> None:
    """Do what typer's option of a name does, for the shell that is named, else the one that runs."""
    option = next(option for option in context.command.params if name in option.opts)
    problem = None if shell in (None, *_SHELLS) else repr(printable(shell))
    try:
        if problem is None:
            option.callback(context, option, shell or True)
    except OSError as error:
        if error.filename is None:  # of standard output
            raise
        place = printable(error.filename)
        raise OutputError(
            f"expected to write the shell's files, got: {place}: {error.strerror}; "
            "try --show-completion, whose lines can stand anywhere"
        ) from error
    except typer.Exit:
        problem = "one that is not known"
    raise UsageError(
        f"expected a shell of {', '.join(_SHELLS)}, got {problem}; try {name} {_SHELLS[0]}"
    )


_OF_COMPLETION = ("--install-completion", "--show-completion")
_SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")
_SHELL_FOLLOWS = "nstx.shell_follows"
"""Key in the ``meta`` of a context: whether the next word is a shell's name."""


app = typer.Typer(
    name="nstx",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


_WITHOUT_SETTINGS = ("cache", "doctor")
"""Commands that a wrong configuration does not stop, as it has next to nothing for them."""


def _version(context: typer.Context, is_asked_for: bool) -> None:
    if is_asked_for and not context.resilient_parsing:
        print_lines(f"nstx {__version__}")
        raise typer.Exit


def _is_help_asked_for(context: typer.Context) -> bool:
    """Whether the help is all that is printed: a group of commands prints it if nothing follows."""
    name = context.invoked_subcommand
    if name is not None and sys.argv[-1] == name:
        return isinstance(cast("Commands", context.command).load(name), CommandGroup)
    return not {"-h", "--help"}.isdisjoint(sys.argv)


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
    # A wrong configuration must not stand before the help that it points to.
    if not _is_help_asked_for(context):
        from .configuration.defaults import apply_config

        try:
            apply_config(context)
        except UsageError as error:
            if context.invoked_subcommand not in _WITHOUT_SETTINGS:
                raise
            session.warnings.append(f"the configuration is not used: {error}")
        if any(name.startswith("NSTX_") for name in os.environ):
            from .configuration.variables import check_variables

            check_variables(context)


_PLAIN = {"×": "x", "…": "...", "–": "-", "−": "-", "α": "alpha", "β": "beta", "²": "^2"}
"""What stands for signs of ours in an encoding that lacks them; a question mark for all others."""


def _spell(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    signs = error.object[error.start : error.end]
    return "".join(_PLAIN.get(sign, "?") for sign in signs), error.end


def _leave_removed_folder() -> None:
    """Go where nothing can be written, if the working folder is gone.

    Intel's MKL would end the process there.
    """
    if is_folder_gone():
        print_lines(
            "nstx: warning: the working folder is gone; only paths from the root on are there",
            err=True,
        )
        with contextlib.suppress(OSError):
            os.chdir("/proc")


_NARROWEST = {"COLUMNS": 20, "LINES": 1, "TERMINAL_WIDTH": 20}


def _forget_odd_sizes() -> None:
    """Forget sizes of a terminal in the environment that are none: rich fails at them, takes all memory, or prints nothing."""
    for name, least in _NARROWEST.items():
        text = os.environ.get(name, str(least))
        if not re.fullmatch("[0-9]{1,4}", text) or int(text) < least:
            del os.environ[name]


def run() -> int:
    """Run the command line and return its exit code."""
    _open_closed_streams()
    _forget_odd_sizes()
    codecs.register_error("nstx", _spell)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that has no × in its encoding must not cost anybody a result.
            stream.reconfigure(errors="nstx")
    _leave_removed_folder()
    # Signals end every command by an exception, so that half-written files are removed.
    with handling(Ending(report_failure)):
        return run_app(app)


def _open_closed_streams() -> None:
    """Give stdin, stdout and stderr a place where whoever began the process has closed them.

    Otherwise the next file that is opened gets the number of one, and what libraries and signal
    handlers write goes there.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
