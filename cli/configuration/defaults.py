"""Defaults from a TOML file, below flags and environment variables in precedence.

``nstx.toml`` in the working folder, or else ``config.toml`` in the user's configuration folder, or
the file that ``NSTX_CONFIG`` names. Keys are the names of options; those at the top serve every
command that has them, those in a table ``[optimize]`` or ``[export.features]`` that command::

    weights = "/models/vgg19.safetensors"

    [optimize]
    size = 800
    style-weight = 80.0
    style-layers = ["conv1_1", "conv2_1:0.5"]
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nstx.models.errors import UsageError
from nstx.models.printable import printable
from nstx.models.values import describe, suggest

from ..grouped import KINDS, Option, command_options
from ..sources import CONFIG_PATH
from .file import find_config, read_toml

Options = Mapping[str, Mapping[str, Option]]
"""By command, and by the name of the option with underscores."""


def _defaults(
    content: Mapping[str, Any], path: Path, options: Options
) -> dict[str, dict[str, object]]:
    """Return a file's content as defaults by command and parameter.

    Raises:
        UsageError: it names an option or command that there is not, or one option twice, or gives
            an option what it cannot have.
    """
    defaults: dict[str, dict[str, object]] = {command: {} for command in options}
    for command, table in _tables(content, options).items():
        _check_spellings(table, path)
        for name, value in table.items():
            key = name.replace("-", "_")
            serves = options if command is None else [command]
            users = [user for user in serves if key in options.get(user, {})]
            full = name if command is None else f"{command}.{name}"
            if not users:
                raise _unknown(full, path, options)
            for user in users:
                option = options[user][key]
                defaults[user][option.parameter] = check_value(value, option, f"{full} in {path}")
    return defaults


def _check_spellings(table: Iterable[str], path: Path) -> None:
    """Check that a table has no option twice, with hyphens and with underscores."""
    names: dict[str, str] = {}
    for name in table:
        other = names.setdefault(name.replace("-", "_"), name)
        if other != name:
            raise UsageError(
                f"expected an option once in {printable(path)}, got {describe(other)} and "
                f"{describe(name)}; try one of the two"
            )


def _unknown(name: str, path: Path, options: Options) -> UsageError:
    command, _, key = name.rpartition(".")
    every = {key for table in options.values() for key in table}
    known = {*options.get(command, every)}
    advice = suggest(
        key, [name.replace("_", "-") for name in known], f"'nstx {command or 'COMMAND'} --help'"
    )
    return UsageError(
        f"expected the names of options in {printable(path)}, got {describe(name)}; "
        f"try {printable(advice)}"
    )


def check_value(value: Any, option: Option, where: str) -> object:
    """Return a value as its option takes it; ``where`` is its key and file."""
    values = value if isinstance(value, list) else [value]
    fits = all(_fits(item, option.kind) for item in values)
    if option.repeated and fits:
        return values
    if option.is_list and fits:
        return ",".join(map(str, values))
    if fits and not isinstance(value, list):
        return str(value) if option.kind is str else value
    several = " or a list of them" if option.is_list or option.repeated else ""
    raise UsageError(
        f"expected {KINDS[option.kind]}{several} for {printable(where)}, got {_describe(value)}; "
        f"try {_EXAMPLES[option.kind]}"
    )


_EXAMPLES: dict[type, str] = {
    bool: "true", int: "800", float: "0.5", str: 'text in quotes, "…"', Path: 'a path in quotes, "…"'
}  # fmt: skip


def _fits(value: object, kind: type) -> bool:
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    if isinstance(value, int):
        return kind in (int, float, str) and abs(value) < 2**63
    if isinstance(value, float):
        return kind in (float, str)
    return isinstance(value, str) and kind in (str, Path)


def _describe(value: object) -> str:
    """Return what a value is, on a line that is not long."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        text = f"[{', '.join(map(_describe, value))}]"
        return text if len(text) <= 60 else f"{text[:59]}…"
    if isinstance(value, bool):
        return str(value).lower()
    return describe(value) if isinstance(value, str | int | float) else "a date or a time"


def _tables(
    content: Mapping[str, Any], options: Options, prefix: str | None = None
) -> dict[str | None, dict[str, Any]]:
    """Return a file's values by their table: None first, then ``optimize``, ``bench.features``."""
    tables: dict[str | None, dict[str, Any]] = {prefix: {}}
    for name, value in content.items():
        full = name if prefix is None else f"{prefix}.{name}"
        is_table = any(command == full or command.startswith(f"{full}.") for command in options)
        if isinstance(value, dict) and is_table:
            tables |= _tables(value, options, full)
        else:
            tables[prefix][name] = value
    return tables


def apply_config(context: Any) -> None:
    """Give a command line's context the defaults of the configuration file, if there is one."""
    path = find_config()
    if path is None:
        return
    content = read_toml(path)
    context.meta[CONFIG_PATH] = path
    options = {name: command_options(command) for name, command in context.command.load_all()}
    for name, values in _defaults(content, path, options).items():
        place = context.default_map = context.default_map or {}
        for part in name.split("."):
            place = place.setdefault(part, {})
        place.update(values)
