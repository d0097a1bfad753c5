"""Defaults from a TOML file, below flags and environment variables in precedence.

``nstx.toml`` in the working folder, or else ``config.toml`` in the user's configuration folder, or
the file that ``NSTX_CONFIG`` names. Keys are the names of options; those at the top serve every
command that has them, those in a table ``[optimize]`` serve that command::

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


def find_config() -> Path | None:
    """Return the configuration file that is in force, or None.

    Raises:
        UsageError: ``NSTX_CONFIG`` names a file that is not there.
    """
    named = os.environ.get("NSTX_CONFIG")
    if named:
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
    """Read a configuration file as defaults by command and option.

    Args:
        path: of the TOML file.
        options: by command, the names of its options, with underscores, and of its parameters.

    Raises:
        UsageError: the file cannot be read, or names an option or command that there is not.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"expected TOML in {path}, got: {error}; try mending that line") from error
    defaults: dict[str, dict[str, object]] = {command: {} for command in options}
    tables = {name: value for name, value in content.items() if isinstance(value, dict)}
    for name, value in content.items():
        if name in tables:
            continue
        key = name.replace("-", "_")
        users = [command for command, names in options.items() if key in names]
        if not users:
            raise _unknown(path, name)
        for command in users:
            defaults[command][options[command][key]] = value
    for command, table in tables.items():
        for name, value in table.items():
            key = name.replace("-", "_")
            if key not in options.get(command, {}):
                raise _unknown(path, f"{command}.{name}")
            defaults[command][options[command][key]] = value
    return defaults


def _unknown(path: Path, name: str) -> UsageError:
    return UsageError(
        f"expected the names of options in {path}, got {name!r}; try 'nstx COMMAND --help'"
    )


def apply_config(context: Any) -> None:
    """Give a command line's context the defaults of the configuration file, if there is one.

    Raises:
        UsageError: as `read_defaults`.
    """
    path = find_config()
    if path is None:
        return
    commands = context.command.commands
    options = {
        name: {
            flag.lstrip("-").replace("-", "_"): item.name
            for item in command.params
            for flag in item.opts
            if flag.startswith("--")
        }
        for name, command in commands.items()
    }
    context.default_map = read_defaults(path, options)
