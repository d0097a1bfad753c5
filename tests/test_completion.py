"""What a shell offers behind ``nstx``: commands, options, and the values of those that have a few."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nstx.cli.app import app

_WATCHED = """\
import sys
sys.argv[0] = "nstx"
from nstx.cli.app import app
try:
    app()
except SystemExit as end:
    heavy = {"torch", "numpy", "onnxruntime"} & set(sys.modules)
    sys.exit(end.code or ", ".join(heavy) or 0)
"""


@pytest.mark.parametrize(
    ("line", "offers"),
    [
        ("nstx comp", ["compare"]),
        ("nstx cache c", ["clear"]),
        ("nstx bench fea", ["features"]),
        ("nstx optimize a.jpg b.jpg --pre", ["--preset", "--precision"]),
        ("nstx optimize --solver ", ["adam", "lbfgs"]),
        ("nstx optimize --backend o", ["onnx"]),
        ("nstx compare --device c", ["cpu", "cuda"]),
        ("nstx features --pooling m", ["max"]),
        ("nstx cache ls --kind ta", ["targets"]),
        ("nstx --show-completion ", ["bash", "zsh", "fish", "powershell", "pwsh"]),
        ("nstx --install-completion p", ["powershell", "pwsh"]),
        ("nstx --show-completion=zsh ca", ["cache"]),
        ("nstx --version ca", ["cache"]),
        # Nothing is offered where the shell is to offer the names of files.
        ("nstx optimize ph", []),
        ("nstx optimize --init ./ph", []),
        ("nstx optimize a.jpg b.jpg -o ", []),
    ],
)
def test_a_shell_offers_what_may_follow(
    line: str,
    offers: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["nstx"])
    monkeypatch.setenv("_NSTX_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
    # It is asked at every key, and is no place for what is wrong with a configuration.
    monkeypatch.setenv("NSTX_CONFIG", "no/such/file")
    with pytest.raises(SystemExit) as end:
        app(prog_name="nstx")
    assert not end.value.code
    captured = capsys.readouterr()
    assert (captured.out.split(), captured.err) == (offers, "")


def test_a_shell_does_not_wait_for_libraries() -> None:
    words = {"COMP_WORDS": "nstx optimize --pre", "COMP_CWORD": "2"}
    environment = {**os.environ, **words, "_NSTX_COMPLETE": "complete_bash"}
    command = [sys.executable, "-c", _WATCHED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == (["--preset", "--precision"], "")


@pytest.fixture
def run(
    nstx: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs `python -m nstx` for a user whose home is a folder of the test."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    # As Python sets it for `-m`; typer would take it for the name of the program.
    monkeypatch.setattr(sys.modules["__main__"], "__package__", "nstx", raising=False)
    return nstx


@pytest.mark.parametrize(
    ("words", "shell"),
    [
        (["zsh"], "compdef _nstx_completion nstx"),
        (["bash"], "complete -o default -F _nstx_completion nstx"),
        (["fish"], "complete --command nstx --no-files"),
    ],
)
def test_the_shell_that_is_named_completes_nstx_and_nothing_else(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, words: list[str], shell: str
) -> None:
    code, out, _ = run("--show-completion", *words)
    assert code == 0
    assert shell in out.splitlines()[-1]
    assert run(f"--show-completion={words[0]}")[1] == out
    assert run("--install-completion", *words)[0] == 0
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.stem.strip("_") for path in written if not path.name.startswith(".")] == ["nstx"]


def test_a_shell_that_cannot_be_completed_is_refused(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, _, err = run("--install-completion", "tcsh")
    assert (code, err.count("\n")) == (2, 1)
    assert "pwsh, got 'tcsh'; try --install-completion bash" in err
    (tmp_path / ".bashrc").mkdir()
    code, _, err = run("--install-completion", "bash")
    assert (code, err.count("\n")) == (7, 1)
    assert ".bashrc" in err


def test_lines_that_nobody_reads_are_no_failure(
    run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with contextlib.suppress(BrokenPipeError), os.fdopen(writer, "w") as nowhere:
        monkeypatch.setattr(sys, "stdout", nowhere)
        code, _, err = run("--show-completion", "bash")
    assert (code, err) == (0, "")
