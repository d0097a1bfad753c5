"""Names for what an unfinished run leaves, so that it replaces nothing."""

import os
from itertools import count
from pathlib import Path

from .files import longest_name


def beside(path: Path) -> Path:
    """Return a name at which nothing stands, beside a file: ``out.unfinished.png``, ``out.unfinished-2.png``.

    The file's own name is cut where the longer one would be too long.
    """
    room = longest_name(path.parent)
    for number in count(1):
        mark = ".unfinished" + (f"-{number}" if number > 1 else "") + path.suffix
        stem = path.stem
        while len(os.fsencode(stem + mark)) > room:
            stem = stem[:-1]
        name = path.with_name(stem + mark)
        if not os.path.lexists(name):
            return name
    raise AssertionError  # numbers do not end
