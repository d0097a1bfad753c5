"""Groups of commands, and one that imports a command's module when the command is run."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, ClassVar, NamedTuple

import typer.main
from typer.core import TyperCommand, TyperGroup

from nstx.models.errors import UsageError
from nstx.models.values import describe, suggest


class Entry(NamedTuple):
    """A command: the first line of its help, and the module whose ``app`` it is.

    Without a module, it is that of the command's name in ``commands``.
    """

    summary: str
    module: str | None = None


class CommandGroup(TyperGroup):
    """A group that says in nstx's words that it has no such command."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the name, the command, and the arguments that are left."""
        word = args[0]
        if word not in self.commands and word[:1] != "-" and not ctx.resilient_parsing:
            path = ctx.command_path
            advice = suggest(word, self.commands, f"'{path} --help'")
            raise UsageError(f"expected a command of {path}, got {describe(word)}; try {advice}")
        return super().resolve_command(ctx, args)


class LazyGroup(CommandGroup):
    """Lists the commands of its table in that order, and imports the one that is run."""

    table: ClassVar[Mapping[str, Entry]] = {}

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self._loaded: dict[str, Any] = {}
        for name, entry in self.table.items():
            self.add_command(TyperCommand(name=name, help=entry.summary))

    def load(self, name: str) -> Any:
        """Return a command of the table, or a group of them, with its options."""
        if name not in self._loaded:
            place = self.table[name].module or f".commands.{name}"
            module = import_module(place, __package__)
            self._loaded[name] = typer.main.get_command(module.app)
        return self._loaded[name]

    def load_all(self) -> Iterator[tuple[str, Any]]:
        """Yield every command with its name; one in a group is called ``bench.features``."""
        for name in self.table:
            command = self.load(name)
            if isinstance(command, TyperGroup):
                yield from ((f"{name}.{inner}", item) for inner, item in command.commands.items())
            else:
                yield name, command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the name, the command with its options, and the arguments that are left."""
        name, entry, rest = super().resolve_command(ctx, args)
        return name, None if name is None or entry is None else self.load(name), rest
