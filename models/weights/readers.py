"""Readers of the files that VGG-19's weights are published in.

Each returns the convolutions as float32 arrays in one convention: kernels (out, in, 3, 3), input in
RGB order on the 0–255 scale after subtraction of a mean. Differences between the sources, such as
BGR order or pixels divided by a standard deviation, are folded into the first convolution.

No file's code is ever run, and PyTorch is not needed (`nstx.models.weights.torch_files`).
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import WeightsError
from ..vgg19 import CONVOLUTIONS
from .matconvnet import read_matconvnet
from .torch_files import read_torch_file

Array = NDArray[np.float32]
Tensors = tuple[dict[str, Array], dict[str, Array], tuple[float, float, float]]

OWN_FORMAT = "nstx-weights-1"
"""Says in a safetensors file that its tensors follow the convention of this module."""

# Oxford's weights under torchvision's names, as the older PyTorch ports of Caffe networks use them.
_CAFFE_CONVERSION = "vgg19-d01eb7cb"

_OXFORD_MEAN = (123.68, 116.779, 103.939)
_TORCHVISION_MEAN = (0.485, 0.456, 0.406)
_TORCHVISION_DEVIATION = (0.229, 0.224, 0.225)
# Positions of the convolutions in torchvision's `features`, and in the sequential network of the
# feed-forward literature, which counts reflection paddings and starts with a 1×1 convolution.
_TORCHVISION_INDICES = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
_SEQUENTIAL_INDICES = (2, 5, 9, 12, 16, 19, 22, 25, 29, 32, 35, 38, 42, 45, 48, 51)
_NAMES = tuple(layer.name for layer in CONVOLUTIONS)


def read_tensors(path: Path) -> Tensors:
    """Read a weight file of any known kind, told by its suffix and its keys.

    Returns:
        Kernels by layer, biases by layer, and the mean (red, green, blue) to subtract.

    Raises:
        WeightsError: the file is of no known kind, or is damaged.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise WeightsError(
            f"expected weights as {', '.join(sorted(_READERS))}, got {path.name}; "
            "try --weights embedded"
        )
    try:
        return reader(path)
    except WeightsError:
        raise
    except Exception as error:
        # These files come from anywhere, and each library has its own errors for a damaged one.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise WeightsError(
            f"expected VGG-19 weights in {path}, got a file that cannot be read ({reason}); "
            "try to fetch it again"
        ) from error


def _read_pickled(path: Path) -> Mapping[str, NDArray[Any]]:
    """Return the tensors of a PyTorch file, by name."""
    try:
        loaded = read_torch_file(path)
    except ValueError as error:
        raise WeightsError(
            f"expected tensors saved by PyTorch in {path}, got a file that cannot be read as such "
            f"({error}); try to fetch it again"
        ) from error
    if not isinstance(loaded, Mapping):
        raise WeightsError(
            f"expected a state dict in {path}, got {type(loaded).__name__}; "
            "try torch.save(model.state_dict(), …)"
        )
    return {str(name): each for name, each in loaded.items() if isinstance(each, np.ndarray)}


def _read_torch(path: Path) -> Tensors:
    """Read torchvision's, Gatys' or the sequential network's state dict."""
    tensors = {name: each.astype(np.float32) for name, each in _read_pickled(path).items()}
    return _from_state_dict(tensors, path)


def _read_safetensors(path: Path) -> Tensors:
    """Read nstx's own kept copy, or a state dict."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name).astype(np.float32) for name in file.keys()}  # noqa: SIM118
    if metadata.get("format") != OWN_FORMAT:
        return _from_state_dict(tensors, path)
    red, green, blue = json.loads(metadata["mean"])
    kernels = {name: tensors[f"{name}.weight"] for name in _NAMES}
    biases = {name: tensors[f"{name}.bias"] for name in _NAMES}
    return kernels, biases, (red, green, blue)


def _read_quantised(path: Path) -> Tensors:
    """Read the 8-bit k-means codebooks (``…_W_q``, ``…_W_table``, ``…_b``) of the default file."""
    loaded = _read_pickled(path)
    kernels, biases = {}, {}
    for name in _NAMES:
        key = _keras_name(name)
        kernels[name] = loaded[f"{key}_W_table"].astype(np.float32)[loaded[f"{key}_W_q"]]
        biases[name] = loaded[f"{key}_b"].astype(np.float32)
    return _from_bgr(kernels, biases)


def _read_keras(path: Path) -> Tensors:
    """Read Keras' HDF5 weights, with or without the classifier, in either naming of datasets."""
    import h5py

    kernels, biases = {}, {}
    with h5py.File(path, "r") as file:
        root = file.get("model_weights", file)
        for name in _NAMES:
            group = root.get(_keras_name(name))
            if not isinstance(group, h5py.Group):
                raise WeightsError(
                    f"expected a group {_keras_name(name)} in {path}, got none; "
                    "try Keras' vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
                )
            found: list[Array] = []
            group.visititems(
                lambda _, item, found=found: (
                    found.append(np.asarray(item, np.float32))
                    if isinstance(item, h5py.Dataset)
                    else None
                )
            )
            by_rank = {array.ndim: array for array in found}
            # Keras keeps (height, width, in, out).
            kernels[name] = np.ascontiguousarray(by_rank[4].transpose(3, 2, 0, 1))
            biases[name] = by_rank[1]
    return _from_bgr(kernels, biases)


