"""Targets of many pictures, computed ahead of the runs that will need them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nstx.models.errors import ImageError, NumericalError, UsageError

from ..pictures.picture import Picture
from ..pictures.reading import read_image
from ..settings import Settings
from ..sizes import choose_sizes, fit_size, pyramid_sizes, style_size
from .loader import TargetLoader, TargetSource

Role = Literal["content", "style"]

# Files in a folder that are taken for pictures; a file that is an argument may have any name.
_SUFFIXES = frozenset(
    (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".npy", ".png", ".tif", ".tiff", ".webp")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecomputedPicture:
    """The outcome of one picture.

    Attributes:
        sizes: height and width at which targets were computed, coarse first.
        source: ``hit`` if its targets were all in the cache, ``miss`` if some were computed; None
            if the objective needs none, or the picture cannot be used.
        error: why it cannot be used.
    """

    path: Path
    role: Role
    sizes: tuple[tuple[int, int], ...] = ()
    source: TargetSource | None = None
    error: str | None = None


def find_pictures(paths: Sequence[Path]) -> list[Path]:
    """Return the pictures in files and folders, in order, each once.

    Of a folder, the files with a picture's suffix are taken; folders in it are not entered.
    `UsageError` if a folder holds none, `ImageError` if a path is neither file nor folder.
    """
    pictures: dict[Path, None] = {}
    for path in paths:
        try:
            inside = sorted(path.iterdir()) if path.is_dir() else [path]
            usable = [file for file in inside if file == path or _looks_like_picture(file)]
            if not path.exists():
                raise FileNotFoundError(2, "No such file or directory")
        except OSError as error:
            raise ImageError(
                f"expected a picture or a folder at {path}, got: {error.strerror or error}; "
                "try another path"
            ) from error
        if not usable:
            raise UsageError(f"expected pictures in {path}, got none; try another folder")
        pictures.update(dict.fromkeys(usable))
    return list(pictures)


def _looks_like_picture(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file()


def precompute_targets(
    contents: Sequence[Path],
    styles: Sequence[Path],
    settings: Settings,
    loader: TargetLoader,
    on_picture: Callable[[PrecomputedPicture], None],
) -> list[PrecomputedPicture]:
    """Load the targets of every content and every style, so that what is missing is computed.

    A style is resized for the results of all contents; without contents, for a result whose long
    side is the settings' size. A picture that cannot be used is reported to ``on_picture`` as the
    others are, and they go on. `UsageError` if there is neither a content nor a size.
    """
    # A size that no picture can have is a mistake of the call and of none of its pictures.
    fit_size((512, 512), size=settings.size, height=settings.height, width=settings.width)
    done: list[PrecomputedPicture] = []
    # Long sides of results, each with whether a run ends at it: coarser scales can be left out.
    results: dict[int, bool] = {}

    def note_sizes(sizes: Sequence[tuple[int, int]]) -> None:
        for size in sizes:
            results[max(size)] = results.get(max(size), False) or size == sizes[-1]

    def finish(picture: PrecomputedPicture) -> None:
        done.append(picture)
        on_picture(picture)

    if not contents:
        note_sizes(_sizes_without_content(settings))
    for path in contents:
        picture = _precompute_content(path, settings, loader)
        note_sizes(picture.sizes)
        finish(picture)
    for path in styles:
        finish(_precompute_style(path, results, settings, loader))
    return done


def _sizes_without_content(settings: Settings) -> tuple[tuple[int, int], ...]:
    height = settings.height or settings.size
    width = settings.width or settings.size
    if height is None or width is None:
        raise UsageError(
            "expected --size, or --width and --height, where there is no content, got one side; "
            "try --size 512"
        )
    return pyramid_sizes(height, width, settings.scales)


def _precompute_content(path: Path, settings: Settings, loader: TargetLoader) -> PrecomputedPicture:
    try:
        picture = read_image(path)
        sizes = choose_sizes(picture.size, (), settings)
        source = loader.load_content(picture, sizes)
    except (ImageError, UsageError, NumericalError) as error:
        return PrecomputedPicture(path=path, role="content", error=str(error))
    return PrecomputedPicture(path=path, role="content", sizes=sizes, source=source)


def _precompute_style(
    path: Path, results: Mapping[int, bool], settings: Settings, loader: TargetLoader
) -> PrecomputedPicture:
    try:
        picture = read_image(path)
        usable = _usable_results(picture, results, settings)
        source = loader.load_style(picture, [(side, side) for side in usable])
    except (ImageError, UsageError, NumericalError) as error:
        return PrecomputedPicture(path=path, role="style", error=str(error))
    sizes = tuple(style_size(picture.size, (side, side), settings.style_scale) for side in usable)
    return PrecomputedPicture(path=path, role="style", sizes=sizes, source=source)


def _usable_results(picture: Picture, results: Mapping[int, bool], settings: Settings) -> list[int]:
    """Return the long sides of results that a style can serve.

    `UsageError` if a run that ends at one of these sizes, or has to begin at it, cannot use it.
    """
    if not results:
        raise UsageError("expected a content picture to go by, got none that can be used")
    usable = []
    for side in sorted(results):
        try:
            style_size(picture.size, (side, side), settings.style_scale)
        except UsageError:
            if settings.scales is not None or results[side]:
                raise
        else:
            usable.append(side)
    return usable
