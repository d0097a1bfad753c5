"""The configuration file: which one is in force, and its TOML."""

import os
import re
import tomllib
from pathlib import Path
from typing import Any

from nstx.models.errors import UsageError
from nstx.models.printable import printable
from nstx.models.storage.cache import in_home
from nstx.models.storage.inputs import read_input

_MOST_BYTES = 2**20
_LONGEST = 200  # characters of a reason that a message shows
_MOST_LEVELS = 8
"""Of a key; a command's group, the command and an option are three."""
_TEXTS = re.compile(
    r'"""(?:\\.|[^\\])*?(?:"""|\Z)'
    r"|'''.*?(?:'''|\Z)"
    r'|"(?:\\.|[^"\\\n])*"?'
    r"|'[^'\n]*'?"
    r"|#[^\n]*",
    re.DOTALL,
)
"""Strings and comments; each begins, whether it ends or not, so that none is scanned twice."""
_DEEP_KEY = re.compile(rf"(?<![\w-])[\w-]++(?:[ \t]*+\.[ \t]*+[\w-]++){{{_MOST_LEVELS}}}")
"""Without a way back, which would take the square of a long number's digits."""


def find_config() -> Path | None:
    """Return the configuration file that is in force, or None."""
    if named := os.environ.get("NSTX_CONFIG"):
        return Path(named)
    # Whatever has the name, a folder or a link to nothing, is meant to be the configuration.
    local = Path("nstx.toml")
    if os.path.lexists(local):
        return local
    from platformdirs import user_config_path

    folder = in_home(lambda: user_config_path("nstx", appauthor=False))
    personal = folder and folder / "config.toml"
    return personal if personal and os.path.lexists(personal) else None


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file of at most 1 MiB, in UTF-8 with or without a byte order mark.

    Raises:
        UsageError: it cannot be read, or is no TOML that a configuration can be.
    """
    advice = "unsetting NSTX_CONFIG" if os.environ.get("NSTX_CONFIG") else "a TOML file there"
    data = read_input(
        path, kind="a configuration", most_bytes=_MOST_BYTES, error=UsageError, advice=advice
    )
    try:
        text = _decode(data)
        # tomllib takes the square of a key's levels.
        if _DEEP_KEY.search(_TEXTS.sub("text", text)):
            raise ValueError(f"a key of more than {_MOST_LEVELS} levels")
        return tomllib.loads(text)
    except RecursionError:
        reason = "arrays or tables within one another, too deep"
    except (
        ValueError
    ) as error:  # tomllib's, Unicode's, and Python's of numbers with too many digits
        reason = printable(error)[:_LONGEST]
    raise UsageError(f"expected TOML in {printable(path)}, got: {reason}; try mending that line")


def _decode(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError("UTF-16, where TOML is UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"bytes that are no UTF-8 (at line {line})") from error
