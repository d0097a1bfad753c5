"""Plain data, such as JSON holds, with a value that does not belong there."""

from random import Random
from typing import Any

from .damage import LARGE, NUMBERS

ODD: tuple[Any, ...] = (
    None, True, "", "text", "\x1b[2J", "<script>alert(1)</script>", "../../etc/passwd", "a\0b",
    "\udcff", "9" * 5000, [], {}, [[]], [None], {"": None}, -1, 0.5, 1e308, -1e308, 1e-320,
    float("nan"), float("inf"), 10**400, *NUMBERS[:4], *LARGE,
)  # fmt: skip
"""Values that fit nowhere, or hardly."""


def change_data(data: Any, random: Random) -> tuple[str, Any]:
    """Return what was changed, and a copy of plain data with a value replaced, lost or added."""
    place = ""
    if not isinstance(data, dict | list) or not data or (random.random() < 0.1):
        return place, random.choice(ODD)
    change = random.choice(("inside", "inside", "inside", "replace", "drop", "add"))
    if isinstance(data, list):
        index, copy = random.randrange(len(data)), list(data)
        if change == "drop":
            del copy[index]
        elif change == "add":
            copy.insert(index, random.choice((copy[index], *ODD)))
        elif change == "replace":
            copy[index] = random.choice(ODD)
        else:
            place, copy[index] = change_data(copy[index], random)
        return f"{change} [{index}]{place}", copy
    key, fields = random.choice(list(data)), dict(data)
    if change == "drop":
        del fields[key]
    elif change == "add":
        fields[random.choice(("", "new", "\x1b[2J", "__class__"))] = random.choice(ODD)
    elif change == "replace":
        fields[key] = random.choice(ODD)
    else:
        place, fields[key] = change_data(fields[key], random)
    return f"{change} {key}{place}", fields
