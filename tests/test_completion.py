"""What a shell offers behind ``nstx``: commands, options, and the values of those that have a few."""

import os
import subprocess
import sys

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
