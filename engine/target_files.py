"""One portable file that holds everything of a run but the network: the targets of every scale.

A safetensors file with, for each scale k from 0 (coarse): ``k/pixels`` (the content picture, uint8),
``k/content/LAYER`` and ``k/style/LAYER`` (float32); and metadata that says what they are of. A file
written on one machine can be optimised from on another.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..models.errors import UsageError
from ..models.files import check_output, write_output
from ..models.objective import Objective
from ..models.vgg19 import find_layer
from .image_files import to_8_bit
from .pixels import Pixels
from .targets import Targets

SUFFIXES = (".safetensors",)
_FORMAT = "nstx-targets-1"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SavedTargets:
    """The content of a targets file.

    Attributes:
        contents: the content picture at each scale, coarse first, float32 (height, width, 3).
        targets: of each scale.
        basis: what they depend on: layers, pooling, rounding, and the weights' sha256.
    """

    contents: tuple[Pixels, ...]
    targets: tuple[Targets, ...]
    basis: dict[str, Any]


def describe_basis(objective: Objective, weights_sha256: str) -> dict[str, Any]:
    """Return what targets depend on besides the pictures, as plain data."""
    return {
        "content_layers": [item.layer for item in objective.content_layers],
        "style_layers": [item.layer for item in objective.style_layers],
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
) -> None:
    """Write a targets file, whole or not at all.

    Args:
        path: ends in ``.safetensors``.
        contents: the content picture at each scale, coarse first; kept as 8-bit.
        targets: of each scale.
        objective: that they were computed for.
        weights_sha256: of the weight file that they were computed with.

    Raises:
        OutputError: it cannot be written there.
    """
    check_output(path, SUFFIXES)
    arrays: dict[str, NDArray[Any]] = {}
    for scale, (pixels, target) in enumerate(zip(contents, targets, strict=True)):
        arrays[f"{scale}/pixels"] = to_8_bit(pixels)
        for layer, array in target.content.items():
            arrays[f"{scale}/content/{layer}"] = np.ascontiguousarray(array)
        for layer, array in target.style.items():
            arrays[f"{scale}/style/{layer}"] = np.ascontiguousarray(array)
    metadata = {
        "format": _FORMAT,
        "basis": json.dumps(describe_basis(objective, weights_sha256)),
        "objective": json.dumps(asdict(objective)),
    }
    write_output(path, save(arrays, metadata=metadata))


def read_targets(path: Path) -> SavedTargets:
    """Read a targets file.

    Raises:
        UsageError: there is none, or it is damaged or of another kind.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.get("format") != _FORMAT:
            raise ValueError(f"format {metadata.get('format')}")
        basis = dict(json.loads(metadata["basis"]))
        count = sum(name.endswith("/pixels") for name in arrays)
        contents = tuple(arrays[f"{k}/pixels"].astype(np.float32) for k in range(count))
        targets = tuple(_targets_of(arrays, k, contents[k].shape) for k in range(count))
        if not targets or not all(np.isfinite(array).all() for array in arrays.values()):
            raise ValueError("values that are missing or not finite")
    except (OSError, SafetensorError, KeyError, ValueError, IndexError, TypeError) as error:
        raise UsageError(
            f"expected a targets file at {path}, got one that cannot be used ({error}); "
            "try 'nstx precompute … -o FILE.safetensors'"
        ) from error
    return SavedTargets(contents=contents, targets=targets, basis=basis)


def _targets_of(arrays: dict[str, NDArray[Any]], scale: int, shape: tuple[int, ...]) -> Targets:
    parts: dict[str, dict[str, NDArray[np.float32]]] = {"content": {}, "style": {}}
    for name, array in arrays.items():
        index, kind, *layer = name.split("/")
        if index == str(scale) and kind in parts:
            parts[kind][layer[0]] = array
    return Targets(height=shape[0], width=shape[1], **parts)


def check_targets(saved: SavedTargets, objective: Objective, weights_sha256: str) -> None:
    """Check that saved targets belong to an objective and to weights.

    Raises:
        UsageError: they do not; the message names the differences.
    """
    wanted = describe_basis(objective, weights_sha256)
    different = [
        f"{name} {saved.basis.get(name)} instead of {value}"
        for name, value in wanted.items()
        if saved.basis.get(name) != value
    ]
    different += [
        f"{kind} {layer} of shape {found} instead of {shape}"
        for target in saved.targets
        for kind, layer, found, shape in _compare_shapes(target, objective)
        if found != shape
    ]
    if different:
        raise UsageError(
            f"expected targets of this objective, got {'; '.join(different)}; "
            "try the options that they were computed with"
        )


def _compare_shapes(
    target: Targets, objective: Objective
) -> Iterator[tuple[str, str, tuple[int, ...] | None, tuple[int, ...]]]:
    """Yield kind, layer, the shape that is there (None if it is missing) and the right one."""
    for item in objective.content_layers if objective.uses_content else ():
        layer = find_layer(item.layer)
        size = layer.output_size(target.height, target.width, objective.pool_rounding)
        found = target.content.get(item.layer)
        yield "content", item.layer, None if found is None else found.shape, (layer.channels, *size)
    for item in objective.style_layers if objective.uses_style else ():
        channels = find_layer(item.layer).channels
        found = target.style.get(item.layer)
        yield "style", item.layer, None if found is None else found.shape, (channels, channels)
