"""Where the values of options come from, so that messages can name it."""

import os
import re
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
    """Return where a value stands: `` for NSTX_SIZE``, `` for size in nstx.toml``, or nothing."""
    source = source_of(context, parameter.name)
    if source == ENVIRONMENT:
        return f" for {parameter.envvar}"
    if source == CONFIGURATION and CONFIG_PATH in context.meta:
        return f" for {max(parameter.opts, key=len).lstrip('-')} in {printable(context.meta[CONFIG_PATH])}"
    return ""


def name_source(error: NstxError, context: Any) -> None:
    """Say in an error where the value stands that it is about, and how options are set there.

    What neither the environment nor a configuration sets is written as on the command line.
    """
    head, got, rest = str(error).partition(", got")
    rest, try_, advice = rest.partition("; try ")
    for parameter in context.command.params:
        flag = max(parameter.opts, key=len)
        key, before = flag.lstrip("-").replace("-", "_"), head
        if flag.startswith("--"):
            # The library advises those who call it, too.
            advice = re.sub(rf"^{key}=", f"{flag} ", advice)
            head, advice = (_translate(text, context, parameter, flag) for text in (head, advice))
        place = place_of(context, parameter)
        if place and error.setting in (parameter.name, key) and head == before:
            head = head.removesuffix(f" as {key.replace('_', ' ')}") + place
    error.args = (f"{head}{got}{rest}{try_}{advice}",)


def _translate(text: str, context: Any, parameter: Any, flag: str) -> str:
    """Return a text with an option, and its value, as they are written where it is set."""

    def write(match: re.Match[str]) -> str:
        value, name = match["value"], flag.lstrip("-")
        if source == ENVIRONMENT:
            return f"{parameter.envvar}={value}" if value else str(parameter.envvar)
        if value is None:
            return f"{name} in {printable(context.meta[CONFIG_PATH])}"
        return f"{name} = {value}" if re.fullmatch(r"[\d.]+", value) else f'{name} = "{value}"'

    source = source_of(context, parameter.name)
    if source not in (ENVIRONMENT, CONFIGURATION):
        return text
    value = r"(?P<value>[\w.:]+(?:,[\w.:]+)*)(?=$|[,;)]| or )"
    return re.sub(rf"(?<![\w-]){flag}(?![\w-])(?: {value})?", write, text)
