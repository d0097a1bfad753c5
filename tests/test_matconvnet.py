"""MatConvNet's weights: both layouts give the embedded tensors, and other files are told apart."""

import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from nstx.models.errors import WeightsError
from nstx.models.vgg19 import CONVOLUTIONS
from nstx.models.weights.load import Weights, load_weights
from nstx.models.weights.matconvnet import parse_matconvnet

NAMES = [layer.name for layer in CONVOLUTIONS]
FULLY_CONNECTED = ("fc6", "fc7", "fc8")
Layer = dict[str, Any]
Build = Callable[[Weights], dict[str, Any]]
Convolution = Callable[[str, np.ndarray, np.ndarray], Layer]


def cell(*values: Any) -> np.ndarray:
    held = np.empty((1, len(values)), object)
    for index, value in enumerate(values):
        held[0, index] = value
    return held


def old_conv(name: str, kernel: np.ndarray, bias: np.ndarray) -> Layer:
    parameters = cell(kernel, bias.reshape(1, -1))
    row = np.array([[1.0, 1.0]])
    return {"weights": parameters, "pad": [1.0] * 4, "type": "conv", "name": name, "stride": row}


def first_conv(name: str, kernel: np.ndarray, bias: np.ndarray) -> Layer:
    """As MatConvNet's first releases kept it."""
    return {"filters": kernel, "biases": bias.reshape(1, -1), "type": "conv", "name": name}


def new_conv(name: str, kernel: np.ndarray, bias: np.ndarray) -> Layer:
    return {
        "name": name,
        "type": "conv",
        "weights": cell(kernel, bias.reshape(-1, 1)),
        "size": np.array(kernel.shape, float),
        "pad": [1.0] * 4,
        "stride": [1.0, 1.0],
        "precious": 0.0,
        "dilate": 1.0,
        "opts": cell(),
    }


def network(weights: Weights, conv: Convolution) -> np.ndarray:
    """All of VGG-19's layers as MatConvNet orders them, the classifier with few channels."""
    layers = []
    for name in NAMES:
        layers.append(conv(name, weights.kernels[name].transpose(2, 3, 1, 0), weights.biases[name]))
        layers.append({"type": "relu", "name": name.replace("conv", "relu")})
        if name in ("conv1_2", "conv2_2", "conv3_4", "conv4_4", "conv5_4"):
            layers.append({"name": f"pool{name[4]}", "type": "pool", "method": "max", "pool": 2.0})
    for name in FULLY_CONNECTED:
        layers.append(conv(name, np.ones((7, 7, 4, 6), np.float32), np.ones(6, np.float32)))
        layers.append({"type": "relu", "name": name.replace("fc", "relu")})
    layers[-1] = {"type": "softmax", "name": "prob"}
    assert len(layers) == 43
    return cell(*layers)


def old_file(weights: Weights, conv: Convolution = old_conv) -> dict[str, Any]:
    image = np.broadcast_to(np.array(weights.mean, np.float32), (224, 224, 3))
    normalization = {"averageImage": image, "keepAspect": 1.0, "imageSize": [224.0, 224.0, 3.0]}
    classes = {"name": cell("n01440764"), "description": cell("tench, Tinca tinca")}
    layers = network(weights, conv)
    return {"layers": layers, "classes": classes, "normalization": normalization}


def new_file(weights: Weights) -> dict[str, Any]:
    average = np.array(weights.mean).reshape(1, 1, 3)
    normalization = {"imageSize": [224.0, 224.0, 3.0], "keepAspect": 1.0, "averageImage": average}
    meta = {"inputs": {"name": "data"}, "normalization": normalization, "classes": {}}
    return {"layers": network(weights, new_conv), "meta": meta}


def first_file(weights: Weights) -> dict[str, Any]:
    return old_file(weights, first_conv)


def written(folder: Path, content: dict[str, Any], **options: Any) -> Path:
    path = folder / "imagenet-vgg-verydeep-19.mat"
    savemat(path, content, **options)
    return path


@pytest.fixture
def tiny_file(tmp_path: Path, tiny_weights: Weights) -> Path:
    return written(tmp_path, new_file(tiny_weights))


@pytest.mark.parametrize("build", [old_file, new_file])
def test_both_layouts_give_the_embedded_tensors(tmp_path: Path, build: Build) -> None:
    embedded = load_weights()
    loaded = load_weights(written(tmp_path, build(embedded)), use_cache=False)
    assert loaded.mean == pytest.approx(embedded.mean, rel=1e-7)
    for name in NAMES:
        for ours, expected in (
            (loaded.kernels[name], embedded.kernels[name]),
            (loaded.biases[name], embedded.biases[name]),
        ):
            assert ours.dtype == np.float32
            assert ours.flags.c_contiguous
            assert ours.flags.writeable
            np.testing.assert_array_equal(ours, expected)


