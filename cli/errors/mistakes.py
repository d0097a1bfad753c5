"""Mistakes on a command line that the argument parser finds, in the words of all other errors.

Typer names none of its errors to others; they are told by the fields that they carry.
"""

import os
import re
import sys
from typing import Any

from nstx.models.values import describe, suggest

from ..grouped import KINDS, command_options
from ..sources import name_of


def describe_mistake(error: Any) -> str:
    """Return the line of one of typer's errors; empty if `nstx` alone has printed its help."""
    message = " ".join(error.format_message().split())
    if not message:
        return ""
    context, option = getattr(error, "ctx", None), getattr(error, "option_name", None)
    path = getattr(context, "command_path", "nstx")
    advice = "--help" if context is None else f"'{path} --help'"
    if context is not None and getattr(error, "param", None) is not None:
        mistake = _of_parameter(error.param, context, is_missing=hasattr(error, "param_type"))
        advice = _sides(error.param) or advice
    elif option is not None and hasattr(error, "possibilities"):
        mistake = f"an option of {path}, got {describe(option)}"
        advice = suggest(option, error.possibilities or (), advice)
    elif option is not None:
        has_value = _typed_value([option]) is not None
        mistake = (
            f"{option} without a value, got one" if has_value else f"a value for {option}, got none"
        )
    else:
        mistake = None
    if mistake is None:
        mistake = f"another command line of {path}, got: {message.removeprefix('Got ').rstrip('.')}"
    return f"expected {mistake}; try {advice}"


def _of_parameter(parameter: Any, context: Any, *, is_missing: bool) -> str | None:
    """Return what was expected and what there was, if that is known."""
    name = name_of(context, parameter)
    if is_missing:
        is_option = name.startswith("-")
        return f"{name if is_option else parameter.metavar or name.upper()}, got none"
    kinds = {option.parameter: option.kind for option in command_options(context.command).values()}
    value = os.environ.get(name) or _typed_value(parameter.opts)
    if value is None or parameter.name not in kinds:
        return None
    return f"{KINDS[kinds[parameter.name]]} for {name}, got {describe(value)}"


def _sides(parameter: Any) -> str:
    """Return the options for two sides that are named as one size, ``96x64``; empty if they are none."""
    if "--size" not in parameter.opts:
        return ""
    sides = re.fullmatch(
        r"([1-9][0-9]{0,5})[xX×*]([1-9][0-9]{0,5})", _typed_value(["--size"]) or ""
    )
    return f"--width {sides[1]} --height {sides[2]}" if sides else ""


def _typed_value(flags: list[str]) -> str | None:
    """Return what follows an option on the command line, where it stands last."""
    value = None
    for word, following in zip(sys.argv, [*sys.argv[1:], None], strict=True):
        flag, equals, text = word.partition("=")
        if flag in flags:
            value = text if equals else following
    return value
