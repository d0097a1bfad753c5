"""One portable file that holds everything of a run but the network: the targets of every scale.

A safetensors file with, for each scale k from 0 (coarse): ``k/pixels`` (the content picture, uint8,
or float32 if its values are no whole numbers; in its colours, whatever is compared), ``k/content/LAYER`` and
``k/style/LAYER`` (float32), and of a run with regions ``k/region`` and perhaps ``k/mask`` (uint8), of several ``k/parts`` (uint8), with styles of shape (regions, …); ``alpha`` (uint8) if the content picture has transparency; ``grain`` (float32) of the
style pictures, if results are to be cleaned; a description, with the content picture's depth where that is 16 and the
way of colouring where its targets are no others', and a checksum. A run on another machine can start from it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from nstx.models.arguments import check_arguments, with_example
from nstx.models.errors import UsageError
from nstx.models.objective import Objective, objective_from_json, objective_to_json
from nstx.models.presets import PRESETS, Preset, find_preset
from nstx.models.printable import printable
from nstx.models.storage.files import check_output, write_output
from nstx.models.storage.plain_data import take_choice, take_object, take_text, take_whole
from nstx.models.storage.seals import DIGEST, digest_bytes

from ..artefacts.grain import FIGURES, Grain
from ..colours.modes import shares_targets
from ..pictures.picture import InputFile, Pixels
from ..pictures.writing import to_8_bit
from ..regions.masks import layer_shares
from ..settings import MIN_SIDE, Colors
from .basis import describe_basis, take_region, wrong_shapes
from .sealed_arrays import SUFFIX, open_sealed, pack_arrays, read_bytes, unpack_arrays
from .targets import Targets

SUFFIXES = (SUFFIX,)
_FORMAT, _FORMAT_OF_COLOURS = "nstx-targets-2", "nstx-targets-3"
"""The latter where other pictures than the named ones are compared, of which earlier releases know nothing."""

MOST_BYTES = 1 << 34
"""Of a file; one of 3000 pixels and conv1_1 has 3 GB."""

_ADVICE = "'nstx precompute … -o FILE.safetensors'"


@with_example("read_targets('targets.safetensors')")
@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SavedTargets:
    """The content of a targets file.

    Attributes:
        contents: the content picture at each scale, coarse first, float32 (height, width, 3).
        weights_sha256: of the weight file that they were computed with.
        objective: the one that they were computed for, with its weights.
        preset: whose solver and steps go with the objective.
        alpha: of the content picture, uint8 (height, width) at the last scale's size; None if it
            is opaque.
        grain: of the style pictures; None if it was not measured.
        depth: of the content picture's file, 8 or 16 bits a channel.
        file: what a report says of the file; None if they came from none.
        colors: by which way of colouring the targets are of other pictures: ``luminance``, ``matched``; or
            ``style``, which serves all ways that compare the pictures as they are.
    """

    contents: tuple[Pixels, ...] = field(repr=False)
    targets: tuple[Targets, ...]
    weights_sha256: str
    objective: Objective
    preset: str
    alpha: NDArray[np.uint8] | None = field(default=None, repr=False)
    grain: Grain | None = None
    depth: Literal[8, 16] = 8
    file: InputFile | None = None
    colors: Colors = "style"

    @property
    def chosen(self) -> Preset:
        """The preset that they were computed for, with their objective and colours."""
        return replace(find_preset(self.preset), objective=self.objective, colors=self.colors)


@check_arguments
def write_targets(
    path: str | Path,
    contents: Sequence[Pixels],
    targets: Sequence[Targets],
    objective: Objective,
    weights_sha256: str,
    *,
    preset: str = "default",
    alpha: NDArray[np.uint8] | None = None,
    grain: Sequence[float] | None = None,
    depth: Literal[8, 16] = 8,
    colors: Colors = "style",
) -> None:
    """Write a targets file, whole or not at all.

    Args:
        path: ends in ``.safetensors``.
        contents: the content picture at each scale, coarse first, in its colours.
        targets: of each scale.
        objective: the one that they were computed for.
        weights_sha256: of the weight file that they were computed with.
        preset: the one that the objective started from.
        alpha: of the content picture at the last scale's size, if it is not opaque.
        grain: of the style pictures (`Job.grain`), by which results are cleaned.
        depth: of the content picture's file (`Job.encoding`), in which results are saved.
        colors: the way of colouring that the targets were computed for.

    Raises:
        OutputError: it cannot be written there.
        UsageError: it could not be read, as something does not fit together.
    """
    path = Path(path)
    check_output(path, SUFFIXES)
    arrays = _name_arrays(contents, targets)
    if alpha is not None:
        arrays["alpha"] = np.ascontiguousarray(alpha)
    description: dict[str, Any] = {
        "format": _FORMAT,
        "basis": describe_basis(objective, weights_sha256),
        "objective": objective_to_json(objective),
        "preset": preset,
        **({} if depth == 8 else {"depth": depth}),
    }
    if (compared := compared_in(colors)) != "style":
        description |= {"format": _FORMAT_OF_COLOURS, "colors": compared}
    try:
        if grain is not None:
            with np.errstate(over="ignore"):  # which is refused below
                arrays["grain"] = np.array(grain, np.float32)
        if len(contents) != len(targets):
            raise ValueError(f"{len(targets)} targets of {len(contents)} pictures")
        _unpack(arrays, json.loads(json.dumps(description)))
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"expected pictures with their targets, got what cannot be read back ({printable(error)}); "
            "try those of one job"
        ) from error
    write_output(path, pack_arrays(arrays, description))


def _name_arrays(contents: Sequence[Pixels], targets: Sequence[Targets]) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    for scale, (pixels, target) in enumerate(zip(contents, targets, strict=False)):
        arrays[f"{scale}/pixels"] = _compact(pixels)
        for kind, by_layer in (("content", target.content), ("style", target.style)):
            for layer, array in by_layer.items():
                arrays[f"{scale}/{kind}/{layer}"] = np.ascontiguousarray(array)
        if target.region is not None:
            arrays[f"{scale}/region"] = np.ascontiguousarray(target.region.counts)
            if target.region.mask is not None:
                arrays[f"{scale}/mask"] = np.ascontiguousarray(target.region.mask)
            if target.region.parts is not None:
                arrays[f"{scale}/parts"] = np.ascontiguousarray(target.region.parts)
    return arrays


def _compact(pixels: Pixels) -> NDArray[Any]:
    rounded = to_8_bit(pixels)
    return rounded if np.array_equal(rounded, pixels) else np.ascontiguousarray(pixels, np.float32)


@check_arguments
def read_targets(path: str | Path) -> SavedTargets:
    """Read a targets file; everything that it says of itself is checked here.

    Raises:
        UsageError: there is none, or it is damaged or of another kind.
    """
    path = Path(path)
    with open_sealed(
        path, kind="a targets file", most_bytes=MOST_BYTES, advice=_ADVICE, instead=_ADVICE
    ) as file:
        data = read_bytes(file)
        saved = _unpack(*unpack_arrays(data))
    read = InputFile(role="targets", path=str(path), sha256=digest_bytes(data))
    return replace(saved, file=read)


def _unpack(arrays: dict[str, NDArray[Any]], description: dict[str, Any]) -> SavedTargets:
    """Return the content of a targets file; `ValueError` if a part of it cannot be."""
    has_colours = description.get("format") == _FORMAT_OF_COLOURS
    if description.get("format") != _FORMAT and not has_colours:
        raise ValueError("it is another kind of file, or of another version")
    colors = take_text(description, "colors", "luminance|matched") if has_colours else "style"
    objective = objective_from_json(take_object(description, "objective"))
    basis = take_object(description, "basis")
    weights_sha256 = take_text(basis, "weights_sha256", DIGEST)
    if basis != describe_basis(objective, weights_sha256):
        raise ValueError("its targets are not those of its objective")
    preset = take_choice(description, "preset", PRESETS)
    for array in arrays.values():
        if array.dtype not in (np.uint8, np.float32) or not np.isfinite(array).all():
            raise ValueError("it has values that are not finite, or of another type")
    remaining = dict(arrays)
    alpha, grain = remaining.pop("alpha", None), remaining.pop("grain", None)
    contents: list[Pixels] = []
    targets: list[Targets] = []
    while f"{len(contents)}/pixels" in remaining:
        pixels, target = _take_scale(len(contents), objective, remaining)
        contents.append(pixels)
        targets.append(target)
    if not contents or remaining or len({len(target.areas) for target in targets}) > 1:
        raise ValueError("a picture or region is missing, or something has no place in it")
    if alpha is not None and (alpha.dtype != np.uint8 or alpha.shape != contents[-1].shape[:2]):
        raise ValueError("its transparency has another shape than its picture")
    if grain is not None and not _is_grain(grain):
        raise ValueError("its grain is none of pictures")
    return SavedTargets(
        contents=tuple(contents),
        targets=tuple(targets),
        weights_sha256=weights_sha256,
        objective=objective,
        preset=preset,
        alpha=alpha,
        grain=None if grain is None else tuple(grain.tolist()),
        depth=_take_depth(description),
        colors=cast(Colors, colors),
    )


def _take_depth(description: dict[str, Any]) -> Literal[8, 16]:
    depth = take_whole({"depth": 8, **description}, "depth", 8, 16)
    if depth not in (8, 16):
        raise ValueError("its depth is that of no picture")
    return 16 if depth == 16 else 8


def compared_in(colors: Colors) -> Colors:
    """Return the way of colouring that has the same targets, and the least to do with colours."""
    return "style" if shares_targets(colors) else colors


def _is_grain(array: NDArray[Any]) -> bool:
    has_shape = array.dtype == np.float32 and array.shape == (FIGURES,)
    return has_shape and bool(array.min() >= 0 and array.max() < 256)


def _take_scale(
    scale: int, objective: Objective, arrays: dict[str, NDArray[Any]]
) -> tuple[Pixels, Targets]:
    """Take a scale's picture and targets out of a file's arrays."""
    pixels = _take_pixels(f"{scale}/pixels", arrays)
    height, width = pixels.shape[:2]
    region = take_region(scale, (height, width), arrays)
    target = Targets(
        height=height,
        width=width,
        content=_take_layers(f"{scale}/content/", objective.content_names, arrays),
        style=_take_layers(f"{scale}/style/", objective.style_names, arrays),
        shares=layer_shares(region, objective),
        region=region,
        areas=(1.0,) if region is None else region.areas,
    )
    if wrong := list(wrong_shapes(target, objective)):
        raise ValueError("; ".join(wrong))
    return pixels, target


def _take_pixels(name: str, arrays: dict[str, NDArray[Any]]) -> Pixels:
    pixels = arrays.pop(name)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or min(pixels.shape[:2]) < MIN_SIDE:
        raise ValueError(f"{name} has the shape {pixels.shape} of no picture")
    return pixels.astype(np.float32)


def _take_layers(
    prefix: str, layers: Sequence[str], arrays: dict[str, NDArray[Any]]
) -> dict[str, NDArray[np.float32]]:
    values = {layer: arrays.pop(prefix + layer) for layer in layers if prefix + layer in arrays}
    if any(array.dtype != np.float32 for array in values.values()):
        raise ValueError("it has targets that are not float32")
    return values


def check_targets(
    saved: SavedTargets, objective: Objective, weights_sha256: str, *, colors: Colors = "style"
) -> None:
    """Raise `UsageError` with the differences if targets are of another objective, weights or colours."""
    before = describe_basis(saved.objective, saved.weights_sha256)
    after = describe_basis(objective, weights_sha256)
    different = [
        f"{name} {before.get(name, 'none')} instead of {after.get(name, 'none')}"
        for name in {**after, **before}
        if before.get(name) != after.get(name)
    ]
    if saved.colors != compared_in(colors):
        different.append(f"colors {saved.colors} instead of {colors}")
    for target in saved.targets:
        different += wrong_shapes(target, objective)
    if different:
        raise UsageError(
            f"expected targets of this objective, got {'; '.join(different)}; "
            "try the options that they were computed with"
        )
