"""Targets on disk: what they are keyed by, that damage is found, that many processes may write."""

import io
import os
import random
import signal
import subprocess
import sys
import time
import weakref
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from processes import PATIENCE
from target_keys import KEY

from nstx.engine.devices.memory import without_collection
from nstx.engine.targets.sealed_arrays import pack_arrays, read_arrays, read_description
from nstx.engine.targets.store import (
    TargetFolder,
    TargetKey,
    as_stored,
    describe_target,
    encode_target,
    target_is_sound,
    target_name,
)
from nstx.engine.targets.targets import Array
from nstx.models.errors import UsageError
from nstx.models.storage.cache import cache_limit, mark_used, sweep_litter
from nstx.models.storage.files import write_atomically
from nstx.models.storage.seals import digest_json
from nstx.models.values import parse_bytes

GRAM = replace(KEY, statistic="gram")


def numbered(number: int) -> TargetKey:
    return replace(KEY, picture=f"{number:064x}")


def activation(seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=KEY.stored_shape).astype(np.float32)


def gram(channels: int, seed: int = 0) -> Array:
    features: Array = np.random.default_rng(seed).normal(size=(channels, 40)).astype(np.float32)
    return np.asarray(features @ features.T / 40, np.float32)


@pytest.fixture
def store(tmp_path: Path) -> TargetFolder:
    return TargetFolder(tmp_path / "targets", most_bytes=1 << 30)


def read(store: TargetFolder, key: TargetKey) -> Array:
    value = store.read(key)
    assert value is not None
    return value


def test_an_activation_comes_back_as_it_was(store: TargetFolder) -> None:
    assert store.read(KEY) is None
    store.write(KEY, activation(), "photo.png")
    np.testing.assert_array_equal(read(store, KEY), activation())
    description = describe_target(store.folder / target_name(KEY))
    assert description == {"path": "photo.png", **KEY.to_json()}


@pytest.mark.parametrize("channels", [1, 5, 31, 32, 33, 64, 100])
def test_a_stored_gram_matrix_is_symmetric(channels: int) -> None:
    whole = gram(channels)
    value = as_stored(whole)
    np.testing.assert_allclose(value, whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(value, value.T, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("layer", "channels"), [("conv1_1", 64), ("conv2_1", 128)])
def test_a_gram_matrix_comes_back_from_half_of_it(
    store: TargetFolder, layer: str, channels: int
) -> None:
    whole, key = gram(channels), replace(GRAM, layer=layer)
    store.write(key, whole, "painting.png")
    np.testing.assert_array_equal(read(store, key), as_stored(whole))
    stored = (store.folder / target_name(key)).stat().st_size
    assert stored < 0.76 * whole.nbytes + 1000


def test_everything_that_a_value_depends_on_changes_the_key() -> None:
    others = [
        replace(KEY, picture="c" * 64),
        replace(KEY, height=49),
        replace(KEY, width=63),
        replace(KEY, layer="conv4_1"),
        replace(KEY, statistic="gram"),
        replace(KEY, pooling="max"),
        replace(KEY, pool_rounding="floor"),
        replace(KEY, weights="d" * 64),
        replace(KEY, computed_by="torch fp32"),
        replace(KEY, resampling="bicubic"),
    ]
    assert len(others) == len(KEY.to_json())
    assert len({target_name(KEY), *map(target_name, others)}) == len(others) + 1
    assert target_name(replace(KEY)) == target_name(KEY)


def test_any_flipped_byte_is_found_told_and_removed(
    store: TargetFolder, logged_warnings: list[str]
) -> None:
    store.write(KEY, activation(), "photo.png")
    path = store.folder / target_name(KEY)
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 + place % 255
        path.write_bytes(damaged)
        assert not target_is_sound(path)
        assert store.read(KEY) is None, place
        assert not path.exists()
    assert len(logged_warnings) == len(whole)
    assert "damaged" in logged_warnings[0]


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, -1])
def test_a_truncated_or_lengthened_entry_is_found(
    store: TargetFolder, logged_warnings: list[str], keep: int
) -> None:
    store.write(KEY, activation(), "photo.png")
    path = store.folder / target_name(KEY)
    data = path.read_bytes()
    for changed in (data[:keep], data + b"\0"):
        path.write_bytes(changed)
        assert not target_is_sound(path)
        assert store.read(KEY) is None
    assert len(logged_warnings) == 2


def test_an_entry_under_another_name_is_not_used(
    store: TargetFolder, logged_warnings: list[str]
) -> None:
    store.write(KEY, activation(), "photo.png")
    other = replace(KEY, pooling="max")
    (store.folder / target_name(KEY)).rename(store.folder / target_name(other))
    assert not target_is_sound(store.folder / target_name(other))
    assert store.read(other) is None
    assert "something else" in logged_warnings[0]


