"""Options in groups: a command takes frozen dataclasses, and its users see the fields as options.

::

    class Solver(Group):
        panel: ClassVar[str | None] = "Solver"
        steps: Annotated[int | None, Help("Solver iterations.")] = None

    @grouped
    def optimize(solver: Solver) -> None: ...

has an option ``--steps``, which the environment variable ``NSTX_STEPS`` and the key ``steps`` of a
configuration file set as well.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand

from .session import session
from .sources import flag_of, setting_of, source_of

_KEYWORD = inspect.Parameter.KEYWORD_ONLY


@dataclass(frozen=True, slots=True)
class Help:
    """Annotation of an option: its help, and what its name, type and default do not say.

    Attributes:
        flags: by default, the name with hyphens.
        metavar: placeholder of the value; None shows its type.
        is_list: the text has several values, separated by commas; a configuration may have a list.
        values: that a shell offers; others may do as well.
    """

    text: str
    flags: tuple[str, ...] = ()
    metavar: str | None = None
    is_list: bool = False
    values: tuple[str, ...] = ()


KINDS: dict[type, str] = {
    bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"
}  # fmt: skip
"""The types that options have, as messages call them."""


@dataclass(frozen=True, slots=True)
class Option:
    """What is known of a command's option, however it was declared.

    Attributes:
        parameter: the command's.
        kind: one of `KINDS`: the type of its value, or of each of its values.
        repeated: it can be repeated, so that it has several values.
        is_list: as `Help` has it.
    """

    parameter: str
    kind: type
    repeated: bool
    is_list: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Base of the groups: every field that is annotated with `Help` is an option.

    Attributes:
        panel: the heading in ``--help``. Only options under one have environment variables.
        sources: where values come from, such as `COMMAND_LINE`, by the names of fields.
    """

    panel: ClassVar[str | None] = None

    sources: Mapping[str, str] = field(default_factory=dict)

    def choices(self) -> dict[str, Any]:
        """Return the values by the names that `nstx.engine.choices.choose_settings` gives them."""
        return {name: getattr(self, name) for name in option_names(type(self))}


@dataclass(frozen=True, slots=True)
class _Selection:
    """Which options of a group a command has, in their order, and defaults that differ."""

    only: tuple[str, ...] | None
    without: tuple[str, ...]
    defaults: Mapping[str, Any]

    def names(self, group: type[Group]) -> tuple[str, ...]:
        names = option_names(group)
        chosen = names if self.only is None else self.only
        if unknown := {*chosen, *self.without, *self.defaults} - set(names):
            raise TypeError(f"expected options of {group.__name__}, got {', '.join(unknown)}")
        return tuple(name for name in chosen if name not in self.without)


def only(*names: str, **defaults: Any) -> _Selection:
    """Annotate a parameter of a command that has only these options of a group, in this order.

    ``defaults`` are those that differ from the group's.
    """
    return _Selection(names, (), defaults)


def without(*names: str) -> _Selection:
    """Annotate a parameter of a command that has all options of a group but these."""
    return _Selection(None, names, {})


def option_names(group: type[Group]) -> tuple[str, ...]:
    """Return the names of a group's options in the order of ``--help``."""
    return tuple(item.name for item in fields(group) if item.name != "sources")


class SeveralValues(TyperCommand):
    """A command whose picture options take all values up to the next option: ``--style *.jpg``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option before each further value, as the parser expects it."""
        repeated: list[str] = []
        current = ""
        for place, value in enumerate(args):
            if value.startswith("-"):
                name = value.partition("=")[0]
                current = name if name in ("--content", "--style") else ""
            elif current and args[place - 1] != current:
                repeated.append(current)
            repeated.append(value)
        return super().parse_args(ctx, repeated)


def argument(text: str, metavar: str | None = None) -> Any:
    """Annotate a parameter of a command that is an argument."""
    return typer.Argument(metavar=metavar, help=text, show_default=False)


def grouped(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command one parameter for each option of its groups, which it is called with, filled.

    A parameter that is annotated with `Help` is an option without a group; others stay as they are.
    """
    groups: dict[str, tuple[type[Group], _Selection]] = {}
    parameters = [inspect.Parameter("context", _KEYWORD, annotation=typer.Context)]
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        group, selection = _split_annotation(hints[name])
        if group is None:
            hint = _read_help(name, hints[name])
            parameters.append(parameter.replace(kind=_KEYWORD, annotation=hint))
        else:
            groups[name] = group, selection
            parameters += _options(group, selection)

    @functools.wraps(function)
    def command(context: typer.Context, **values: Any) -> None:
        for name, (group, selection) in groups.items():
            names = selection.names(group)
            sources = {option: source_of(context, option) for option in names}
            options = {option: values.pop(option) for option in names}
            values[name] = group(sources=sources, **options)
        session.context = context
        function(**values)

    command.__annotations__ = {item.name: item.annotation for item in parameters}
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def _split_annotation(hint: Any) -> tuple[type[Group] | None, _Selection]:
    """Return the group of a parameter, if it is one, and what a command has of it."""
    selection = without()
    if get_origin(hint) is Annotated:
        hint, *extras = get_args(hint)
        selection = next((item for item in extras if isinstance(item, _Selection)), selection)
    return (hint if isinstance(hint, type) and issubclass(hint, Group) else None), selection


def _options(group: type[Group], selection: _Selection) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    defaults = {item.name: item.default for item in fields(group)}
    defaults.update(selection.defaults)
    for name in selection.names(group):
        default = inspect.Parameter.empty if defaults[name] is MISSING else defaults[name]
        hint = _read_help(name, hints[name], group.panel)
        yield inspect.Parameter(name, _KEYWORD, default=default, annotation=hint)


def _read_help(name: str, hint: Any, panel: str | None = None) -> Any:
    """Return an annotation as typer reads it: with an option in place of a `Help`."""
    kind, help_ = (*get_args(hint), None, None)[:2]
    if not isinstance(help_, Help):
        return hint
    flags = help_.flags or (flag_of(name),)
    option = typer.Option(
        *flags,
        # Brackets are markup to typer, which would leave them out.
        help=help_.text.replace("[", r"\["),
        metavar=help_.metavar,
        autocompletion=_completion(help_.values) if help_.values else None,
        rich_help_panel=panel,
        envvar=f"NSTX_{setting_of(flags[0].partition('/')[0]).upper()}" if panel else None,
        show_envvar=False,
    )
    return Annotated[kind, option, help_]


def command_options(command: Any) -> dict[str, Option]:
    """Return the options of a command by their long names, with underscores."""
    hints = inspect.signature(command.callback).parameters
    return {
        setting_of(flag): _describe_option(item.name, hints[item.name].annotation)
        for item in command.params
        for flag in item.opts
        if flag.startswith("--")
    }


def group_options(group: type[Group]) -> dict[str, Option]:
    """Return the options of a group by their names."""
    hints = get_type_hints(group, include_extras=True)
    return {name: _describe_option(name, hints[name]) for name in option_names(group)}


def _describe_option(name: str, hint: Any) -> Option:
    kind, *extras = get_args(hint)
    help_ = next((extra for extra in extras if isinstance(extra, Help)), None)
    if get_origin(kind) is UnionType:  # `list[str] | None`
        kind = next(part for part in get_args(kind) if part is not NoneType)
    repeated = get_origin(kind) is list
    kind = get_args(kind)[0] if repeated else kind
    return Option(name, kind, repeated, help_ is not None and help_.is_list)


def _completion(values: tuple[str, ...]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return complete
