"""Targets on disk: what they are keyed by, that damage is found, that many processes may write."""

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from processes import PATIENCE

from nstx.engine.targets import store as target_store
from nstx.engine.targets.sealed_arrays import pack_arrays, read_description, unpack_arrays
from nstx.engine.targets.store import (
    TargetKey,
    TargetStore,
    as_stored,
    describe_target,
    target_is_sound,
)
from nstx.models.errors import UsageError
from nstx.models.storage.cache import cache_limit, parse_bytes, sweep_litter
from nstx.models.storage.files import write_atomically

KEY = TargetKey(
    picture="a" * 64,
    height=48,
    width=64,
    layer="conv4_2",
    statistic="activation",
    pooling="avg",
    pool_rounding="ceil",
    weights="b" * 64,
    computed_by="onnx fp32",
)
GRAM = replace(KEY, statistic="gram", layer="conv1_1")


def activation(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(5, 3, 4)).astype(np.float32)


def gram(channels: int, seed: int = 0) -> np.ndarray:
    features = np.random.default_rng(seed).normal(size=(channels, 40)).astype(np.float32)
    return features @ features.T / 40


@pytest.fixture
def store(tmp_path: Path) -> TargetStore:
    return TargetStore(tmp_path / "targets", most_bytes=1 << 30)


def test_an_activation_comes_back_as_it_was(store) -> None:
    assert store.read(KEY) is None
    store.write(KEY, activation(), "photo.png")
    np.testing.assert_array_equal(store.read(KEY), activation())
    assert describe_target(store.folder / KEY.name).path == "photo.png"
    assert describe_target(store.folder / KEY.name).key == KEY


@pytest.mark.parametrize("channels", [1, 5, 31, 32, 33, 64, 100])
def test_a_gram_matrix_comes_back_symmetric_from_half_of_it(store, channels) -> None:
    whole = gram(channels)
    store.write(GRAM, whole, "painting.png")
    found = store.read(GRAM)
    np.testing.assert_array_equal(found, as_stored(whole))
    np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found, found.T, rtol=1e-5, atol=1e-6)
    if channels == 100:
        stored = (store.folder / GRAM.name).stat().st_size
        assert stored < 0.7 * whole.nbytes + 1000


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
    assert len({KEY.name, *(other.name for other in others)}) == len(others) + 1
    assert replace(KEY).name == KEY.name


def test_any_flipped_byte_is_found_told_and_removed(store, logged_warnings) -> None:
    store.write(KEY, activation(), "photo.png")
    path = store.folder / KEY.name
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
def test_a_truncated_or_lengthened_entry_is_found(store, logged_warnings, keep) -> None:
    store.write(KEY, activation(), "photo.png")
    path = store.folder / KEY.name
    data = path.read_bytes()
    for changed in (data[:keep], data + b"\0"):
        path.write_bytes(changed)
        assert not target_is_sound(path)
        assert store.read(KEY) is None
    assert len(logged_warnings) == 2


def test_an_entry_under_another_name_is_not_used(store, logged_warnings) -> None:
    store.write(KEY, activation(), "photo.png")
    other = replace(KEY, pooling="max")
    (store.folder / KEY.name).rename(store.folder / other.name)
    assert not target_is_sound(store.folder / other.name)
    assert store.read(other) is None
    assert "something else" in logged_warnings[0]


def test_a_foreign_safetensors_file_is_no_entry(store, logged_warnings) -> None:
    from safetensors.numpy import save

    write_atomically(store.folder / KEY.name, save({"value": activation()}))
    assert store.read(KEY) is None
    assert describe_target(store.folder / KEY.name) is None
    assert len(logged_warnings) == 1


def test_equal_contents_give_equal_bytes() -> None:
    arrays = {"b": activation(1), "a": activation(2)}
    first = pack_arrays(arrays, {"x": 1, "y": [2]})
    assert all(pack_arrays(arrays, {"x": 1, "y": [2]}) == first for _ in range(20))
    found, said = unpack_arrays(first)
    assert (said["x"], said["y"]) == (1, [2])
    np.testing.assert_array_equal(found["a"], arrays["a"])


def test_a_description_is_read_without_the_arrays(tmp_path) -> None:
    path = tmp_path / "file"
    path.write_bytes(pack_arrays({"a": activation()}, {"x": 1})[:-20])
    assert read_description(path)["x"] == 1
    for text in (b"", b"\xff" * 50, b"\x02" + b"\0" * 7 + b"{}", b"\x02" + b"\0" * 7 + b"[]"):
        path.write_bytes(text)
        with pytest.raises(ValueError, match="damaged"):
            read_description(path)
        with pytest.raises(ValueError, match="damaged"):
            unpack_arrays(text)


def test_what_was_not_used_for_the_longest_goes_first(tmp_path) -> None:
    store = TargetStore(tmp_path, most_bytes=1 << 30)
    keys = [replace(KEY, height=height) for height in range(20, 30)]
    for age, key in enumerate(keys):
        store.write(key, activation(), "photo.png")
        os.utime(store.folder / key.name, (1000 + age, 1000 + age))
    assert store.read(keys[0]) is not None
    foreign = tmp_path / "thesis.safetensors"
    foreign.write_bytes(b"x" * 10**6)
    os.utime(foreign, (1, 1))
    size = (store.folder / keys[0].name).stat().st_size
    # Ten fit exactly; an eleventh leaves nine tenths of them.
    TargetStore(tmp_path, most_bytes=10 * size).write(KEY, activation(), "photo.png")
    present = [(store.folder / key.name).exists() for key in keys]
    assert present == [True, False, False] + 7 * [True]
    assert store.read(KEY) is not None
    assert foreign.exists()


