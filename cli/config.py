"""Defaults from a TOML file, below flags and environment variables in precedence.

``nstx.toml`` in the working folder, or else ``config.toml`` in the user's configuration folder, or
the file that ``NSTX_CONFIG`` names. Keys are the names of options; those at the top serve every
command that has them, those in a table ``[optimize]`` or ``[export.features]`` that command::

    weights = "/models/vgg19.safetensors"

    [optimize]
    size = 800
    style-weight = 80.0
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nstx.models.errors import UsageError

_Tables = dict[str | None, dict[str, Any]]


def find_config() -> Path | None:
    """Return the configuration file that is in force, or None."""
    if named := os.environ.get("NSTX_CONFIG"):
        if not Path(named).is_file():
            raise UsageError(f"expected a file in NSTX_CONFIG, got {named!r}; try unsetting it")
        return Path(named)
    local = Path("nstx.toml")
    if local.is_file():
        return local
    from platformdirs import user_config_path

    personal = user_config_path("nstx", appauthor=False) / "config.toml"
    return personal if personal.is_file() else None


def read_defaults(
    path: Path, options: Mapping[str, Mapping[str, str]]
) -> dict[str, dict[str, object]]:
    """Read a TOML file as defaults by command and parameter.

    ``options`` names, by command and option (with underscores), the command's parameter. `UsageError`
    if the file cannot be read, or names an option or command that there is not.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"expected TOML in {path}, got: {error}; try mending that line") from error
    defaults: dict[str, dict[str, object]] = {command: {} for command in options}
    for command, table in _tables(content).items():
        for name, value in table.items():
            key = name.replace("-", "_")
            serves = options if command is None else [command]
            users = [user for user in serves if key in options.get(user, {})]
            if not users:
                unknown = name if command is None else f"{command}.{name}"
                raise UsageError(
                    f"expected the names of options in {path}, got {unknown!r}; "
                    "try 'nstx COMMAND --help'"
                )
            for user in users:
                defaults[user][options[user][key]] = value
    return defaults


def _tables(content: Mapping[str, Any], prefix: str | None = None) -> _Tables:
    """Return a file's values by their table: None first, then ``optimize``, ``bench.features``."""
    tables: _Tables = {prefix: {k: v for k, v in content.items() if not isinstance(v, dict)}}
    for name, value in content.items():
        if isinstance(value, dict):
            tables |= _tables(value, name if prefix is None else f"{prefix}.{name}")
    return tables


def apply_config(context: Any) -> None:
    """Give a command line's context the defaults of the configuration file, if there is one."""
    path = find_config()
    if path is None:
        return
    options = {
        name: {
            flag.lstrip("-").replace("-", "_"): item.name
            for item in command.params
            for flag in item.opts
            if flag.startswith("--")
        }
        for name, command in context.command.load_all()
    }
    for name, values in read_defaults(path, options).items():
        place = context.default_map = context.default_map or {}
        for part in name.split("."):
            place = place.setdefault(part, {})
        place.update(values)
