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

_C = TypeVar("_C")

_WORDS = {
    "NoneType": "None", "str": "a string", "int": "a whole number", "float": "a number",
    "bool": "True or False", "Path": "a path", "PathLike": "a path", "Callable": "a function",
    "ndarray": "an array", "Image": "an image of Pillow's", "Sequence": "a list", "Iterator": "a generator",
    "Mapping": "a mapping",
}  # fmt: skip
"""Classes in words; others are called by their names."""

_EXAMPLES: dict[object, str] = {}
"""What makes a value of a class: see `with_example`."""

_ACCEPTED: dict[Any, Any] = {int: numbers.Integral, float: numbers.Real, Path: os.PathLike}
"""Classes for which others stand in, such as NumPy's numbers."""


def with_example(example: str) -> Callable[[type[_C]], type[_C]]:
    """Return a decorator of a class that messages advise to make as an example shows."""

    def register(kind: type[_C]) -> type[_C]:
        _EXAMPLES[kind] = example
        return kind

    return register


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
    examples = [_EXAMPLES[kind] for kind in _kinds(hint) if kind in _EXAMPLES]
    raise UsageError(
        f"expected {_in_words(hint)} as {name.replace('_', ' ')}, got {_describe(value, hint)}; "
        f"try {next(iter(examples), example)}"
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
    # A name that a ``type`` statement made stands for another type: NumPy names arrays so, from 2.5 on.
    while hasattr(alias := get_origin(hint) or hint, "__value__"):
        hint = alias.__value__
    is_union = get_origin(hint) in (typing.Union, types.UnionType)
    return tuple(kind for part in get_args(hint) for kind in _kinds(part)) if is_union else (hint,)


def _fits(value: Any, hint: Any) -> bool:
    hint, *others = kinds = _kinds(hint)
    if others:
        return any(_fits(value, kind) for kind in kinds)
    if hint is Any:
        return True
    kind, items = get_origin(hint) or hint, get_args(hint)
    if kind is Literal:
        return isinstance(value, str | int) and not is_flag(value) and value in items
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
            items = value.values() if isinstance(value, dict) else value
            wrong = (item for item in items if not _fits(item, get_args(kind)[-1]))
            return next((f"{describe(item)} in it" for item in wrong), describe(value))
    return describe(value)


def _in_words(hint: Any) -> str:
    """Return a type as a message names it, such as ``a string, a path or None``."""
    words = dict.fromkeys(word for kind in _kinds(hint) for word in _kind_in_words(kind))
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def _kind_in_words(kind: Any) -> list[str]:
    if get_origin(kind) is Literal:
        return list(map(repr, get_args(kind)))
    name = str(getattr(get_origin(kind) or kind, "__name__", kind))
    words = _WORDS.get(name, name if name.endswith("s") else _with_article(name))
    items = get_args(kind)[-1:] if name in ("Sequence", "Mapping") else ()
    if items and items[0] is not Any and len(_kinds(items[0])) == 1:
        return [f"{words} of {_plural(_in_words(items[0]))}"]
    return [words]


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'AEIOU' else 'a'} {noun}"


def _plural(words: str) -> str:
    noun = words.removeprefix("an ").removeprefix("a ")
    return noun if noun.endswith("s") else f"{noun}s"
