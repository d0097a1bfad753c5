"""Reads the manifest of a picture, which may come from anybody: strictly, and bounded."""

import io
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from PIL import (
    AvifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from nstx.models.errors import NstxError, UsageError
from nstx.models.printable import last_part, printable
from nstx.models.storage.inputs import read_input
from nstx.models.storage.plain_data import (
    parse_json,
    take_field,
    take_flag,
    take_object,
    take_text,
    take_whole,
)
from nstx.models.weights.sources import split_source

from ..checkpoints.manifest import Manifest, read_run, read_settings
from ..formats.comment import find_comment
from ..formats.identify import NPY, identify_format
from ..pictures.decoding import DECODER_ERRORS, quiet_decoder
from ..pictures.picture import InputFile
from ..pictures.reading import MOST_BYTES
from ..settings import INITS
from .pictures import FORMAT

# By name of the format. Not Image.open, which refuses pictures of many pixels, of which none is decoded here.
_READERS: dict[str, Callable[[io.BytesIO], Image.Image]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
}
_LONGEST_NAME = 255
_ONCE = ("content", "targets", "init", "mask", "regions")
"""Roles of inputs of which a run has one at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureManifest:
    """What a picture says of the run that made it.

    Attributes:
        picture: the file that says so.
        version: of nstx, that made it.
        is_complete: whether the run had come to its end.
        run: settings, pictures, weights, sizes, backend, machine; paths in it are the names of files alone.
        depth: bits of a channel as it was saved, of a format that holds 16; else None.
        keep_profile: whether it was saved in its content's profile.
    """

    picture: Path
    version: str
    is_complete: bool
    run: Manifest
    depth: Literal[8, 16] | None
    keep_profile: bool


def read_manifest(path: Path) -> PictureManifest:
    """Return the manifest that a picture's file carries; nothing else of it is decoded.

    `UsageError` if the file cannot be read, carries none, or one that cannot be or that another version has written
    which knows other settings; `ImageError` if it is no picture.
    """
    text = _find_text(path)
    if text is None:
        raise UsageError(
            f"expected a picture with its manifest at {printable(path)}, got one without; try the file that nstx "
            "wrote, as others leave it out, or CONTENT and STYLE"
        )
    version = "?"
    try:
        data = parse_json(text)
        if take_text(data, "format") != FORMAT:
            raise ValueError("it is of another format")
        version = printable(take_text(data, "version"))[:20]
        return _read(data, path, version)
    except ValueError as error:
        raise UsageError(
            f"expected a manifest that can be used in {printable(path)}, got one of nstx {version} "
            f"({printable(error)[:200]}); try that version of nstx, or CONTENT and STYLE"
        ) from error


def carries(path: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether a picture's file carries just this manifest, however it was saved; not if it cannot be read."""
    try:
        data = parse_json(_find_text(path) or "null")
    except (NstxError, ValueError):
        return False
    if not isinstance(data, dict):
        return False
    own = {name: value for name, value in data.items() if name != "saved"}
    return bool(own == parse_json(json.dumps(manifest)))


def _find_text(path: Path) -> str | None:
    data = read_input(
        path, kind="a picture", most_bytes=MOST_BYTES, error=UsageError, advice="another path"
    )
    kind = identify_format(data, path)
    if kind == NPY:
        raise UsageError(
            f"expected a picture with its manifest at {printable(path)}, got .npy, which has no place for one; "
            "try to save as .png or .tif, and CONTENT and STYLE meanwhile"
        )
    reader = _READERS.get(kind)
    if reader is None:
        return None
    try:
        with quiet_decoder(), reader(io.BytesIO(data)) as image:
            return find_comment(image)
    except DECODER_ERRORS:
        return None


def _read(data: Any, path: Path, version: str) -> PictureManifest:
    run = read_run(data, read_settings(take_object(data, "settings"), is_whole=False))
    _check_inputs(run.inputs)
    preset = run.settings.preset
    if not preset.isprintable() or not 0 < len(preset) <= _LONGEST_NAME:
        raise ValueError("its preset has a name that cannot be shown")
    if run.settings.init not in {
        *INITS,
        *(item.path for item in run.inputs if item.role == "init"),
    }:
        raise ValueError("its start is none of its inputs")
    _check_name(str(split_source(run.settings.weights)[0]))
    saved = take_object(data, "saved")
    depth = None if take_field(saved, "depth") is None else take_whole(saved, "depth", 8, 16)
    if depth not in (None, 8, 16):
        raise ValueError("it has a depth that no picture has")
    return PictureManifest(
        picture=path,
        version=version,
        is_complete=take_flag(data, "complete"),
        run=run,
        depth=cast(Literal[8, 16] | None, depth),
        keep_profile=take_flag(saved, "keep_profile"),
    )


def _check_inputs(inputs: Sequence[InputFile]) -> None:
    """Raise `ValueError` if no run is made of such files together, or one has no name of a file."""
    counts = Counter(item.role for item in inputs)
    for role in _ONCE:
        if counts[role] > 1:
            raise ValueError(f"it names {counts[role]} inputs in the place of one {role}")
    if counts["targets"] and counts.keys() - {"targets", "init"}:
        raise ValueError("it names targets beside the pictures that they are of")
    for item in inputs:
        for name in (item.path, item.mask):
            if name is not None:
                _check_name(name)
        if item.role != "style" and (item.colors or item.layers or item.mask):
            raise ValueError("it places something that is no style")


def _check_name(name: str) -> None:
    """Raise `ValueError` unless a text is the name of a file, and no path on any system."""
    is_path = name in ("", ".", "..") or "\0" in name or last_part(name) != name
    if is_path or len(name) > _LONGEST_NAME:
        raise ValueError("it names a path in the place of a file")
