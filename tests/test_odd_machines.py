"""Machines that are odd: no home, no working folder, few processors, terminals with few signs."""

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from nstx.cli import app
from nstx.cli.configuration.file import find_config
from nstx.cli.console import Console, print_lines
from nstx.engine.sessions.kept_graphs import keep_graph
from nstx.export.runtime.session import usable_threads
from nstx.models.errors import UsageError
from nstx.models.storage.cache import cache_folder, keeps_cache

Nstx = Callable[..., tuple[int, str, str]]

FAST = ("--size", "32", "--steps", "1")

posix = pytest.mark.skipif(os.name != "posix", reason="homes are those of POSIX")


@pytest.fixture
def pictures(save_picture: Callable[..., Path]) -> tuple[Path, Path]:
    return save_picture("content.png", 32, 32, 1), save_picture("style.png", 32, 32, 2)


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a user whom no list has, without HOME."""
    import pwd

    def no_user(number: int) -> Any:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", no_user)
    for name in ("HOME", "NSTX_CACHE_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


@posix
@pytest.mark.usefixtures("homeless")
def test_without_a_home_nothing_is_kept_and_all_works(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ("optimize", *pictures, "-o", tmp_path / "out.png", *FAST)
    code, out, _ = nstx(*arguments, "--json")
    assert code == 0
    assert json.loads(out)["warnings"] == [
        "this user has no home, so nothing is kept; try NSTX_CACHE_DIR or HOME"
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"content.png", "style.png", "out.png"}


@posix
@pytest.mark.usefixtures("homeless")
def test_without_a_home_there_is_no_cache_to_list(nstx: Nstx) -> None:
    code, _, err = nstx("cache", "ls")
    assert code == 7
    assert err == (
        "nstx: error: expected a home for the cache, got a user without one; "
        "try NSTX_CACHE_DIR or HOME\n"
    )


@posix
@pytest.mark.parametrize("named", ["~nobody-of-this-name/cache", "~\x1b[2J/cache"])
def test_a_cache_in_the_home_of_nobody_is_a_mistake(
    named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NSTX_CACHE_DIR", named)
    with pytest.raises(UsageError, match="NSTX_CACHE_DIR") as raised:
        cache_folder()
    assert str(raised.value).isprintable()
    assert not keeps_cache(use_cache=False)


@posix
@pytest.mark.usefixtures("homeless")
@pytest.mark.parametrize("home", ["relative", "a_file", "closed"])
def test_a_home_that_is_none_is_no_obstacle(
    home: str, logged_warnings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a_file").touch()
    Path("closed").mkdir(0)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, home if home == "relative" else str(tmp_path / home))
    assert find_config() is None
    assert keeps_cache(use_cache=True) is (home != "relative")
    assert len(logged_warnings) == (home == "relative")
    if home == "a_file":
        assert keep_graph("0" * 32, b"") is None
        assert "cannot be written" in logged_warnings[0]


@posix
def test_a_working_folder_that_is_gone_leaves_absolute_paths(
    nstx: Nstx,
    pictures: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr(app, "run_app", lambda _: 0)
    app.run()
    assert "the working folder is gone" in capsys.readouterr().err
    output = tmp_path / "out.png"
    assert nstx("optimize", *pictures, "-o", output, *FAST)[0] == 0
    assert output.exists()
    code, _, err = nstx("optimize", *pictures, "-o", "out.png", *FAST)
    assert code == 7
    assert err.startswith("nstx: error: expected a folder that can be written, got")
    assert len(err.splitlines()) == 1


@posix
def test_a_working_folder_that_goes_during_a_run_is_one_line(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    content, style = pictures
    code, _, err = nstx("batch", "--content", content, "--style", style, "-o", "out", *FAST)
    assert code == 7
    assert err == (
        "nstx: error: expected a working folder, got one that is gone meanwhile; try another folder\n"
    )


def test_threads_are_those_of_the_processors_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged_warnings: list[str]
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    assert [usable_threads(threads, tmp_path) for threads in (1, 4)] == [1, 4]
    assert logged_warnings == []
    assert usable_threads(99, tmp_path) == 4
    assert logged_warnings == ["99 threads are more than this process has processors; 4 are taken"]
    quota = tmp_path / "fs" / "cgroup" / "cpu.max"
    quota.parent.mkdir(parents=True)
    quota.write_text("150000 100000\n")
    assert usable_threads(3, tmp_path) == 2


@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_more_threads_than_processors_are_a_warning(
    backend: str, nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    output = tmp_path / "out.png"
    arguments = (*FAST, "--threads", 999, "--backend", backend, "--json")
    code, out, _ = nstx("optimize", *pictures, "-o", output, *arguments)
    assert code == 0
    (warning,) = json.loads(out)["warnings"]
    assert warning.startswith("999 threads are more than this process has processors")


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("koi8-r", "96x72 ... alpha ? ?"),
        ("cp1252", "96×72 … alpha é ?"),
        ("utf-8", "96×72 … α é 語"),
    ],
)
def test_a_terminal_of_few_signs_shows_others(
    encoding: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(data, encoding=encoding))
    monkeypatch.setattr(app, "run_app", lambda _: typer.echo("96×72 … α é 語"))
    app.run()
    assert data.getvalue().decode(encoding).strip() == text


@posix
def test_a_terminal_that_was_closed_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import pty

    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setattr(sys, "stdout", terminal)
        console = Console(as_json=False, quiet=False)
        with console.bar("working", 2) as update:
            update(completed=1)
            os.close(master)
            console.warn("nobody reads this")
        print_lines("nor this")
        terminal.flush()


@pytest.mark.parametrize("name", ["COLUMNS", "LINES", "TERMINAL_WIDTH"])
@pytest.mark.parametrize("size", ["0", "-5", "²", "9" * 20, "wide", ""])
def test_an_odd_size_of_a_terminal_is_none(
    name: str, size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, size)
    monkeypatch.setattr(app, "run_app", lambda _: 0)
    app.run()
    assert name not in os.environ


def test_a_usual_size_of_a_terminal_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "132")
    monkeypatch.setattr(app, "run_app", lambda _: 0)
    app.run()
    assert os.environ["COLUMNS"] == "132"