def _from_state_dict(tensors: Mapping[str, Array], path: Path) -> Tensors:
    """Tell by the names of a state dict which network it is of."""
    prefixes = {"": _NAMES, "features.": _TORCHVISION_INDICES, "seq": _SEQUENTIAL_INDICES}
    for prefix, keys in prefixes.items():
        stem = "" if prefix == "seq" else prefix
        if all(f"{stem}{key}.weight" in tensors for key in keys):
            pairs = list(zip(_NAMES, keys, strict=True))
            kernels = {name: tensors[f"{stem}{key}.weight"] for name, key in pairs}
            biases = {name: tensors[f"{stem}{key}.bias"] for name, key in pairs}
            break
    else:
        known = ", ".join(sorted(tensors)[:3]) or "nothing"
        raise WeightsError(
            f"expected the convolutions of VGG-19 in {path}, named conv1_1.weight or "
            f"features.0.weight, got {known} …; try --weights embedded"
        )
    if prefix == "features." and not path.name.startswith(_CAFFE_CONVERSION):
        return _from_normalised(kernels, biases)
    if prefix == "seq":
        return _from_sequential(kernels, biases, tensors["0.weight"], tensors["0.bias"])
    return _from_bgr(kernels, biases)


def _from_bgr(kernels: dict[str, Array], biases: dict[str, Array]) -> Tensors:
    """Oxford's convention, kept by Caffe, Keras and Gatys: BGR, 0–255, minus the mean colour."""
    first = kernels["conv1_1"]
    return {**kernels, "conv1_1": np.ascontiguousarray(first[:, ::-1])}, biases, _OXFORD_MEAN


def _from_normalised(kernels: dict[str, Array], biases: dict[str, Array]) -> Tensors:
    """Torchvision's convention: RGB, 0–1, minus a mean, divided by a standard deviation.

    The division moves into the first kernel. Zero padding stays exact, because a padded zero is
    the mean colour on both scales.
    """
    scale = 1 / (255 * np.asarray(_TORCHVISION_DEVIATION))
    first = (kernels["conv1_1"] * scale[None, :, None, None]).astype(np.float32)
    red, green, blue = (255 * value for value in _TORCHVISION_MEAN)
    return {**kernels, "conv1_1": first}, biases, (red, green, blue)


def _from_sequential(
    kernels: dict[str, Array], biases: dict[str, Array], mixing: Array, offset: Array
) -> Tensors:
    """A first 1×1 convolution y = A·x + b of RGB in 0–1: A/255 moves into the first kernel.

    The mean is the colour that y = 0 stands for, so a padded zero keeps its meaning.
    """
    matrix = mixing.reshape(3, 3).astype(np.float64) / 255
    first = np.einsum("ojhw,ji->oihw", kernels["conv1_1"].astype(np.float64), matrix)
    red, green, blue = np.linalg.solve(matrix, -offset.astype(np.float64)).tolist()
    return {**kernels, "conv1_1": first.astype(np.float32)}, biases, (red, green, blue)


def _keras_name(name: str) -> str:
    return re.sub(r"conv(\d)_(\d)", r"block\1_conv\2", name)


_READERS: dict[str, Callable[[Path], Tensors]] = {
    ".bin": _read_quantised,
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".h5": _read_keras,
    ".hdf5": _read_keras,
    ".mat": read_matconvnet,
    ".safetensors": _read_safetensors,
}