@pytest.mark.parametrize("number", [1, 3])
def test_an_entry_of_another_release_is_not_damaged(tmp_path: Path, number: int) -> None:
    fields = {"picture": "a" * 64, "layer": "conv4_2", "filter": "box"}
    data = pack_arrays({"value": np.zeros(3)}, {"key": fields})
    name = digest_json({"format": f"nstx-target-{number}", **fields})
    path = tmp_path / f"{name}.safetensors"
    path.write_bytes(data)
    assert target_is_sound(path)
    path.write_bytes(data[:-1] + b"x")
    assert not target_is_sound(path)


def test_a_foreign_safetensors_file_is_no_entry(
    store: TargetFolder, logged_warnings: list[str]
) -> None:
    from safetensors.numpy import save

    write_atomically(store.folder / target_name(KEY), save({"value": activation()}))
    assert store.read(KEY) is None
    assert not describe_target(store.folder / target_name(KEY))
    assert len(logged_warnings) == 1


def test_equal_contents_give_equal_bytes() -> None:
    arrays = {"b": activation(1), "a": activation(2)}
    first = pack_arrays(arrays, {"x": 1, "y": [2]})
    assert all(pack_arrays(arrays, {"x": 1, "y": [2]}) == first for _ in range(20))
    unpacked, description = read_arrays(io.BytesIO(first))
    assert (description["x"], description["y"]) == (1, [2])
    np.testing.assert_array_equal(unpacked["a"], arrays["a"])


def test_a_description_is_read_without_the_arrays() -> None:
    cut = pack_arrays({"a": activation()}, {"x": 1})[:-20]
    assert read_description(io.BytesIO(cut))["x"] == 1
    for text in (b"", b"\xff" * 50, b"\x02" + b"\0" * 7 + b"{}", b"\x02" + b"\0" * 7 + b"[]"):
        for read_part in (read_description, read_arrays):
            with pytest.raises(ValueError, match="damaged"):
                read_part(io.BytesIO(text))


def test_what_asks_for_an_entry_that_is_not_there_does_not_live_on(store: TargetFolder) -> None:
    class Asking:
        def ask(self) -> Array | None:
            return store.read(KEY)

    asking = Asking()
    alive = weakref.ref(asking)
    with without_collection():
        assert asking.ask() is None
        del asking
        assert alive() is None


def test_what_was_not_used_for_the_longest_goes_first(tmp_path: Path) -> None:
    store = TargetFolder(tmp_path, most_bytes=1 << 30)
    keys = [numbered(number) for number in range(10)]
    for age, key in enumerate(keys):
        store.write(key, activation(), "photo.png")
        os.utime(store.folder / target_name(key), (1000 + age, 1000 + age))
    assert store.read(keys[0]) is not None
    foreign = tmp_path / "thesis.safetensors"
    foreign.write_bytes(b"x" * 10**6)
    os.utime(foreign, (1, 1))
    size = (store.folder / target_name(keys[0])).stat().st_size
    # Ten fit exactly; an eleventh leaves nine tenths of them.
    TargetFolder(tmp_path, most_bytes=10 * size).write(KEY, activation(), "photo.png")
    present = [(store.folder / target_name(key)).exists() for key in keys]
    assert present == [True, False, False] + 7 * [True]
    assert store.read(KEY) is not None
    assert foreign.exists()


def test_a_store_at_its_limit_is_not_pruned_at_every_write(tmp_path: Path) -> None:
    size = len(encode_target(KEY, activation(), "photo.png"))
    store = TargetFolder(tmp_path, most_bytes=40 * size + 500)
    counts = [0]
    for number in range(100):
        store.write(numbered(number), activation(), "photo.png")
        sizes = [path.stat().st_size for path in tmp_path.iterdir()]
        assert sum(sizes) <= 40 * size + 500
        counts.append(len(sizes))
    assert sum(after <= before for before, after in pairwise(counts)) < 25


def test_marking_an_entry_that_was_removed_does_not_bring_it_back_empty(tmp_path: Path) -> None:
    mark_used(tmp_path / target_name(KEY))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arrays", "description"),
    [
        ({}, {}),
        ({"value": np.zeros(3, np.float32)}, {}),
        ({"value": np.zeros((64, 64), np.float32)}, {}),
        ({"value": np.zeros(3072, np.float64)}, {}),
        ({"value": np.full(3072, np.nan, np.float32)}, {}),
    ],
)
def test_a_sealed_entry_of_another_shape_is_not_used(
    store: TargetFolder,
    logged_warnings: list[str],
    arrays: dict[str, np.ndarray],
    description: dict[str, object],
) -> None:
    data = pack_arrays(arrays, {"key": GRAM.to_json(), "picture": "p", **description})
    write_atomically(store.folder / target_name(GRAM), data)
    assert store.read(GRAM) is None
    assert len(logged_warnings) == 1


