"""Checks of the types of arguments: of public functions, and of dataclasses that callers make.

A signature says what a function takes; here that is held against what it is called with, so that a
slip is an error of one line, before any work. Ranges and names are checked where they are used.
"""

import functools
import inspect
import numbers
import os
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, get_args, get_origin

from .errors import UsageError
from .values import describe, is_flag

_P = ParamSpec("_P")
_R = TypeVar("_R")

_WORDS = {
    "NoneType": "None", "str": "a text", "int": "a whole number", "float": "a number",
    "bool": "True or False", "Path": "a path", "PathLike": "a path", "Callable": "a function",
    "ndarray": "an array", "Image": "an image of Pillow's", "Sequence": "a list",
    "Mapping": "a mapping", "Settings": "Settings", "Weights": "Weights",
    "SavedTargets": "SavedTargets",
}  # fmt: skip
"""Classes in words; others are called by their names."""

_EXAMPLES = {
    "Settings": "choose_settings(size=512)",
    "Job": "prepare_job('photo.jpg', 'painting.jpg')",
    "SavedTargets": "read_targets('targets.safetensors')",
    "Weights": "load_weights()",
    "Objective": "choose_settings().objective",
    "FeatureGraph": "FeatureGraph(activations='conv4_2')",
    "Picture": "'photo.jpg'",
}
"""What makes a value of a class."""

_ACCEPTED: dict[Any, Any] = {int: numbers.Integral, float: numbers.Real, Path: os.PathLike}
"""Classes for which others stand in, such as NumPy's numbers."""


def check_type(name: str, value: _R, hint: Any, example: str) -> _R:
    """Return a value of a type, or of one of several; `UsageError` if it is of none.

    Args:
        name: of the argument.
        value: of it.
        hint: the type, as an annotation has it.
        example: what to try, where nothing better is known.
    """
    if _fits(value, hint):
        return value
    made = [_EXAMPLES[kind] for kind in map(_class_name, _kinds(hint)) if kind in _EXAMPLES]
    what = " or ".join(map(_in_words, _kinds(hint)))
    raise UsageError(
        f"expected {what} as {name.replace('_', ' ')}, got {_describe(value, hint)}; "
        f"try {next(iter(made), example)}"
    )


def check_arguments(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Return a public function that refuses arguments of other types than its signature names.

    `UsageError` says which. Of lists and mappings, items of one class are looked at, too. Keywords of
    ``**choices`` are left to the function.
    """
    signature = inspect.signature(function)
    advice = {
        name: f"{name}={parameter.default!r}"
        for name, parameter in signature.parameters.items()
        if isinstance(parameter.default, str | int | None)
    }

    @functools.wraps(function)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        arguments = signature.bind(*args, **kwargs).arguments
        _check_types(function, arguments, advice)
        return function(*args, **kwargs)

    return checked


def check_fields(instance: Any) -> None:
    """Check that the attributes of a dataclass's instance have the types that it names."""
    values = {field.name: getattr(instance, field.name) for field in fields(instance)}
    _check_types(type(instance), values, {})


def _check_types(
    owner: Callable[..., Any], values: Mapping[str, Any], advice: Mapping[str, str]
) -> None:
    hints, otherwise = _hints(owner), f"help(nstx.{owner.__name__})"
    for name, value in values.items():
        check_type(name, value, hints[name], advice.get(name, otherwise))


@functools.cache
def _hints(owner: Callable[..., Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(owner)
    # Settings that are named one by one are checked where they are made.
    return {
        name: Any if get_origin(hint) is typing.Unpack else hint for name, hint in hints.items()
    }


def _kinds(hint: Any) -> tuple[Any, ...]:
    """Return the alternatives of a type."""
    is_union = get_origin(hint) in (typing.Union, types.UnionType)
    return get_args(hint) if is_union else (hint,)


def _fits(value: Any, hint: Any) -> bool:
    if hint is Any:
        return True
    if len(kinds := _kinds(hint)) > 1:
        return any(_fits(value, kind) for kind in kinds)
    kind, items = get_origin(hint) or hint, get_args(hint)
    if kind is Literal:
        return isinstance(value, str) and value in items
    if kind is bool or is_flag(value):
        return kind is bool and is_flag(value)
    if not isinstance(value, _ACCEPTED.get(kind, kind)):
        return False
    if kind is Sequence and isinstance(value, str):
        return False  # whose letters are meant as no list
    if kind not in (Sequence, Mapping) or len(_kinds(items[-1])) > 1:
        return True  # what a list of different things holds, its reader knows
    return all(_fits(item, items[-1]) for item in (value.values() if kind is Mapping else value))


def _describe(value: Any, hint: Any) -> str:
    """Return a wrong value as a message shows it; of a list, what is wrong in it."""
    for kind in _kinds(hint):
        if get_origin(kind) in (Sequence, Mapping) and isinstance(value, list | tuple | dict):
            held = value.values() if isinstance(value, dict) else value
            wrong = (item for item in held if not _fits(item, get_args(kind)[-1]))
            return next((f"{describe(item)} in it" for item in wrong), describe(value))
    return describe(value)


def _class_name(kind: Any) -> str:
    return str(getattr(get_origin(kind) or kind, "__name__", kind))


def _in_words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    name = _class_name(kind)
    article = "an" if name[0] in "AEIOU" else "a"
    words = _WORDS.get(name, f"{article} {name}")
    items = get_args(kind)[-1:] if name in ("Sequence", "Mapping") else ()
    if items and len(_kinds(items[0])) == 1:
        return f"{words} of {_in_words(items[0]).partition(' ')[2]}s"
    return words
