"""Checks of single values that a caller names: whole numbers, numbers, switches and names.

Each returns the value as Python's own type, NumPy's numbers included, or raises `UsageError`.
"""

import math
import numbers
import operator
import os
import re
from collections.abc import Iterable
from typing import Any

from .errors import UsageError, about
from .printable import printable

_LONGEST = 60  # characters of a wrong value that a message shows


def refuse(what: str, name: str, value: object, suggestion: object) -> UsageError:
    """Return the error of a value that is not ``what`` it should be, as ``a whole number``."""
    example = f"{name}={suggestion!r}" if name.isidentifier() else f"{suggestion!r}"
    return UsageError(
        f"expected {what} as {in_words(name)}, got {describe(value)}; try {example}",
        setting=name if name.isidentifier() else None,
    )


def in_words(name: str) -> str:
    """Return a setting's name as prose has it, ``style weight``; a phrase may name a ``conv1_1``."""
    return name.replace("_", " ") if name.isidentifier() else name


def describe(value: object) -> str:
    """Return a wrong value as a message shows it: short, on one line; of an object its type."""
    if value is None or isinstance(value, str | int | float):
        try:
            text = printable(repr(value))
        except ValueError:  # a whole number of more digits than Python writes
            return "a very large number"
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return f"a value of type {type(value).__name__}"


def suggest(name: object, names: Iterable[str], otherwise: str) -> str:
    """Return the name that a mistyped one is nearest to, or else another."""
    from difflib import get_close_matches

    text = name[:_LONGEST].lower() if isinstance(name, str) else ""
    return next(iter(get_close_matches(text, list(names), 1)), otherwise)


def check_whole(name: str, value: Any, suggestion: int = 1) -> int:
    """Return a whole number."""
    try:
        # True is 1 to Python, and hardly what was meant.
        if not is_flag(value):
            return operator.index(value)
    except TypeError:
        pass
    raise refuse("a whole number", name, value, suggestion)


def check_number(name: str, value: Any) -> float:
    """Return a finite number."""
    if isinstance(value, numbers.Real) and not is_flag(value):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise refuse("a finite number", name, value, 1.0)


def check_flag(name: str, value: Any) -> bool:
    """Return True or False."""
    if is_flag(value):
        return bool(value)
    raise refuse("True or False", name, value, True)


def check_text(name: str, value: Any, suggestion: str) -> str:
    """Return a text, such as that of a path."""
    if not isinstance(value, str | os.PathLike):
        raise refuse("a string or a path", name, value, suggestion)
    return os.fsdecode(value)


def is_flag(value: Any) -> bool:
    """Whether a value is True or False, of NumPy's, too."""
    return isinstance(value, bool) or (getattr(value, "dtype", None) == bool and value.ndim == 0)


_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BYTES |= {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_MOST_BYTES = 2**60


def parse_bytes(name: str, text: str) -> int:
    """Read ``500MB``, ``2GiB``, ``2G``, ``2e9`` or a number of bytes; ``name`` is the option's, for the error."""
    pattern = r"(\d{1,20}(?:\.\d{1,20})?(?:e\d{1,2})?)\s*([kmgt]i?|)b?"
    match = re.fullmatch(pattern, text.strip().lower(), re.ASCII)
    size = float(match[1]) * _BYTES[match[2]] if match else math.inf
    if size > _MOST_BYTES:
        raise UsageError(
            f"expected a size for {name}, got {printable(text[:40])!r}; try 500MB or 2GiB",
        )
    return int(size)


def check_bytes(name: str, value: Any, least: int) -> int:
    """Return a number of bytes, whole or as `parse_bytes` reads it."""
    with about(name):
        count = (
            parse_bytes(in_words(name), value)
            if isinstance(value, str)
            else check_whole(name, value)
        )
    if not least <= count <= _MOST_BYTES:
        raise refuse(f"{least >> 20}MiB or more", name, value, "4GiB")
    return count
