"""A picture that took long to make, written elsewhere where it cannot be written in its place."""

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Unpack

from nstx.models.errors import OutputError
from nstx.models.printable import printable

from .picture import Picture
from .writing import Saving, write_image


def write_or_rescue(
    path: Path, picture: Picture, *, in_haste: bool = False, **saving: Unpack[Saving]
) -> None:
    """Write a picture that took long to make; if that fails, write it where temporary files go.

    Or else to the home folder, or the working folder; its name stays. `OutputError` if it could not be
    written where it was asked for; the message says where it is.
    """
    try:
        write_image(path, picture, in_haste=in_haste, **saving)
    except OutputError as error:
        raise rescue(
            error, path.name, lambda place: write_image(place, picture, **saving)
        ) from error


def rescue(error: OutputError, name: str, write: Callable[[Path], None]) -> OutputError:
    """Write a picture elsewhere, and return the error with where it is.

    Args:
        error: of the place where it was asked for.
        name: of the file, in a folder of its own.
        write: writes the file, whole or not at all; `OutputError` if it cannot be.
    """
    place = _write_elsewhere(name, write)
    if place is None:
        return OutputError(f"{error}; nor could it be saved elsewhere, so it is lost")
    return OutputError(f"{error}; the picture was saved as {printable(place)} instead")


def _write_elsewhere(name: str, write: Callable[[Path], None]) -> Path | None:
    """Return where a file was written after all; None if nowhere."""
    places: tuple[Callable[[], str | Path], ...] = (tempfile.gettempdir, Path.home, Path.cwd)
    for find in places:
        folder: Path | None = None
        try:
            folder = Path(tempfile.mkdtemp(prefix="nstx-rescued-", dir=find()))
            write(folder / name)
        except (OSError, RuntimeError, OutputError):  # RuntimeError: a user without a home
            if folder is not None:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            continue
        return folder / name
    return None
