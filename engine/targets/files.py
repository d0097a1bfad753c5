"""One portable file that holds everything of a run but the network: the targets of every scale.

A safetensors file with, for each scale k from 0 (coarse): ``k/pixels`` (the content picture, uint8,
or float32 if its values are no whole numbers), ``k/content/LAYER`` and ``k/style/LAYER`` (float32);
``alpha`` (uint8) if the content picture has transparency; a description, and a checksum. A run on
another machine can start from it.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstx.models.errors import UsageError
from nstx.models.objective import Objective, objective_from_json
from nstx.models.storage.files import check_output, write_output
from nstx.models.vgg19 import find_layer

from ..pictures.picture import Pixels
from ..pictures.writing import to_8_bit
from .sealed_arrays import SUFFIX, pack_arrays, unpack_arrays
from .targets import Targets

SUFFIXES = (SUFFIX,)
_FORMAT = "nstx-targets-2"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SavedTargets:
    """The content of a targets file.

    Attributes:
        contents: the content picture at each scale, coarse first, float32 (height, width, 3).
        basis: what targets depend on besides the pictures, as `describe_basis` returns it.
        objective: the one that they were computed for, with its weights.
        preset: whose solver and steps go with the objective.
        alpha: of the content picture, uint8 (height, width) at the last scale's size; None if it
            is opaque.
    """

    contents: tuple[Pixels, ...]
    targets: tuple[Targets, ...]
    basis: dict[str, Any]
    objective: Objective
    preset: str
    alpha: NDArray[np.uint8] | None = None


def describe_basis(objective: Objective, weights_sha256: str) -> dict[str, Any]:
    """Return what targets depend on besides the pictures, as plain data."""
    return {
        "content_layers": sorted(item.layer for item in objective.content_layers),
        "style_layers": sorted(item.layer for item in objective.style_layers),
        "pooling": objective.pooling,
        "pool_rounding": objective.pool_rounding,
        "weights_sha256": weights_sha256,
    }


def write_targets(
    path: Path,
    contents: tuple[Pixels, ...],
    targets: tuple[Targets, ...],
    objective: Objective,
    weights_sha256: str,
    *,
    preset: str = "default",
    alpha: NDArray[np.uint8] | None = None,
) -> None:
    """Write a targets file, whole or not at all.

    Args:
        path: ends in ``.safetensors``.
        contents: the content picture at each scale, coarse first.
        targets: of each scale.
        objective: the one that they were computed for.
        weights_sha256: of the weight file that they were computed with.
        preset: the one that the objective started from.
        alpha: of the content picture at the last scale's size, if it is not opaque.

    Raises:
        OutputError: it cannot be written there.
    """
    check_output(path, SUFFIXES)
    arrays: dict[str, NDArray[Any]] = {}
    for scale, (pixels, target) in enumerate(zip(contents, targets, strict=True)):
        arrays[f"{scale}/pixels"] = _compact(pixels)
        for kind, by_layer in (("content", target.content), ("style", target.style)):
            for layer, array in by_layer.items():
                arrays[f"{scale}/{kind}/{layer}"] = np.ascontiguousarray(array)
    if alpha is not None:
        arrays["alpha"] = np.ascontiguousarray(alpha)
    description = {
        "format": _FORMAT,
        "basis": describe_basis(objective, weights_sha256),
        "objective": asdict(objective),
        "preset": preset,
    }
    write_output(path, pack_arrays(arrays, description))


def _compact(pixels: Pixels) -> NDArray[Any]:
    rounded = to_8_bit(pixels)
    return rounded if np.array_equal(rounded, pixels) else np.ascontiguousarray(pixels, np.float32)


def read_targets(path: Path) -> SavedTargets:
    """Read a targets file.

    Raises:
        UsageError: there is none, or it is damaged or of another kind.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise ValueError("it is a device or pipe")
        return _unpack(path.read_bytes())
    except (OSError, KeyError, ValueError, IndexError, TypeError) as error:
        raise UsageError(
            f"expected a targets file at {path}, got one that cannot be used "
            f"({getattr(error, 'strerror', None) or error}); "
            "try 'nstx precompute … -o FILE.safetensors'"
        ) from error


def _unpack(data: bytes) -> SavedTargets:
    arrays, description = unpack_arrays(data)
    if description.get("format") != _FORMAT:
        raise ValueError("it is another kind of file, or of another version")
    count = sum(name.endswith("/pixels") for name in arrays)
    contents = tuple(arrays[f"{k}/pixels"].astype(np.float32) for k in range(count))
    targets = tuple(
        Targets(
            height=pixels.shape[0],
            width=pixels.shape[1],
            content=_below(f"{k}/content/", arrays),
            style=_below(f"{k}/style/", arrays),
        )
        for k, pixels in enumerate(contents)
    )
    if not targets or not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError("values that are missing or not finite")
    return SavedTargets(
        contents=contents,
        targets=targets,
        basis=dict(description["basis"]),
        objective=objective_from_json(description["objective"]),
        preset=str(description["preset"]),
        alpha=arrays.get("alpha"),
    )


def _below(prefix: str, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def check_targets(saved: SavedTargets, objective: Objective, weights_sha256: str) -> None:
    """Raise `UsageError` with the differences if targets are of another objective or weights."""
    basis = describe_basis(objective, weights_sha256)
    different = [
        f"{name} {saved.basis.get(name)} instead of {value}"
        for name, value in basis.items()
        if saved.basis.get(name) != value
    ]
    for target in saved.targets:
        different += _wrong_shapes(target, objective)
    if different:
        raise UsageError(
            f"expected targets of this objective, got {'; '.join(different)}; "
            "try the options that they were computed with"
        )


def _wrong_shapes(target: Targets, objective: Objective) -> Iterator[str]:
    """Yield a description of each target that is missing, or whose shape is not the layer's."""
    for kind, names in (("content", objective.content_names), ("style", objective.style_names)):
        for layer in map(find_layer, names):
            size = layer.output_size(target.height, target.width, objective.pool_rounding)
            shape = (layer.channels, *(size if kind == "content" else (layer.channels,)))
            array = getattr(target, kind).get(layer.name)
            if array is None:
                yield f"no {kind} {layer.name}"
            elif array.shape != shape:
                yield f"{kind} {layer.name} of shape {array.shape} instead of {shape}"
