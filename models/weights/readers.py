"""Readers of the files that VGG-19's weights are published in, and of the copies that nstx keeps.

Each returns the convolutions as float32 arrays in one convention: kernels (out, in, 3, 3), input in
RGB order on the 0–255 scale after subtraction of a mean. Differences between the sources, such as
BGR order or pixels divided by a standard deviation, are folded into the first convolution.

No file's code is ever run, and PyTorch is not needed (`nstx.models.weights.torch_files`).
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import WeightsError
from ..storage.seals import digest_arrays
from ..vgg19 import CONVOLUTIONS
from .matconvnet import read_matconvnet
from .torch_files import read_torch_file

Array = NDArray[np.float32]
Tensors = dict[str, Array]
"""``conv1_1.weight``, (out, in, 3, 3), ``conv1_1.bias``, (out,), and so on."""

Mean = tuple[float, float, float]
"""Red, green, blue; subtracted from a pixel before the first convolution."""

OWN_FORMAT = "nstx-weights-1"
"""Says in a safetensors file that its tensors follow the convention of this module."""

# Oxford's weights under torchvision's names, as the older PyTorch ports of Caffe networks use them.
_CAFFE_CONVERSION = "vgg19-d01eb7cb"

_OXFORD_MEAN = (123.68, 116.779, 103.939)
_TORCHVISION_MEAN = (0.485, 0.456, 0.406)
_TORCHVISION_DEVIATION = (0.229, 0.224, 0.225)

TORCHVISION_INDICES = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
"""Positions of the convolutions in torchvision's ``features``."""

SEQUENTIAL_INDICES = (2, 5, 9, 12, 16, 19, 22, 25, 29, 32, 35, 38, 42, 45, 48, 51)
"""Their positions in the sequential network of the feed-forward literature, which counts reflection
paddings and starts with a 1×1 convolution."""

_NAMES = tuple(layer.name for layer in CONVOLUTIONS)


def read_tensors(path: Path) -> tuple[Tensors, Mean]:
    """Read a weight file of any kind, by its suffix and its keys; `WeightsError` if that fails."""
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


def read_copy(path: Path) -> tuple[Tensors, Mean]:
    """Read a copy that nstx has kept; ValueError or KeyError if it is no copy or was changed."""
    tensors, metadata = _read_tensors_and_metadata(path)
    if metadata["format"] != OWN_FORMAT or metadata["digest"] != digest_arrays(tensors):
        raise ValueError("its checksum is wrong")
    red, green, blue = json.loads(metadata["mean"])
    return tensors, (red, green, blue)


def pack_copy(tensors: Tensors, mean: Mean) -> bytes:
    """Return the bytes of a copy: safetensors, with a checksum of the tensors in the metadata."""
    from safetensors.numpy import save

    digest = digest_arrays(tensors)
    metadata = {"format": OWN_FORMAT, "mean": json.dumps(mean), "digest": digest}
    return save(tensors, metadata=metadata)


def _read_tensors_and_metadata(path: Path) -> tuple[Tensors, dict[str, str]]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, file.metadata() or {}


def _read_safetensors(path: Path) -> tuple[Tensors, Mean]:
    tensors, metadata = _read_tensors_and_metadata(path)
    if metadata.get("format") == OWN_FORMAT:
        return read_copy(path)
    return _from_state_dict(tensors, path)


def _read_torch(path: Path) -> tuple[Tensors, Mean]:
    return _from_state_dict(_read_pickled(path), path)


def _read_pickled(path: Path) -> Mapping[str, NDArray[Any]]:
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
    return {str(name): array for name, array in loaded.items() if isinstance(array, np.ndarray)}


def _read_quantised(path: Path) -> tuple[Tensors, Mean]:
    """Read the 8-bit k-means codebooks (``…_W_q``, ``…_W_table``, ``…_b``) of the default file."""
    loaded, tensors = _read_pickled(path), {}
    for name in _NAMES:
        key = _keras_name(name)
        codebook = loaded[f"{key}_W_table"].astype(np.float32)
        tensors[f"{name}.weight"] = codebook[loaded[f"{key}_W_q"]]
        tensors[f"{name}.bias"] = loaded[f"{key}_b"].astype(np.float32)
    return _from_bgr(tensors), _OXFORD_MEAN