def test_files_are_written_here_with_height_before_width() -> None:
    """Against numbers of the published file, W(1,1,:,1), W(1,2,:,1) and W(2,1,1,1) of conv1_1."""
    written_kernel = old_file(load_weights())["layers"][0, 0]["weights"][0, 0]
    # The embedded weights are of 8 bits.
    assert written_kernel[0, 0, :, 0] == pytest.approx([0.3942, 0.4642, 0.3412], abs=0.02)
    assert written_kernel[0, 1, :, 0] == pytest.approx([0.3774, 0.4181, 0.3400], abs=0.02)
    assert written_kernel[1, 0, 0, 0] == pytest.approx(0.2671, abs=0.02)


@pytest.mark.parametrize("build", [old_file, new_file, first_file])
@pytest.mark.parametrize("compressed", [False, True])
def test_every_layout_is_read_by_its_names(
    tmp_path: Path, tiny_weights: Weights, build: Build, compressed: bool
) -> None:
    path = written(tmp_path, build(tiny_weights), do_compression=compressed)
    tensors = parse_matconvnet(path)
    assert set(tensors) == {"mean"} | {f"{n}.{kind}" for n in NAMES for kind in ("weight", "bias")}
    for name in NAMES:
        np.testing.assert_array_equal(tensors[f"{name}.weight"], tiny_weights.kernels[name])
        np.testing.assert_array_equal(tensors[f"{name}.bias"], tiny_weights.biases[name])


def test_layers_are_found_in_any_order(tmp_path: Path, tiny_weights: Weights) -> None:
    content = new_file(tiny_weights)
    content["layers"] = content["layers"][:, ::-1]
    # An activation that is called like a convolution is none.
    content["layers"][0, 5] = {"type": "relu", "name": "conv1_1"}
    tensors = parse_matconvnet(written(tmp_path, content))
    for name in NAMES:
        np.testing.assert_array_equal(tensors[f"{name}.weight"], tiny_weights.kernels[name])


def test_numbers_in_double_precision_become_single(tmp_path: Path, tiny_weights: Weights) -> None:
    doubled = Weights(
        {name: kernel.astype(np.float64) for name, kernel in tiny_weights.kernels.items()},
        {name: bias.astype(np.float64) for name, bias in tiny_weights.biases.items()},
        tiny_weights.mean,
        "tiny",
        "0" * 64,
    )
    tensors = parse_matconvnet(written(tmp_path, new_file(doubled)))
    for name in NAMES:
        assert tensors[f"{name}.weight"].dtype == tensors[f"{name}.bias"].dtype == np.float32
        np.testing.assert_array_equal(tensors[f"{name}.weight"], tiny_weights.kernels[name])


def test_the_mean_is_the_files(tmp_path: Path, tiny_weights: Weights) -> None:
    image = np.random.default_rng(3).uniform(90, 140, (224, 224, 3)).astype(np.float32)
    old, new = old_file(tiny_weights), new_file(tiny_weights)
    old["normalization"]["averageImage"] = image
    for vector in (np.array([[[120.0, 110.5, 99.25]]]), np.array([[120.0, 110.5, 99.25]])):
        new["meta"]["normalization"]["averageImage"] = vector
        assert parse_matconvnet(written(tmp_path, new))["mean"].tolist() == [120.0, 110.5, 99.25]
    mean = parse_matconvnet(written(tmp_path, old))["mean"]
    np.testing.assert_allclose(mean, image.astype(np.float64).mean((0, 1)), rtol=1e-12)


def without_layers(content: dict[str, Any]) -> None:
    content["params"] = content.pop("layers")


def without_the_fourth_of_a_block(content: dict[str, Any]) -> None:
    """VGG-16 has three convolutions where VGG-19 has four."""
    layers = content["layers"][0]
    content["layers"] = cell(*[layer for layer in layers if layer["name"] != "conv3_4"])


def of_no_convolution(content: dict[str, Any]) -> None:
    content["layers"] = cell({"type": "softmax", "name": "prob"})


def of_numbers(content: dict[str, Any]) -> None:
    content["layers"] = np.ones((2, 2))


def with_other_names(content: dict[str, Any]) -> None:
    for index, layer in enumerate(content["layers"][0]):
        layer["name"] = f"layer{index}"


def with_a_flat_kernel(content: dict[str, Any]) -> None:
    content["layers"][0, 2]["weights"] = cell(np.ones((3, 3)), np.ones((4, 1)))


