"""Where the values of options come from, so that messages can name it."""

import os
import re
from collections.abc import Mapping
from typing import Any

from nstx.models.errors import NstxError
from nstx.models.printable import printable

COMMAND_LINE, ENVIRONMENT, CONFIGURATION = "COMMANDLINE", "ENVIRONMENT", "DEFAULT_MAP"
DEFAULT = "DEFAULT"
"""Where a value can come from, as typer's contexts name it."""

CONFIG_PATH = "nstx.configuration"
"""Key of the configuration file's path in the ``meta`` of typer's contexts."""


def source_of(context: Any, name: str) -> str:
    """Return the source of a parameter's value, such as `COMMAND_LINE`."""
    source = context.get_parameter_source(name)
    return DEFAULT if source is None else str(source.name)


def value_in(context: Any, parameter: Any) -> str | None:
    """Return the text of an environment variable that a parameter was set by."""
    return (
        os.environ.get(str(parameter.envvar))
        if source_of(context, parameter.name) == ENVIRONMENT
        else None
    )


def place_of(context: Any, parameter: Any) -> str:
    """Return where a value stands: `` in NSTX_SIZE``, `` for size in nstx.toml``, or nothing."""
    source = source_of(context, parameter.name)
    if source == ENVIRONMENT:
        return f" in {parameter.envvar}"
    if source == CONFIGURATION and CONFIG_PATH in context.meta:
        key = max(parameter.opts, key=len).lstrip("-")
        return f" for {key} in {printable(context.meta[CONFIG_PATH])}"
    return ""


def name_source(error: NstxError, context: Any, values: Mapping[str, Any]) -> None:
    """Say in an error where the value stands that it is about, if not on the command line.

    ``values`` are those of the command's parameters.
    """
    message = str(error)
    for parameter in context.command.params:
        place = place_of(context, parameter)
        if place and _is_about(message, parameter.name, values.get(parameter.name)):
            head, try_, advice = message.partition("; try")
            error.args = (f"{head}{place}{try_}{advice}",)
            return


def _is_about(message: str, name: str, value: object) -> bool:
    """Whether a message, "expected …, got …", speaks of a parameter and has got its value."""
    whole = re.escape(str(value))
    if re.search(rf"got '{whole}'| at {whole}, got", message):
        return True
    # A number, or one of several names, may stand for another option, too.
    parts = {str(value), *re.split("[,:]", str(value))} - {""}
    is_got = re.search(rf"got '?({'|'.join(map(re.escape, parts))})'?(?![\w.])", message)
    named = any(word.removesuffix("s") in message.lower() for word in name.split("_"))
    return bool(parts and is_got and named)
