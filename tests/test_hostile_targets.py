"""Targets files and cache entries that are not what they say: one line, and never a traceback."""

import io
import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from target_keys import KEY

from nstx.engine.cache import list_cache, verify_cache
from nstx.engine.choices import choose_settings
from nstx.engine.targets.basis import describe_basis
from nstx.engine.targets.files import SavedTargets, read_targets, write_targets
from nstx.engine.targets.sealed_arrays import pack_arrays, read_arrays
from nstx.engine.targets.store import TargetFolder, describe_target, target_name
from nstx.engine.targets.targets import make_zero_targets
from nstx.models.errors import UsageError
from nstx.models.objective import objective_from_json
from nstx.models.storage.plain_data import parse_json

Nstx = Callable[..., tuple[int, str, str]]
Arrays = dict[str, NDArray[Any]]

OBJECTIVE = choose_settings(content_layers="conv4_1", style_layers="conv1_1").objective
PIXELS = np.full((32, 40, 3), 7.5, np.float32)


@pytest.fixture
def targets_file(tmp_path: Path) -> Path:
    path = tmp_path / "t.safetensors"
    targets = make_zero_targets(OBJECTIVE, 32, 40)
    alpha = np.zeros((32, 40), np.uint8)
    write_targets(path, (PIXELS,), (targets,), OBJECTIVE, "a" * 64, alpha=alpha)
    return path


def change(path: Path, changes: Arrays, **fields: Any) -> None:
    """Write a sealed file again with other arrays (None: without) and other fields."""
    arrays, description = read_arrays(io.BytesIO(path.read_bytes()))
    arrays = {name: array for name, array in (arrays | changes).items() if array is not None}
    del description["seal"]
    path.write_bytes(pack_arrays(arrays, {**description, **fields}))


def test_a_targets_file_is_read_as_it_was_written(targets_file: Path) -> None:
    saved: SavedTargets = read_targets(targets_file)
    np.testing.assert_array_equal(saved.contents[0], PIXELS)
    assert (saved.objective, saved.weights_sha256) == (OBJECTIVE, "a" * 64)
    assert saved.targets[0].content["conv4_1"].shape == (512, 4, 5)


def other(name: str, value: object) -> dict[str, Any]:
    """Return an objective's plain data with another value in one field."""
    return {"objective": {**asdict(OBJECTIVE), name: value}}


@pytest.mark.parametrize(
    "fields",
    [
        {"format": "nstx-targets-1"},
        {"format": ["nstx-targets-2"]},
        {"preset": "none"},
        {"preset": {}},
        {"format": "nstx-targets-3"},
        {"format": "nstx-targets-3", "colors": "style"},
        {"format": "nstx-targets-3", "colors": ["luminance"]},
        {"depth": 12},
        {"depth": 16.5},
        {"depth": "16"},
        {"depth": True},
        {"depth": [16]},
        {"depth": 10**400},
        {"basis": []},
        {"basis": {"weights_sha256": "a" * 64}},
        {"basis": describe_basis(OBJECTIVE, "../" * 20)},
        {"objective": 5},
        {"objective": {}},
        other("style_layers", [{"layer": [], "weight": 1.0}]),
        other("style_layers", [{"layer": "conv1_1", "weight": "1"}]),
        other("style_layers", [["conv1_1", 1.0]]),
        other("style_layers", "conv1_1"),
        other("style_layers", [{"layer": "conv9_1", "weight": 1.0}]),
        other("style_layers", 100 * [{"layer": "conv1_1", "weight": 1.0}]),
        other("content_weight", None),
        other("content_weight", True),
        other("content_weight", -1),
        other("content_weight", 10**400),
        other("content_factor", 1e35),
        other("pooling", {"max": 1}),
        other("pool_rounding", "up"),
        other("relative", "yes"),
        other("surprise", 1),
        other("9" * 5000, 1),
    ],
    ids=lambda fields: str(fields)[:200],
)
def test_a_targets_file_that_misdescribes_itself_is_refused(
    targets_file: Path, fields: dict[str, Any]
) -> None:
    change(targets_file, {}, **fields)
    with pytest.raises(UsageError, match=r"cannot be used \((?!its checksum)") as caught:
        read_targets(targets_file)
    assert len(str(caught.value)) < 500 + len(str(targets_file))


