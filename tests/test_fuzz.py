"""Some inputs of every kind that `scripts/fuzz` tries by the thousand, and that it sees what is wrong."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz.inputs import Input, Kind, make_input
from fuzz.kinds import KINDS
from fuzz.narrow import LAYERS, expected, state_dict
from fuzz.trial import Trial, try_input
from fuzz.weights import keras_samples, read_weights, samples

from nstx.models.errors import UsageError
from nstx.models.weights.copies import pack_copy, read_copy

# Half a second each at most: MATLAB's files take a process each, networks 80 MB, records and manifests a run first.
QUICK = {
    "picture": 250, "weights": 60, "network": 0, "keras": 20, "matlab": 0, "targets": 50, "entry": 60, "copy": 40,
    "graph": 40, "model": 40, "pickle": 200, "record": 0, "toml": 25, "command": 25,
    "manifest": 25, "jobs": 25,
}  # fmt: skip
SEED = 16


def test_every_kind_is_tried() -> None:
    assert [kind.name for kind in KINDS] == list(QUICK)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_damaged_inputs_are_read_or_refused_in_one_line(kind: Kind) -> None:
    wrong = []
    for index in range(QUICK[kind.name]):
        made = make_input(kind, SEED, index)
        trial = try_input(kind, made)
        if trial.faults:
            wrong.append(f"{index}: {made.change}: {trial.faults}\n{trial.details}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", ["picture", "weights", "keras", "targets", "graph", "model"])
def test_some_inputs_are_accepted_and_some_are_not(name: str) -> None:
    (kind,) = (kind for kind in KINDS if kind.name == name)
    trials = [try_input(kind, make_input(kind, SEED, index)) for index in range(40)]
    assert {trial.accepted for trial in trials} == {True, False}


def test_whole_files_of_the_narrow_network_are_accepted(tmp_path: Path) -> None:
    """Else what damages them would never come to what is behind the comparison of shapes."""
    keras = {f"{name}.h5": data for name, data in keras_samples().items()}
    for name, data in {**samples(), **keras}.items():
        (tmp_path / name).write_bytes(data)
        read_weights(tmp_path / name)


@pytest.mark.parametrize("value", [np.float64(1), np.float32("nan"), np.float16(1)])
def test_a_copy_of_other_numbers_is_none_though_its_checksum_is_right(value: Any) -> None:
    tensors = state_dict([layer.name for layer in LAYERS], is_bgr=False)
    whole = pack_copy(tensors, (1.0, 2.0, 3.0))
    wrong = pack_copy(tensors | {"conv5_4.bias": np.full(2, value)}, (1.0, 2.0, 3.0))
    with expected():
        assert read_copy(io.BytesIO(whole))[1] == (1.0, 2.0, 3.0)
        with pytest.raises(ValueError, match="float32"):
            read_copy(io.BytesIO(wrong))


@pytest.mark.skipif(sys.platform == "win32", reason="processes are watched as Linux and macOS do")
def test_processes_that_cannot_start_are_told_of_and_not_started_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import fuzz.__main__ as fuzz

    (tmp_path / "python").write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(sys, "argv", ["fuzz", "--kind", "toml", "--keep", str(tmp_path / "left")])
    assert fuzz.main() == 2
    err = capfd.readouterr().err
    assert err.count("broken") >= 3
    assert "3 processes in a row ended (exit 3) before they read an input" in err


def test_an_input_follows_from_its_seed() -> None:
    for kind in KINDS[:4]:
        assert make_input(kind, 1, 2) == make_input(kind, 1, 2)
        assert make_input(kind, 1, 2) != make_input(kind, 1, 3)


def trial_of(read: Callable[[Path], object]) -> Trial:
    kind = Kind(name="made up", make=lambda _: Input("", {}), read=read, share=1)
    return try_input(kind, Input("as it is", {"a": b"1"}))


def test_what_goes_wrong_is_seen() -> None:
    def leak(path: Path) -> None:
        raise ValueError(path.read_bytes())

    def escape(path: Path) -> None:
        raise UsageError("\x1b[2J")

    def litter(path: Path) -> None:
        (path.parent.parent / "tmp" / "left").touch()

    def refuse(path: Path) -> None:
        raise UsageError("expected one line,\ngot two")

    kinds = [[fault.kind for fault in trial_of(read).faults] for read in (leak, escape, litter)]
    assert kinds == [["traceback"], ["escape"], ["litter"]]
    assert trial_of(refuse) == Trial(accepted=False, faults=())
    assert trial_of(lambda path: path.read_bytes()) == Trial(accepted=True, faults=())
