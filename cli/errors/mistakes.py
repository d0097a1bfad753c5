"""Mistakes on a command line that the argument parser finds, in the words of all other errors."""

import os
import re
import sys
from typing import Any

from nstx.models.values import describe, suggest

from ..grouped import KINDS, command_options
from ..sources import name_of

_WORDS = {
    r"No such command '(.*?)'(.*)": "a command of {path}, got {word}",
    r"No such option: (\S+)(.*)": "an option of {path}, got {word}",
    r"Option '(.*?)' requires (.*)": "a value for {word}, got none",
    r"Option '(.*?)' does not take (.*)": "{word} without a value, got one",
    r"Missing (?:argument|option) '(.*?)'(.*)": "{word}, got none",
    r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)()": "no more arguments, got {word}",
}
"""What typer says, and what was expected; behind what was typed may stand what it is near to."""


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
    message = " ".join(error.format_message().split())
    path = getattr(context, "command_path", "nstx")
    help_ = "--help" if context is None else f"'{path} --help'"
    for pattern, expected in _WORDS.items():
        if match := re.fullmatch(pattern, message):
            word, near = match[1][:60], match[2]
            names = re.findall(r"(?<=')\w[\w-]*(?=')|--[\w-]+", near)
            advice = suggest(word, names, help_)
            return f"expected {expected.format(path=path, word=word)}; try {advice}"
    return f"{message.rstrip('.')}; try {help_}" if message else ""


def _typed_value(flags: list[str]) -> str | None:
    """Return what follows an option on the command line, where it stands last."""
    value = None
    for word, following in zip(sys.argv, [*sys.argv[1:], None], strict=True):
        flag, equals, text = word.partition("=")
        if flag in flags:
            value = text if equals else following
    return value