@pytest.mark.parametrize(
    "changes",
    [
        {"alpha": np.zeros((32, 41), np.uint8)},
        {"alpha": np.zeros((32, 40), np.float32)},
        {"alpha": np.zeros(32 * 40, np.uint8)},
        {"grain": np.zeros(4, np.float32)},
        {"grain": np.zeros((5, 1), np.float32)},
        {"grain": np.zeros(5, np.uint8)},
        {"grain": np.full(5, -1, np.float32)},
        {"grain": np.full(5, 256, np.float32)},
        {"grain": np.full(5, np.nan, np.float32)},
        {"0/pixels": None},
        {"0/pixels": np.zeros((32, 40), np.uint8)},
        {"0/pixels": np.zeros((32, 40, 4), np.uint8)},
        {"0/pixels": np.zeros((33, 48, 3), np.uint8)},
        {"0/pixels": np.zeros((0, 40, 3), np.uint8)},
        {"0/pixels": np.full((32, 40, 3), np.nan, np.float32)},
        {"0/pixels": np.zeros((32, 40, 3), np.float64)},
        {"0/content/conv4_1": None},
        {"0/content/conv4_1": np.zeros((512, 4, 6), np.float32)},
        {"0/content/conv4_1": np.zeros((512, 4, 5), np.uint8)},
        {"0/style/conv1_1": np.full((64, 64), np.inf, np.float32)},
        {"0/style/conv2_1": np.zeros((128, 128), np.float32)},
        {"1/pixels": np.zeros((32, 40, 3), np.uint8)},
        {"2/pixels": np.zeros((32, 40, 3), np.uint8)},
        {"more": np.zeros(1, np.uint8)},
        {"more": np.zeros(1, bool)},
    ],
    ids=lambda changes: " ".join(f"{name} {getattr(a, 'shape', 0)}" for name, a in changes.items()),
)
def test_arrays_that_do_not_belong_together_are_refused(
    targets_file: Path, changes: Arrays
) -> None:
    change(targets_file, changes)
    with pytest.raises(UsageError, match=r"cannot be used \((?!its checksum)"):
        read_targets(targets_file)


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b"9" * 5000,
        b'{"a": 1, "a": 2}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\xff",
        b"\xff\xfe1\x00",
        b"",
    ],
    ids=lambda text: repr(text[:12]),
)
def test_json_that_is_none_is_refused(targets_file: Path, text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (Python's messages differ)
        parse_json(text)
    targets_file.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(UsageError, match="damaged"):
        read_targets(targets_file)


@pytest.mark.parametrize("length", [0, 1, 2**20 + 1, 2**62, 2**64 - 1])
def test_a_header_of_any_length_is_refused(targets_file: Path, length: int) -> None:
    data = targets_file.read_bytes()
    targets_file.write_bytes(length.to_bytes(8, "little") + data[8:])
    with pytest.raises(UsageError, match="damaged"):
        read_targets(targets_file)


def test_a_file_that_is_longer_than_it_says_is_not_read(targets_file: Path) -> None:
    os.truncate(targets_file, 1 << 33)
    with pytest.raises(UsageError, match="damaged"):
        read_targets(targets_file)


def test_the_command_line_says_so_in_one_line(
    nstx: Nstx, targets_file: Path, tmp_path: Path
) -> None:
    change(targets_file, {}, **other("style_layers", [{"layer": "\x1b[2J", "weight": 1.0}]))
    odd = targets_file.rename(tmp_path / "a\x1b]0;b\n.safetensors")
    os.mkfifo(tmp_path / "fifo.safetensors")
    for path in (odd, tmp_path / "fifo.safetensors", "/dev/zero", tmp_path, tmp_path / "none"):
        code, out, err = nstx("optimize", "--targets", path, "-o", tmp_path / "o.png")
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert err.rstrip("\n").isprintable()
    assert not (tmp_path / "o.png").exists()


def test_an_objective_comes_back_from_its_plain_data() -> None:
    for preset in ("default", "coursera", "gatys"):
        objective = choose_settings(preset).objective
        assert objective_from_json(json.loads(json.dumps(asdict(objective)))) == objective


VALUE = np.ones(KEY.stored_shape, np.float32)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TargetFolder:
    monkeypatch.setenv("NSTX_CACHE_DIR", str(tmp_path / "cache"))
    folder = TargetFolder()
    folder.write(KEY, VALUE, "photo.png")
    return folder


def make(kind: str, path: Path) -> None:
    path.unlink()
    if kind == "a folder":
        path.mkdir()
    elif kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a large file":
        path.touch()
        os.truncate(path, 1 << 40)
    else:
        path.symlink_to({"a device": "/dev/zero", "a dangling link": "none"}[kind])


@pytest.mark.parametrize(
    "kind", ["a folder", "a FIFO", "a device", "a large file", "a dangling link"]
)
def test_an_entry_that_is_no_file_is_told_once_and_written_anew(
    store: TargetFolder, logged_warnings: list[str], kind: str
) -> None:
    path = store.folder / target_name(KEY)
    make(kind, path)
    assert describe_target(path) == {}
    entries = list_cache()
    assert len(entries) == (kind != "a folder")
    assert verify_cache(entries, lambda entry: None) == (
        [] if kind == "a dangling link" else entries
    )
    for _ in range(2):
        assert store.read(KEY) is None
    assert len(logged_warnings) == (kind != "a dangling link")
    store.write(KEY, VALUE, "photo.png")
    np.testing.assert_array_equal(store.read(KEY), VALUE)
    assert path.is_file()
    assert not path.is_symlink()


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": float("nan")},
        {"weights": "b" * 63},
        {"picture": 5},
        {"height": 0},
        {"height": 2.0},
        {"height": True},
        {"width": 10**30},
        {"layer": "conv9_9"},
        {"layer": ["conv1_1"]},
        {"statistic": "mean"},
        {"pooling": None},
        {"computed_by": {}},
        {"more": 1},
    ],
    ids=str,
)
def test_an_entry_with_an_odd_key_is_damaged(
    nstx: Nstx, store: TargetFolder, changes: dict[str, Any]
) -> None:
    path = store.folder / target_name(KEY)
    change(path, {}, key={**KEY.to_json(), **changes})
    assert describe_target(path) == {}
    code, out, err = nstx("cache", "ls")
    assert (code, err) == (0, "")
    assert "(damaged or of" in out
    assert nstx("cache", "verify")[0] == 1
    assert nstx("cache", "verify", "--remove")[1].endswith("1 damaged, 1 removed\n")
    assert nstx("cache", "verify")[0] == 0
    store.write(KEY, VALUE, "photo.png")
    change(path, {}, key={**KEY.to_json(), **changes})
    assert store.read(KEY) is None
    assert not path.exists()