def _read_keras(path: Path) -> tuple[Tensors, Mean]:
    """Read weights of Keras, with or without the classifier, in either naming of datasets."""
    import h5py

    tensors: Tensors = {}
    with h5py.File(path, "r") as file:
        root = file.get("model_weights", file)
        for name in _NAMES:
            group = root.get(_keras_name(name))
            if not isinstance(group, h5py.Group):
                raise WeightsError(
                    f"expected a group {_keras_name(name)} in {path}, got none; "
                    "try Keras' vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
                )
            names: list[str] = []
            group.visit(names.append)
            datasets = [group[key] for key in names if isinstance(group[key], h5py.Dataset)]
            by_rank = {item.ndim: np.asarray(item, np.float32) for item in datasets}
            # Keras keeps (height, width, in, out).
            kernel = np.ascontiguousarray(by_rank[4].transpose(3, 2, 0, 1))
            tensors |= {f"{name}.weight": kernel, f"{name}.bias": by_rank[1]}
    return _from_bgr(tensors), _OXFORD_MEAN


def _from_state_dict(tensors: Mapping[str, NDArray[Any]], path: Path) -> tuple[Tensors, Mean]:
    if plain := _rename(tensors, _NAMES):
        return _from_bgr(plain), _OXFORD_MEAN
    if torchvision := _rename(tensors, [f"features.{index}" for index in TORCHVISION_INDICES]):
        if path.name.startswith(_CAFFE_CONVERSION):
            return _from_bgr(torchvision), _OXFORD_MEAN
        return _from_normalised(torchvision)
    if sequential := _rename(tensors, [str(index) for index in SEQUENTIAL_INDICES]):
        return _from_sequential(sequential, tensors["0.weight"], tensors["0.bias"])
    names = ", ".join(sorted(tensors)[:3]) or "nothing"
    raise WeightsError(
        f"expected the convolutions of VGG-19 in {path}, named conv1_1.weight or "
        f"features.0.weight, got {names} …; try --weights embedded"
    )


def _rename(tensors: Mapping[str, NDArray[Any]], keys: Sequence[str]) -> Tensors:
    """Return the convolutions under the table's names; nothing unless all are there."""
    if not all(f"{key}.weight" in tensors for key in keys):
        return {}
    return {
        f"{name}.{part}": tensors[f"{key}.{part}"].astype(np.float32)
        for name, key in zip(_NAMES, keys, strict=True)
        for part in ("weight", "bias")
    }


def _from_bgr(tensors: Tensors) -> Tensors:
    """Convert from Oxford's convention, kept by Caffe, Keras and Gatys: BGR, 0–255, minus a mean."""
    first = np.ascontiguousarray(tensors["conv1_1.weight"][:, ::-1])
    return {**tensors, "conv1_1.weight": first}


def _from_normalised(tensors: Tensors) -> tuple[Tensors, Mean]:
    """Convert from torchvision's convention: RGB, 0–1, minus a mean, divided by a deviation.

    The division moves into the first kernel. Zero padding stays exact, because a padded zero is
    the mean colour on both scales.
    """
    scale = 1 / (255 * np.asarray(_TORCHVISION_DEVIATION))
    first = (tensors["conv1_1.weight"] * scale[None, :, None, None]).astype(np.float32)
    red, green, blue = (255 * value for value in _TORCHVISION_MEAN)
    return {**tensors, "conv1_1.weight": first}, (red, green, blue)


def _from_sequential(
    tensors: Tensors, mixing: NDArray[Any], offset: NDArray[Any]
) -> tuple[Tensors, Mean]:
    """Fold a first 1×1 convolution y = A·x + b of RGB in 0–1 into the next: A/255, and its mean.

    The mean is the colour that y = 0 stands for, so a padded zero keeps its meaning.
    """
    matrix = mixing.astype(np.float32).reshape(3, 3).astype(np.float64) / 255
    first = np.einsum("ojhw,ji->oihw", tensors["conv1_1.weight"].astype(np.float64), matrix)
    mean = np.linalg.solve(matrix, -offset.astype(np.float32).astype(np.float64))
    red, green, blue = mean.tolist()
    return {**tensors, "conv1_1.weight": first.astype(np.float32)}, (red, green, blue)


def _keras_name(name: str) -> str:
    return re.sub(r"conv(\d)_(\d)", r"block\1_conv\2", name)


_READERS: dict[str, Callable[[Path], tuple[Tensors, Mean]]] = {
    ".bin": _read_quantised,
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".h5": _read_keras,
    ".hdf5": _read_keras,
    ".mat": read_matconvnet,
    ".safetensors": _read_safetensors,
}
