"""Where the values of options come from, so that messages can name it."""

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


def name_of(context: Any, parameter: Any) -> str:
    """Return a parameter's name where its value stands: --size, NSTX_SIZE or size in nstx.toml."""
    flag, source = _flag(parameter), source_of(context, parameter.name)
    if source == ENVIRONMENT:
        return str(parameter.envvar)
    if source == CONFIGURATION:
        return f"{flag.lstrip('-')} in {printable(context.meta[CONFIG_PATH])}"
    return flag


def name_source(error: NstxError, context: Any) -> str:
    """Return an error's message, with where the value stands that it is about, and how options are set there.

    What neither the environment nor a configuration sets is written as on the command line.
    """
    head, got, rest = str(error).partition(", got")
    rest, try_, advice = rest.partition("; try ")
    for parameter in context.command.params:
        flag, name = _flag(parameter), name_of(context, parameter)
        key = flag.lstrip("-").replace("-", "_")
        # The library advises those who call it, too.
        advice = re.sub(rf"^{key}=", f"{flag} ", advice)
        if name == flag:
            continue
        before, head = head, _rename(head, flag, name)
        advice = _rename(advice, flag, name)
        if error.setting in (parameter.name, key) and head == before:
            head = head.removesuffix(f" as {key.replace('_', ' ')}") + f" for {name}"
    return f"{head}{got}{rest}{try_}{advice}"


def _rename(text: str, flag: str, name: str) -> str:
    """Return a text with an option, and the value behind it, as they are written elsewhere."""

    def write(match: re.Match[str]) -> str:
        value = match["value"]
        key, configured, _ = name.partition(" in ")
        if value is None or not configured:
            return f"{name}={value}" if value else name
        return f"{key} = {value}" if re.fullmatch(r"[\d.]+", value) else f'{key} = "{value}"'

    value = r"(?P<value>[\w.:]+(?:,[\w.:]+)*)(?=$|[,;)]| or )"
    return re.sub(rf"(?<![\w-]){flag}(?![\w-])(?: {value})?", write, text)


def _flag(parameter: Any) -> str:
    return str(max(parameter.opts, key=len))
