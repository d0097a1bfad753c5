"""Finds the files of a picture's manifest, by name and checksum: nothing is opened that only the manifest names."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from nstx.models.errors import NstxError, UsageError
from nstx.models.printable import printable
from nstx.models.storage.inputs import digest_input
from nstx.models.weights.load import weights_digest
from nstx.models.weights.sources import join_source, split_source

from ..pictures.picture import InputFile
from ..pictures.reading import MOST_BYTES
from ..targets.files import MOST_BYTES as MOST_OF_TARGETS
from .places import find_place
from .reading import PictureManifest

_KINDS = {
    "content": "content", "style": "style", "init": "start", "mask": "mask", "regions": "map", "targets": "targets file",
    "weights": "weight file",
}  # fmt: skip
"""Roles in words."""

ROLES = tuple(role for role in _KINDS if role != "weights")
"""Of inputs that can be found again."""


def find_input(item: InputFile, manifest: PictureManifest, *, use_cache: bool, advice: str) -> Path:
    """Return the file of an input: beside the picture, in the working folder, or where it was read last.

    Args:
        item: of the manifest.
        manifest: of the picture.
        use_cache: whether the cache is asked where it was read last.
        advice: what stands behind "try" where there is none: `UsageError`.
    """
    if item.sha256 is None:
        raise UsageError(
            f"expected a {_KINDS[item.role]} from a file in the manifest of {printable(manifest.picture)}, got one "
            f"that came from none; try {advice}"
        )
    most_bytes = MOST_OF_TARGETS if item.role == "targets" else MOST_BYTES

    def fits(path: Path) -> bool:
        digest = digest_input(path, kind="a file", most_bytes=most_bytes, error=UsageError)
        return digest == item.sha256

    return _find(item, manifest, fits, use_cache=use_cache, advice=advice)


def find_mask(item: InputFile, manifest: PictureManifest, *, use_cache: bool, advice: str) -> Path:
    """Return the file of a style's own mask; errors as `find_input`."""
    assert item.mask is not None
    mask = InputFile(role="mask", path=item.mask, sha256=item.mask_sha256)
    return find_input(mask, manifest, use_cache=use_cache, advice=advice)


def find_weights(manifest: PictureManifest, *, use_cache: bool) -> str:
    """Return the weights' source of a manifest, with the path of their file; errors as `find_input`."""
    settings, sha256 = manifest.run.settings, manifest.run.weights_sha256
    file, convention = split_source(settings.weights)

    def name(path: Path) -> str:
        return join_source(path, convention)

    def fits(path: Path) -> bool:
        return weights_digest(name(path), settings.objective.preprocessing) == sha256

    item = InputFile(role="weights", path=str(file), sha256=sha256)
    return name(_find(item, manifest, fits, use_cache=use_cache, advice="--weights FILE"))


def _find(
    item: InputFile,
    manifest: PictureManifest,
    fits: Callable[[Path], bool],
    *,
    use_cache: bool,
    advice: str,
) -> Path:
    assert item.sha256 is not None
    noted = find_place(item.sha256) if use_cache else None
    places = (manifest.picture.parent / item.path, Path(item.path), noted)
    # From the root on, so that none is taken for an option, or for standard input.
    for path in dict.fromkeys(place.absolute() for place in places if place):
        with contextlib.suppress(NstxError, OSError):
            if fits(path):
                return path
    raise UsageError(
        f"expected the {_KINDS[item.role]} {printable(item.path)} beside {printable(manifest.picture)} or in the "
        f"working folder, got none of its checksum there, nor where one was read before; try {advice}"
    )
