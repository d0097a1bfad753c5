"""Plain data that files carry, read strictly: JSON, and its fields with their types and ranges.

All raise `ValueError` with a few words of what is wrong, and nothing else.
"""

import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

_LONGEST_TEXT = 1 << 16
_DEEPEST = 64
_TOO_DEEP = "it is nested too deeply"


def parse_json(text: str | bytes) -> Any:
    """Return the plain data in a JSON text, of UTF-8 where it is bytes.

    `ValueError` if it is none, as of NaN and infinities, numbers of thousands of digits, a key that
    comes twice, or lists within lists without end.
    """
    try:
        whole = text if isinstance(text, str) else text.decode("utf-8")
        data = json.loads(
            whole,
            parse_constant=_refuse_constant,
            parse_float=_parse_float,
            object_pairs_hook=_pair,
        )
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    if whole.count("[") + whole.count("{") > _DEEPEST:
        _check_depth(data)
    return data


def _check_depth(data: Any) -> None:
    """Raise `ValueError` where Python's own functions could not follow to the end."""
    level = [data]
    for _ in range(_DEEPEST):
        parts = [item.values() if isinstance(item, dict) else item for item in level]
        level = [item for part in parts for item in part if isinstance(item, dict | list)]
        if not level:
            return
    raise ValueError(_TOO_DEEP)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _parse_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large")
    return value


def _pair(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key comes twice")
    return fields


def take_field(data: Any, name: str) -> Any:
    """Return a field of an object."""
    if not isinstance(data, dict) or name not in data:
        raise ValueError(f"there is no {name!r}")
    return data[name]


def take_text(data: Any, name: str, pattern: str | None = None) -> str:
    """Return a field that is a text, not too long, and matches a pattern from end to end, if any."""
    value = take_field(data, name)
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise ValueError(f"{name!r} is no text of at most {_LONGEST_TEXT} characters")
    if pattern is not None and re.fullmatch(pattern, value) is None:
        raise ValueError(f"{name!r} is not of the form {pattern}")
    return value


def take_choice(data: Any, name: str, names: Iterable[str]) -> str:
    """Return a field that is one of some names, of letters, digits and hyphens."""
    return take_text(data, name, "|".join(names))


def take_number(data: Any, name: str, low: float = -math.inf, high: float = math.inf) -> float:
    """Return a field that is a finite number between two bounds, as it stands: whole or not."""
    value = take_field(data, name)
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            number = float(value)
            if math.isfinite(number) and low <= number <= high:
                return value
    except OverflowError:
        pass
    raise ValueError(f"{name!r} is no number of {low:g} … {high:g}")


def take_whole(data: Any, name: str, low: int, high: int) -> int:
    """Return a field that is a whole number between two bounds."""
    value = take_field(data, name)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name!r} is no whole number of {low} … {high}")
    return value


def take_flag(data: Any, name: str) -> bool:
    """Return a field that is true or false."""
    value = take_field(data, name)
    if not isinstance(value, bool):
        raise ValueError(f"{name!r} is neither true nor false")  # noqa: TRY004  (as all of plain data)
    return value


def take_list(data: Any, name: str, most: int) -> list[Any]:
    """Return a field that is a list of at most ``most`` items."""
    value = take_field(data, name)
    if not isinstance(value, list) or len(value) > most:
        raise ValueError(f"{name!r} is no list of at most {most} items")
    return value


def take_object(data: Any, name: str) -> dict[str, Any]:
    """Return a field that is an object."""
    value = take_field(data, name)
    if isinstance(value, dict):
        return value
    raise ValueError(f"{name!r} is no object")


def take_numbers(
    data: Any, name: str, count: int, low: float = -math.inf, high: float = math.inf
) -> tuple[float, ...]:
    """Return a field that is a list of so many finite numbers between two bounds."""
    values = take_list(data, name, count)
    if len(values) != count:
        raise ValueError(f"{name!r} has {len(values)} numbers instead of {count}")
    return tuple(float(take_number({name: value}, name, low, high)) for value in values)
