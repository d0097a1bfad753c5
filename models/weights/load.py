"""The weights of VGG-19: where they come from, how they are checked, and their float32 copy.

Reading a published file means unpickling, dequantising or parsing it, which takes up to seconds.
So the tensors are kept as a safetensors file in the cache, under the sha256 of the file that they
were read from, and are read from there the next time.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..arguments import check_arguments, check_fields, with_example
from ..errors import OutputError, UsageError, WeightsError, about
from ..printable import printable
from ..storage.cache import cache_folder, keeps_cache, mark_used, warn_unkept
from ..storage.files import write_atomically
from ..storage.inputs import open_input, open_regular
from ..storage.seals import digest_json
from ..vgg19 import CONVOLUTIONS, Preprocessing
from .conventions import OXFORD_MEAN, Mean
from .copies import OldCopyError, pack_copy, read_copy
from .entries import Tensors
from .sources import EMBEDDED, Identity, Source, damage, find_source, identify

_log = logging.getLogger("nstx")

_MOST_COPIED = 1 << 28


@with_example("load_weights()")
@dataclass(frozen=True, slots=True)
class Weights:
    """The 16 convolutions of VGG-19, float32, for RGB input on the 0–255 scale minus ``mean``.

    A network of the same layers with other channel counts will do, but for `load_weights`.

    Attributes:
        kernels, biases: by layer name, (channels, in_channels, 3, 3) and (channels,).
        mean: red, green, blue; subtracted from a pixel before the first convolution.
        source: ``embedded`` or the path that the weights were read from.
        sha256: of that file, and of a convention declared for it; another one where pixels are not
            preprocessed as it was published. What is computed from the weights is kept under it, so
            weights that were changed need another.
        preprocessing: of pixels, which is part of the first kernel and of the mean.
    """

    kernels: Mapping[str, NDArray[np.float32]] = field(repr=False)
    biases: Mapping[str, NDArray[np.float32]] = field(repr=False)
    mean: Mean
    source: str
    sha256: str
    preprocessing: Preprocessing = "published"

    def __post_init__(self) -> None:
        check_fields(self)


@check_arguments
def load_weights(
    source: str | os.PathLike[str] = EMBEDDED,
    preprocessing: Preprocessing = "published",
    *,
    use_cache: bool = True,
) -> Weights:
    """Load VGG-19's weights; `WeightsError` if they are missing, of another network, or damaged.

    Args:
        source: ``embedded``, or a file: ``.pth`` or ``.safetensors`` with torchvision's names or
            Gatys' (``conv1_1.weight``), Keras' ``.h5``, or MatConvNet's ``.mat`` (needs SciPy).
            Which input it expects, its filters tell, if they are Oxford's or torchvision's; for
            others ``caffe:`` (BGR, 0–255, minus the mean) or ``torchvision:`` (RGB, 0–1,
            normalised) stands before the path.
        preprocessing: of pixels; an objective's is `Objective.preprocessing`.
        use_cache: read and keep the converted float32 copy in the cache folder.
    """
    place, identity = _identify(source)
    folder = cache_folder() / "weights" if keeps_cache(use_cache) else None
    copy = folder and folder / f"{identity.sha256}.safetensors"
    kept = copy and _read_copy(copy)
    tensors, mean = kept or _read(place, identity)
    if copy and kept:
        mark_used(copy)
    elif copy:
        _keep_copy(copy, pack_copy(tensors, mean))
    if identity.doubt:
        _warn(f"{identity.doubt}; its filters are right, so it is used")
    names = [layer.name for layer in CONVOLUTIONS]
    weights = Weights(
        kernels={name: tensors[f"{name}.weight"] for name in names},
        biases={name: tensors[f"{name}.bias"] for name in names},
        mean=mean,
        source=str(source),
        sha256=identity.sha256,
    )
    return prepare_weights(weights, preprocessing)


def prepare_weights(weights: Weights, preprocessing: Preprocessing) -> Weights:
    """Return weights for pixels of 0–255 that are preprocessed in a way; as they are if they do it.

    Nothing but the first kernel and the mean changes: whatever takes weights needs to know of none.
    """
    if weights.preprocessing == preprocessing:
        return weights
    if weights.preprocessing != "published":
        raise UsageError(
            f"expected weights for preprocessing {preprocessing}, got them for "
            f"{weights.preprocessing}; try load_weights()"
        )
    if not np.allclose(weights.mean, OXFORD_MEAN, atol=0.05):
        raise UsageError(
            f"expected weights of Oxford's training for preprocessing {preprocessing}, got others "
            f"from {printable(weights.source)}; try --weights embedded",
            setting="weights",
        )
    first = CONVOLUTIONS[0].name
    # Blue's kernel sees red. On the scale 0–1 a padded zero is black, as it is where the mean is 0.
    kernel = np.ascontiguousarray(weights.kernels[first][:, ::-1] / np.float32(255))
    return replace(
        weights,
        kernels={**weights.kernels, first: kernel},
        mean=(0.0, 0.0, 0.0),
        sha256=_prepared_digest(weights.sha256, preprocessing),
        preprocessing=preprocessing,
    )


def weights_digest(
    source: str | os.PathLike[str] = EMBEDDED, preprocessing: Preprocessing = "published"
) -> str:
    """Return `Weights.sha256` without reading the tensors; `WeightsError` if there is no file."""
    return _prepared_digest(_identify(source)[1].sha256, preprocessing)


def _prepared_digest(sha256: str, preprocessing: Preprocessing) -> str:
    return sha256 if preprocessing == "published" else digest_json([sha256, preprocessing])


def copy_is_sound(path: Path) -> bool:
    """Whether a float32 copy in the cache is whole, or of another release; `OSError` if unreadable."""
    try:
        with open_regular(path, _MOST_COPIED) as file:
            read_copy(file)
    except (ValueError, WeightsError) as error:
        return isinstance(error, OldCopyError)
    return True


@about("weights")
def _identify(source: str | os.PathLike[str]) -> tuple[Source, Identity]:
    place = find_source(source)
    return place, identify(place)


@about("weights")
def _read(place: Source, identity: Identity) -> tuple[Tensors, Mean]:
    from .readers import read_tensors  # of every format; a run has a copy

    try:
        return read_tensors(place, identity.convention)
    except WeightsError as error:
        if identity.doubt is None:
            raise
        raise WeightsError(damage(identity.doubt)) from error


@cache
def _warn(message: str) -> None:
    _log.warning("%s", printable(message))  # once: a run loads its weights several times


def _keep_copy(path: Path, data: bytes) -> None:
    try:
        write_atomically(path, data)
    except OSError as error:
        # The copy only saves time: a full or read-only disk must not stop the work.
        warn_unkept(path.parents[1], error)


def _read_copy(path: Path) -> tuple[Tensors, Mean] | None:
    """Return the kept copy; None where there is none, or a damaged one, which is made again."""
    try:
        # Links are made by strangers, too.
        with open_input(path, kind="a copy", most_bytes=_MOST_COPIED, error=OutputError) as file:
            return read_copy(file)
    except (OutputError, OldCopyError, WeightsError):
        return None
    except (OSError, ValueError) as error:
        _log.warning("%s is damaged (%s) and is made again", printable(path), printable(error))
        return None
