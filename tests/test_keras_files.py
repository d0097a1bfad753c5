"""HDF5 of Keras: every edition's names, and nothing that is not in the file as plain numbers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from nstx.models.errors import WeightsError
from nstx.models.weights.entries import NAMES
from nstx.models.weights.keras import keras_name, read_keras

Place = Callable[[str], tuple[str, str]]


def kernel(index: int) -> Any:
    return np.full((3, 3, 2, 4), index, np.float32)


def keras2(name: str) -> tuple[str, str]:
    key = keras_name(name)
    return f"{key}/{key}/kernel:0", f"{key}/{key}/bias:0"


def keras1(name: str) -> tuple[str, str]:
    key = keras_name(name)
    return f"{key}/{key}_W_1:0", f"{key}/{key}_b_1:0"


def keras3(name: str) -> tuple[str, str]:
    return f"layers/{keras_name(name)}/vars/0", f"layers/{keras_name(name)}/vars/1"


def numbered(name: str) -> tuple[str, str]:
    index = NAMES.index(name)
    key = f"_layer_checkpoint_dependencies/conv2d{f'_{index}' if index else ''}"
    return f"{key}/vars/0", f"{key}/vars/1"


def nested(name: str) -> tuple[str, str]:
    kernel, bias = keras2(name)
    return f"model_weights/vgg19/{kernel}", f"model_weights/vgg19/{bias}"


def write(path: Path, place: Place, leave_out: str = "") -> None:
    with h5py.File(path, "w") as file:
        for index, name in enumerate(NAMES):
            if name != leave_out:
                file[place(name)[0]] = kernel(index)
                file[place(name)[1]] = np.full(4, -index, np.float32)
                # Moments of an optimiser have the same names.
                file[f"optimizer_weights/{place(name)[0]}"] = kernel(99)
        file.create_group("top_level_model_weights")


@pytest.mark.parametrize("place", [keras1, keras2, keras3, numbered, nested])
def test_layers_are_found_in_every_edition(tmp_path: Path, place: Place) -> None:
    write(tmp_path / "w.h5", place)
    with h5py.File(tmp_path / "w.h5") as file:
        entries = read_keras(file, tmp_path / "w.h5")
        for index, name in enumerate(NAMES):
            assert entries[f"{name}.weight"].shape == (4, 2, 3, 3)
            np.testing.assert_array_equal(
                entries[f"{name}.weight"].read(), kernel(index).transpose(3, 2, 0, 1)
            )
            np.testing.assert_array_equal(entries[f"{name}.bias"].read(), np.full(4, -index))


def test_layers_that_are_absent_or_there_twice_are_told(tmp_path: Path) -> None:
    write(tmp_path / "w.h5", keras3, leave_out="conv3_2")
    with h5py.File(tmp_path / "w.h5", "a") as file:
        with pytest.raises(WeightsError, match=r"group block3_conv2 .*, got none; try"):
            read_keras(file, "w.h5")
        file["other/block1_conv1/kernel"] = kernel(0)
        with pytest.raises(WeightsError, match="block1_conv1 several times; try"):
            read_keras(file, "w.h5")


def elsewhere(file: Any) -> Any:
    return file.create_dataset(
        "a", (4,), np.float32, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)]
    )


def virtual(file: Any) -> Any:
    layout = h5py.VirtualLayout((4,), np.float32)
    layout[:] = h5py.VirtualSource("/etc/passwd", "a", (4,))
    return file.create_virtual_dataset("a", layout)


def absent(file: Any) -> Any:
    return file.create_dataset("a", (4,), np.float32)


def packed(file: Any) -> Any:
    return file.create_dataset("a", data=np.zeros(4, np.float32), compression="gzip")


def in_large_pieces(file: Any) -> Any:
    dataset = file.create_dataset("a", (4,), np.float32, chunks=(1 << 20,), maxshape=(None,))
    dataset[:] = 1
    return dataset


def of_texts(file: Any) -> Any:
    return file.create_dataset("a", data=["b"] * 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (elsewhere, "in other files"),
        (virtual, "in other files"),
        (absent, "no numbers"),
        (packed, "compressed"),
        (in_large_pieces, "pieces"),
        (of_texts, "the type object"),
    ],
)
def test_arrays_that_are_not_plain_numbers_in_the_file_are_refused(
    tmp_path: Path, make: Callable[[Any], Any], message: str
) -> None:
    write(tmp_path / "w.h5", keras2)
    with h5py.File(tmp_path / "w.h5", "a") as file:
        dataset = make(file)
        del file[keras2("conv1_1")[1]]
        file[keras2("conv1_1")[1]] = dataset
        del file["a"]
        entries = read_keras(file, "w.h5")
        with pytest.raises(ValueError, match=message):
            entries["conv1_1.bias"].read()


def test_links_out_of_the_file_and_round_in_it_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "w.h5", keras2)
    with h5py.File(tmp_path / "w.h5", "a") as file:
        file["soft"] = h5py.SoftLink("/")
        file["outside"] = h5py.ExternalLink(str(tmp_path / "w.h5"), "/")
        assert len(read_keras(file, "w.h5")) == 32
        file["again"] = file["/"]  # a hard one: the file holds itself
        with pytest.raises(WeightsError, match="several times"):
            read_keras(file, "w.h5")
    with h5py.File(tmp_path / "c.h5", "w") as file:
        for index in range(8):
            file[f"{index}"] = file["/"]
        with pytest.raises(ValueError, match="too many groups"):
            read_keras(file, "c.h5")