def test_a_header_nested_beyond_reason_is_no_entry(
    store: TargetFolder, logged_warnings: list[str]
) -> None:
    text = b"[" * 100_000
    write_atomically(store.folder / target_name(KEY), len(text).to_bytes(8, "little") + text)
    assert not describe_target(store.folder / target_name(KEY))
    assert store.read(KEY) is None


def test_the_limit_goes_by_what_is_stored(tmp_path: Path, logged_warnings: list[str]) -> None:
    whole = gram(512)
    key = replace(GRAM, layer="conv4_1")
    stored = len(encode_target(key, whole, "p"))
    assert stored < 0.6 * whole.nbytes
    store = TargetFolder(tmp_path, most_bytes=stored)
    store.write(key, whole, "p")
    assert store.read(key) is not None
    assert logged_warnings == []
    TargetFolder(tmp_path, most_bytes=0).write(replace(key, layer="conv4_2"), whole, "p")
    assert (len(list(tmp_path.iterdir())), logged_warnings) == (1, [])


def test_litter_is_swept_after_a_minute_and_not_before(tmp_path: Path) -> None:
    old, fresh, other = (
        tmp_path / name for name in (".nstx-old.part", ".nstx-new.part", "mine.part")
    )
    folder = tmp_path / ".nstx-folder.part"
    folder.mkdir()
    (folder / "optimised.onnx").touch()
    for path in (old, fresh, other):
        path.touch()
    for path in (old, other, folder / "optimised.onnx", folder):
        os.utime(path, (time.time() - 61, time.time() - 61))
    assert {entry.path for entry in sweep_litter(tmp_path)} == {old, folder}
    assert set(tmp_path.iterdir()) == {fresh, other}


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("12", 12), ("500MB", 500_000_000), ("2GiB", 2 << 30), ("1.5 k", 1500)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_bytes("--max-size", text) == size


@pytest.mark.parametrize("text", ["", "much", "-1", "5PB", "1e", "nan", "9" * 400])
def test_a_wrong_size_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--max-size"):
        parse_bytes("--max-size", text)
    if text:
        monkeypatch.setenv("NSTX_CACHE_LIMIT", text)
        with pytest.raises(UsageError, match="NSTX_CACHE_LIMIT"):
            cache_limit()


# Writes and reads entries of its own and of all the others' until it is killed.
WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from nstx.engine.targets.store import TargetFolder
from nstx.engine.targets.store import TargetKey
store = TargetFolder(Path(sys.argv[1]), most_bytes=1 << 30)
key = TargetKey(picture="a" * 64, height=50, width=62, layer="conv1_1", statistic="activation",
                pooling="avg", pool_rounding="ceil", weights="b" * 64, computed_by="onnx fp32")
value = np.arange(198_400, dtype=np.float32).reshape(64, 50, 62)
print("ready", flush=True)
for number in range(int(sys.argv[2])):
    mine = replace(key, picture=f"{number % 10:064x}")
    store.write(mine, value + number % 10, "photo.png")
    stored = store.read(mine)
    assert stored is not None and (stored == value + number % 10).all()
print("done", flush=True)
"""


def start_writer(folder: Path, rounds: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", WRITER, str(folder), str(rounds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_processes_write_the_same_entries_at_once(tmp_path: Path) -> None:
    writers = [start_writer(tmp_path, 25) for _ in range(4)]
    outputs = [writer.communicate(timeout=PATIENCE) for writer in writers]
    assert {err for _, err in outputs} == {""}
    assert all(out.endswith("done\n") for out, _ in outputs)
    assert len(list(tmp_path.iterdir())) == 10
    assert all(target_is_sound(path) for path in tmp_path.iterdir())


def test_processes_killed_at_any_moment_leave_nothing_half_written(tmp_path: Path) -> None:
    chance = random.Random(4)
    for _ in range(3):
        writers = [start_writer(tmp_path, 10**9) for _ in range(4)]
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
        while not list(tmp_path.glob("*.safetensors")):
            time.sleep(0.01)
        for writer in writers:
            time.sleep(chance.uniform(0, 0.03))
            writer.send_signal(signal.SIGKILL)
        for writer in writers:
            assert "Error" not in writer.communicate()[1]
    assert all(target_is_sound(path) for path in tmp_path.glob("*.safetensors"))
    (tmp_path / ".nstx-left.part").touch()
    for litter in tmp_path.glob(".nstx-*"):
        os.utime(litter, (time.time() - 61, time.time() - 61))
    sweep_litter(tmp_path)
    assert not list(tmp_path.glob(".nstx-*"))
