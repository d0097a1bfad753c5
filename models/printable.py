"""What strangers name, such as files, made safe to print.

A file name may hold any byte but ``/`` and NUL: line feeds, and escape sequences that clear a screen
or set a window's title. Whatever comes from outside passes `printable` on its way into a message, or `file_name` where
it names a file.
"""

import re
import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

UNSAFE = re.compile(r'[<>:"/\\|?*]')
"""What no name of a file may have on some system."""

_LONGEST_SUFFIX = 12


def printable(text: object) -> str:
    """Return a text on one line, without the characters that a terminal takes for orders.

    These become U+FFFD, as do surrogates, which stand for the bytes of a name that is not UTF-8.
    """
    return "".join(
        char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(text)
    )


def safe_name(text: str) -> str:
    """Return a text as a part of a file's name on any system, with ``_`` in place of what cannot be there."""
    shown = unicodedata.normalize("NFC", "".join(c if c.isprintable() else "_" for c in text))
    return UNSAFE.sub("_", shown).strip(" .") or "_"


def last_part(path: str) -> str:
    """Return the last part of a path, by the rules of every system."""
    # Twice: on Linux a file's own name may look like one behind a drive's letter.
    return PureWindowsPath(PureWindowsPath(path).name).name


def file_name(text: str, longest: int = 100) -> str | None:
    """Return the last part of a path that somebody else wrote, safe, of so many characters; None if nothing is left."""
    name = safe_name(last_part(text[-1000:]))
    suffix = PurePosixPath(name).suffix[:_LONGEST_SUFFIX]
    stem = name.removesuffix(suffix)[: longest - len(suffix)].strip(" .")
    return stem + suffix if stem.strip("_") else None