def without_a_bias(content: dict[str, Any]) -> None:
    content["layers"][0, 2]["weights"] = cell(np.ones((3, 3, 4, 4)))


def without_a_mean(content: dict[str, Any]) -> None:
    del content["meta"]["normalization"]["averageImage"]


def with_a_grey_mean(content: dict[str, Any]) -> None:
    content["meta"]["normalization"]["averageImage"] = np.ones((224, 224))


def with_a_mean_that_is_none(content: dict[str, Any]) -> None:
    content["meta"]["normalization"]["averageImage"] = np.full((1, 1, 3), np.nan)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_layers, "'layers' in .*, got meta, params"),
        (without_the_fourth_of_a_block, r"layer conv3_4 of VGG-19 .*, got 18 convolutions, conv1_"),
        (of_no_convolution, "layer conv1_1 of VGG-19 .*, got no convolution"),
        (of_numbers, "layer conv1_1 of VGG-19 .*, got no convolution"),
        (with_other_names, "layer conv1_1 of VGG-19 .*, got 19 convolutions, layer0"),
        (with_a_flat_kernel, r"four axes and a bias for conv1_2 .*, got \[\(3, 3\), \(4,\)\]"),
        (without_a_bias, "four axes and a bias for conv1_2"),
        (without_a_mean, "normalization.averageImage in .*, got none"),
        (with_a_grey_mean, r"three means within 0–255 .*, got shape \(224, 224\)"),
        (with_a_mean_that_is_none, r"three means within 0–255 .*, got shape \(3,\) with \[nan"),
    ],
)
def test_a_file_of_something_else_says_of_what(
    tmp_path: Path, tiny_weights: Weights, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    content = new_file(tiny_weights)
    change(content)
    with pytest.raises(WeightsError, match=rf"(?s)^expected .*{message}.*; try "):
        parse_matconvnet(written(tmp_path, content))


def test_other_shapes_and_other_networks_are_refused(
    tmp_path: Path, tiny_weights: Weights, tiny_file: Path
) -> None:
    with pytest.raises(WeightsError, match=r"shape \(64, 3, 3, 3\) for conv1_1 .* \(4, 3, 3, 3\)"):
        load_weights(tiny_file, use_cache=False)
    content = new_file(tiny_weights)
    without_the_fourth_of_a_block(content)
    with pytest.raises(WeightsError, match=r"^expected the layer conv3_4 .* \S+\.mat$"):
        load_weights(written(tmp_path, content), use_cache=False)


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def nothing(data: bytes) -> bytes:
    return b""


def noise(data: bytes) -> bytes:
    return np.random.default_rng(0).bytes(2000)


def noise_behind_the_header(data: bytes) -> bytes:
    return data[:128] + noise(data)


def wrong_type_of_numbers(data: bytes) -> bytes:
    """Type 8 of an element, where 7 is float32, makes SciPy 1.17 read beyond a table."""
    place = data.index(struct.pack("<II", 7, 4 * 3 * 3 * 3 * 4))
    return data[:place] + b"\x08" + data[place + 1 :]


def cells_within_cells(data: bytes) -> bytes:
    header = struct.pack("<10I", 14, 1 << 24, 6, 8, 1, 0, 5, 8, 1, 1)
    return data[:128] + (header + struct.pack("<II", 1, 0)) * 200_000


@pytest.mark.parametrize(
    "damage",
    [half, nothing, noise, noise_behind_the_header, wrong_type_of_numbers, cells_within_cells],
)
def test_a_damaged_file_is_refused_and_ends_no_process(
    tiny_file: Path, damage: Callable[[bytes], bytes]
) -> None:
    tiny_file.write_bytes(damage(tiny_file.read_bytes()))
    with pytest.raises(WeightsError, match=r"^expected VGG-19 weights .* cannot be read \(.+\)"):
        load_weights(tiny_file, use_cache=False)


def test_matlabs_hdf5_is_told_from_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "imagenet-vgg-verydeep-19.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["layers"] = np.zeros(3)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + struct.pack("<H2s", 0x0200, b"IM"))
    with pytest.raises(WeightsError, match=r"it is HDF5, .* 7\.3 .*'-v7'.*; try"):
        load_weights(path, use_cache=False)


def test_without_scipy_it_is_asked_for(tiny_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        WeightsError, match=r"^expected SciPy .*, got none; try 'pip install scipy'"
    ):
        load_weights(tiny_file, use_cache=False)


def test_no_module_of_the_working_folder_is_run(
    tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scipy.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    assert "" not in sys.path
    with pytest.raises(WeightsError, match="shape"):
        load_weights(tiny_file.name, use_cache=False)
    assert not (tmp_path / "ran").exists()
