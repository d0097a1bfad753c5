"""Options in groups: declared once, seen everywhere; and the table that lists the commands."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from nstx.cli.app import Commands
from nstx.cli.configuration.defaults import apply_config
from nstx.cli.grouped import only, without
from nstx.cli.lazy import Entry, LazyGroup
from nstx.cli.options.shared import Machine, Objective, Size, Solver, choices_of, settings_of
from nstx.cli.sources import COMMAND_LINE, CONFIGURATION, ENVIRONMENT
from nstx.engine.choices import choose_settings
from nstx.models.errors import UsageError

MODULE = '''
import json
from dataclasses import dataclass
from typing import Annotated

import typer

from nstx.cli.grouped import Help, grouped, only
from nstx.cli.options.shared import Solver

app = typer.Typer(add_completion=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class MomentumSolver(Solver):
    momentum: Annotated[float, Help("Share of the last step.")] = 0.5


@app.command()
@grouped
def paint(title: str, solver: Annotated[MomentumSolver, only("momentum", "steps", steps=7)]) -> None:
    """Paint."""
    source = solver.sources["momentum"]
    typer.echo(json.dumps([title, solver.momentum, source, solver.steps, solver.seed]))
'''


@pytest.fixture
def paint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that runs a command whose group has one field more than ours."""
    (tmp_path / "painting_command.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)

    class Painting(LazyGroup):
        table = {"paint": Entry("Paint.", "painting_command")}  # noqa: RUF012

    app = typer.Typer(cls=Painting, add_completion=False)

    @app.callback()
    def root(context: typer.Context) -> None:
        apply_config(context)

    def run(*arguments: str, **environment: str) -> str:
        result = CliRunner().invoke(
            app, ["paint", *arguments], env={"COLUMNS": "100"} | environment
        )
        assert result.exit_code == 0, result.output
        return result.output

    return run


def test_a_field_of_a_group_is_an_option_a_variable_and_a_key(paint: Callable[..., str]) -> None:
    def run(*arguments: str, **environment: str) -> list[object]:
        values: list[object] = json.loads(paint("sea", *arguments, **environment))
        return values

    assert run() == ["sea", 0.5, "DEFAULT", 7, 0]
    Path("nstx.toml").write_text("momentum = 0.25\n")
    assert run()[1:3] == [0.25, CONFIGURATION]
    assert run(NSTX_MOMENTUM="0.75")[1:3] == [0.75, ENVIRONMENT]
    assert run("--momentum", "1", NSTX_MOMENTUM="0.75")[1:3] == [1.0, COMMAND_LINE]


def test_a_field_of_a_group_is_in_the_help_with_its_default(paint: Callable[..., str]) -> None:
    lines = paint("--help").splitlines()
    (line,) = (line for line in lines if "--momentum" in line)
    assert "Share of the last step. [default: 0.5]" in line
    assert any("Solver" in line for line in lines)
    assert not any("--seed" in line for line in lines)


def test_only_names_of_options_can_be_chosen() -> None:
    assert only("steps", "seed").names(Solver) == ("steps", "seed")
    assert without("steps", "seed").names(Solver) == ("solver", "learning_rate", "init", "clean")
    for selection in (only("size"), without("size"), only("steps", size=3)):
        with pytest.raises(TypeError, match="Solver, got size"):
            selection.names(Solver)


def test_groups_that_choose_nothing_make_the_presets_settings() -> None:
    for name in ("default", "coursera"):
        groups = (Objective(preset=name), Size(), Solver(), Machine())
        assert settings_of(*groups) == choose_settings(name)


def test_groups_make_the_settings_that_they_choose() -> None:
    groups = (
        Objective(preset="gatys", pooling="avg", content_layers="conv3_1"),
        Size(width=100, scales="auto"),
        Solver(solver="adam", seed=4),
        Machine(device="cpu", no_cache=True),
    )
    expected = choose_settings(
        "gatys", pooling="avg", content_layers="conv3_1", width=100, auto_scales=True,
        solver="adam", seed=4, device="cpu", use_cache=False,
    )  # fmt: skip
    assert settings_of(*groups) == expected


@pytest.mark.parametrize(
    ("size_source", "width_source", "sizes"),
    [
        (CONFIGURATION, COMMAND_LINE, (None, 48)),
        (ENVIRONMENT, CONFIGURATION, (400, None)),
        (COMMAND_LINE, COMMAND_LINE, (400, 48)),
    ],
)
def test_the_size_that_is_nearer_to_the_command_counts(
    size_source: str, width_source: str, sizes: tuple[int | None, int | None]
) -> None:
    size = Size(size=400, width=48, sources={"size": size_source, "width": width_source})
    choices = choices_of(size)
    assert (choices["size"], choices["width"]) == sizes


def test_scales_are_auto_or_a_number() -> None:
    assert choices_of(Size(scales="3"))["scales"] == 3
    assert choices_of(Size(scales=" Auto "))["auto_scales"] is True
    with pytest.raises(UsageError, match="some"):
        choices_of(Size(scales="some"))


def test_commands_are_listed_with_the_first_lines_of_their_help() -> None:
    commands = Commands(name="nstx")
    summaries = {name: entry.summary for name, entry in commands.table.items()}
    paragraphs = {name: commands.load(name).help.split("\n\n")[0] for name in summaries}
    assert summaries == {name: " ".join(text.split()) for name, text in paragraphs.items()}
    assert "bench.optimize" in dict(commands.load_all())
