"""Reads the checkpoint in a folder, which may come from anybody: what it is of, and what it holds."""

import contextlib
import logging
from io import BufferedReader
from pathlib import Path

from nstx.models.errors import UsageError
from nstx.models.printable import printable

from ..targets.sealed_arrays import (
    SUFFIX,
    open_sealed,
    read_description,
    read_in_place,
    read_shapes,
)
from .contents import Contents, check_shapes, read_contents
from .manifest import Manifest, manifest_from_json
from .runs import Run, facts_of

_log = logging.getLogger("nstx")

NAME = f"checkpoint{SUFFIX}"
"""The file in the folder."""

_MOST_BYTES = 1 << 40


def find_manifest(folder: Path) -> Manifest:
    """Return what the checkpoint in a folder is of; `UsageError` if there is none that can be used."""
    with _opened(folder) as file:
        return manifest_from_json(read_description(file))


def read_checkpoint(folder: Path, run: Run, manifest: Manifest) -> Contents:
    """Return the checkpoint in a folder, for a run with a manifest; `UsageError` if it is none of that."""
    with _opened(folder) as file:
        earlier = manifest_from_json(read_description(file))
        if differences := list(earlier.differences(manifest)):
            raise UsageError(
                f"expected a checkpoint of this run in {printable(folder)}, got {', '.join(differences)}; try "
                "another folder for this run, or what that one was begun with"
            )
        facts, shapes = facts_of(run), read_shapes(file)
        check_shapes(shapes, facts)
        contents = read_contents(read_in_place(file, shapes), facts)
    if roundings := earlier.roundings(manifest):
        _log.warning(
            "the checkpoint was written with another machine or library, so that the last digits may differ: %s",
            "; ".join(roundings),
        )
    return contents


def _opened(folder: Path) -> contextlib.AbstractContextManager[BufferedReader]:
    """Open the checkpoint in a folder; what is wrong with it is a `UsageError`."""
    return open_sealed(
        folder / NAME,
        kind="a checkpoint",
        most_bytes=_MOST_BYTES,
        advice="the folder of --checkpoint",
        instead="to begin anew in another folder",
    )
