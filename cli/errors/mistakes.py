"""Mistakes on a command line that the argument parser finds, in the words of all other errors."""

import os
import sys
from typing import Any

from nstx.models.values import describe

from ..grouped import KINDS, command_options
from ..sources import name_of


def describe_mistake(error: Any) -> str:
    """Return the line of one of typer's errors; empty if `nstx` alone has printed its help."""
    parameter, context = getattr(error, "param", None), getattr(error, "ctx", None)
    if parameter is not None and context is not None:
        options = command_options(context.command).values()
        kinds = {option.parameter: option.kind for option in options}
        name = name_of(context, parameter)
        value = os.environ.get(name) or _typed_value(parameter.opts)
        if value is not None and parameter.name in kinds:
            return (
                f"expected {KINDS[kinds[parameter.name]]} for {name}, got {describe(value)}; "
                f"try '{context.command_path} --help'"
            )
    message = " ".join(error.format_message().split()).rstrip(".")
    return f"{message}; try --help" if message else ""


def _typed_value(flags: list[str]) -> str | None:
    """Return what follows an option on the command line, where it stands last."""
    value = None
    for word, following in zip(sys.argv, [*sys.argv[1:], None], strict=True):
        flag, equals, text = word.partition("=")
        if flag in flags:
            value = text if equals else following
    return value