def test_a_clear_leaves_what_others_are_writing(nstx: Nstx, store: TargetFolder) -> None:
    part = store.folder / ".nstx-abc.part"
    part.touch()
    code, out, err = nstx("cache", "clear")
    assert (code, err) == (0, "")
    assert "1 entry removed" in out
    assert list(store.folder.iterdir()) == [part]


def test_a_clear_beside_a_writer_finds_no_fault(
    nstx: Nstx, store: TargetFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove_beside_writer(path: Path) -> bool:
        path.unlink()
        store.write(replace(KEY, height=3), np.ones((64, 3, 1), np.float32), "other.png")
        return True

    monkeypatch.setattr("nstx.engine.cache.remove", remove_beside_writer)
    assert nstx("cache", "clear")[0] == 0
    assert len(list_cache()) == 1


@pytest.mark.parametrize("picture", [5, None, ["a"]])
def test_an_entry_of_an_odd_picture_is_listed_as_damaged(
    nstx: Nstx, store: TargetFolder, picture: object
) -> None:
    change(store.folder / target_name(KEY), {}, picture=picture)
    assert "(damaged or of" in nstx("cache", "ls")[1]


def test_a_picture_of_an_odd_name_is_listed_without_orders_to_the_terminal(
    nstx: Nstx, store: TargetFolder
) -> None:
    store.write(replace(KEY, height=3), np.ones((64, 3, 1), np.float32), "\x1b[2J\udcff\n.png")
    code, out, _ = nstx("cache", "ls")
    assert code == 0
    assert "�[2J��.png 1×3" in out
