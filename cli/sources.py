"""Where the values of options come from, so that messages can name it."""

import re
from collections.abc import Mapping
from typing import Any

from nstx.models.errors import NstxError
from nstx.models.printable import printable
from nstx.models.values import in_words

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

    What neither the environment nor a configuration sets is written as on the command line. Only
    nstx's own words are rewritten: what was expected if it begins with an option, or else its end, and
    the advice but for what it has in quotes. A message in which these cannot be told apart, as a file's name has ``, got`` or
    ``; try`` in it, stays as it is.
    """
    message = str(error)
    if message.count(", got") > 1 or message.count("; try ") > 1:
        return message
    statement, try_, rest = message.partition("; try ")
    expected, got, value = statement.partition(", got")
    advice, semicolon, rest = rest.partition("; ")
    flags = {_flag(parameter): parameter for parameter in context.command.params}
    names = {flag: name_of(context, parameter) for flag, parameter in flags.items()}
    if expected.startswith("expected --"):
        expected = _rename(expected, names)
    for flag, parameter in flags.items():
        is_of_it = error.setting in (parameter.name, setting_of(flag))
        if is_of_it and names[flag] != flag and got:
            words = (f" for {flag}", f" as {in_words(setting_of(flag))}")
            ending = next(filter(expected.endswith, words), "")
            expected = f"{expected.removesuffix(ending)} for {names[flag]}"
    advice = _write_advice(advice, names)
    return f"{expected}{got}{value}{try_}{advice}{semicolon}{rest}"


def flag_of(setting: str) -> str:
    """Return the option of a setting: ``--style-weight`` of ``style_weight``."""
    return f"--{setting.replace('_', '-')}"


def setting_of(flag: str) -> str:
    """Return the setting of an option: ``style_weight`` of ``--style-weight``."""
    return flag.lstrip("-").replace("-", "_")


_QUOTED = re.compile("('.*')")
_MENTION = re.compile(r"(?<![\w-])(--\w[\w-]*)(?: ([\w.:]+(?:,[\w.:]+)*)(?=$|[,;)]| or ))?")


def _write_advice(advice: str, names: Mapping[str, str]) -> str:
    """Return an advice with options, and the values behind them, as they are written where they stand.

    ``names`` are those of the options there.
    """
    # The library advises those who call it, too.
    key, equals, value = advice.partition("=")
    flag = next((flag for flag in names if equals and setting_of(flag) == key), None)
    if flag is not None:
        advice = f"{flag} {value}"
    parts = _QUOTED.split(advice)
    return "".join(part if _QUOTED.fullmatch(part) else _rename(part, names) for part in parts)


def _rename(text: str, names: Mapping[str, str]) -> str:
    """Return a text with its options, and the values behind them, as they are written elsewhere."""

    def write(match: re.Match[str]) -> str:
        flag, value = match[1], match[2]
        name = names.get(flag, flag)
        return match[0] if name == flag else _assign(name, value)

    return _MENTION.sub(write, text)


def _assign(name: str, value: str | None) -> str:
    """Return how an environment variable, or a key in a configuration, is given a value, if any."""
    key, configured, _ = name.partition(" in ")
    if value is None or not configured:
        return f"{name}={value}" if value else name
    return f"{key} = {value}" if re.fullmatch(r"[\d.]+", value) else f'{key} = "{value}"'


def _flag(parameter: Any) -> str:
    return str(max(parameter.opts, key=len))