def test_a_store_at_its_limit_is_not_counted_at_every_write(tmp_path, monkeypatch) -> None:
    counts = []
    find = target_store.find_entries
    monkeypatch.setattr(
        target_store, "find_entries", lambda *given: counts.append(given) or find(*given)
    )
    size = len(target_store._encode(KEY, activation(), "photo.png"))
    store = TargetStore(tmp_path, most_bytes=40 * size + 500)
    for height in range(20, 120):
        store.write(replace(KEY, height=height), activation(), "photo.png")
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 40 * size + 500
    assert len(counts) < 25


def test_an_entry_removed_while_it_is_read_does_not_come_back_empty(store, monkeypatch) -> None:
    store.write(KEY, activation(), "photo.png")
    decode = target_store._decode

    def decode_and_remove(data: bytes, key: TargetKey) -> np.ndarray:
        (store.folder / key.name).unlink()
        return decode(data, key)

    monkeypatch.setattr(target_store, "_decode", decode_and_remove)
    np.testing.assert_array_equal(store.read(KEY), activation())
    assert not list(store.folder.iterdir())


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({}, {}),
        ({"value": np.zeros(3, np.float32)}, {}),
        ({"value": np.zeros(3, np.float32)}, {"channels": "2"}),
        ({"value": np.zeros(3, np.float32)}, {"channels": -2}),
        ({"value": np.zeros(3, np.float32)}, {"channels": 2}),
        ({"value": np.zeros((2, 2), np.float32)}, {"channels": 2}),
        ({"value": np.zeros(4, np.float64)}, {"channels": 2}),
    ],
)
def test_a_sealed_entry_of_another_shape_is_not_used(store, logged_warnings, arrays, said) -> None:
    data = pack_arrays(arrays, {"key": GRAM.to_json(), "picture": "p", **said})
    write_atomically(store.folder / GRAM.name, data)
    assert store.read(GRAM) is None
    assert len(logged_warnings) == 1


def test_a_header_nested_beyond_reason_is_no_entry(store, logged_warnings) -> None:
    text = b"[" * 100_000
    write_atomically(store.folder / KEY.name, len(text).to_bytes(8, "little") + text)
    assert describe_target(store.folder / KEY.name) is None
    assert store.read(KEY) is None


def test_the_limit_goes_by_what_is_stored(tmp_path, logged_warnings) -> None:
    whole = gram(512)
    stored = len(target_store._encode(GRAM, whole, "p"))
    assert stored < 0.6 * whole.nbytes
    store = TargetStore(tmp_path, most_bytes=stored)
    store.write(GRAM, whole, "p")
    assert store.read(GRAM) is not None
    assert logged_warnings == []
    TargetStore(tmp_path, most_bytes=0).write(replace(GRAM, layer="conv2_1"), whole, "p")
    assert (len(list(tmp_path.iterdir())), logged_warnings) == (1, [])


def test_litter_is_swept_after_a_minute_and_not_before(tmp_path) -> None:
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
    assert {entry.path for entry in sweep_litter(tmp_path, 0.0)} == {fresh}


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("12", 12), ("500MB", 500_000_000), ("2GiB", 2 << 30), ("1.5 k", 1500)],
)
def test_sizes_are_read(text, size) -> None:
    assert parse_bytes("--max-size", text) == size


@pytest.mark.parametrize("text", ["", "much", "-1", "5PB", "1e3", "nan", "9" * 400])
def test_a_wrong_size_is_refused(text, monkeypatch) -> None:
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
from nstx.engine.targets.store import TargetKey, TargetStore
store = TargetStore(Path(sys.argv[1]), most_bytes=1 << 30)
key = TargetKey(picture="a" * 64, height=48, width=64, layer="conv4_2", statistic="activation",
                pooling="avg", pool_rounding="ceil", weights="b" * 64, computed_by="onnx fp32")
value = np.arange(200_000, dtype=np.float32).reshape(2, 250, 400)
print("ready", flush=True)
for number in range(int(sys.argv[2])):
    mine = replace(key, height=number % 10)
    store.write(mine, value + number % 10, "photo.png")
    found = store.read(mine)
    assert found is not None and (found == value + number % 10).all()
print("done", flush=True)
"""


def start_writer(folder: Path, rounds: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", WRITER, str(folder), str(rounds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_processes_write_the_same_entries_at_once(tmp_path) -> None:
    writers = [start_writer(tmp_path, 25) for _ in range(4)]
    said = [writer.communicate(timeout=PATIENCE) for writer in writers]
    assert {err for _, err in said} == {""}
    assert all(out.endswith("done\n") for out, _ in said)
    assert len(list(tmp_path.iterdir())) == 10
    assert all(target_is_sound(path) for path in tmp_path.iterdir())


def test_processes_killed_at_any_moment_leave_nothing_half_written(tmp_path) -> None:
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
