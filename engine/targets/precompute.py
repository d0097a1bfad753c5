"""Targets of many pictures, computed ahead of the runs that will need them."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nstx.models.errors import ImageError, NstxError, NumericalError, UsageError, about
from nstx.models.printable import printable

from ..colours.modes import as_compared, shares_targets
from ..formats.identify import READ_SUFFIXES
from ..pictures.picture import InputFile, Picture
from ..pictures.reading import Source
from ..pictures.resizing import resize_alpha, resize_picture
from ..regions.masks import make_regions
from ..regions.placement import place_styles
from ..settings import Settings
from ..sizes import choose_sizes, fit_size, pyramid_sizes, result_size, style_size
from ..streaming.reduced import read_input_at
from .files import write_targets
from .loader import LoadedTargets, Role, TargetLoader, TargetSource
from .paintings import content_fit, fit_beside, fit_to_result, measure_grains, take_painting


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecomputedPicture:
    """The outcome of one picture.

    Attributes:
        matched_to: the content whose colours a style has, where it has any but its own.
        sizes: height and width at which targets were computed, coarse first.
        source: ``hit`` if its targets were all in the cache, ``miss`` if some were computed; None
            if the objective needs none, or the picture cannot be used.
        input: what a report says of its file; None if it cannot be read.
    """

    path: Path
    role: Role
    matched_to: Path | None = None
    sizes: tuple[tuple[int, int], ...] = ()
    source: TargetSource | None = None
    error: NstxError | None = None
    input: InputFile | None = None


def find_pictures(paths: Sequence[Path], *, may_lack: bool = False) -> list[Path]:
    """Return the pictures in files and folders, in order, each once.

    Of a folder, the files with a picture's suffix are taken; folders in it are not entered.
    `UsageError` if a folder holds none, unless it may lack them, `ImageError` if a path is neither file nor folder.
    """
    pictures: dict[Path, None] = {}
    for path in paths:
        try:
            usable = [path]
            if path.is_dir():
                usable = [file for file in sorted(path.iterdir()) if _looks_like_picture(file)]
            elif not path.exists():
                raise FileNotFoundError(2, "No such file or directory")
        except OSError as error:
            raise ImageError(
                f"expected a picture or a folder at {printable(path)}, got: {error.strerror or error}; "
                "try another path"
            ) from error
        if not usable and not may_lack:
            raise UsageError(
                f"expected pictures in {printable(path)}, got none; try another folder"
            )
        pictures.update(dict.fromkeys(usable))
    return list(pictures)


def _looks_like_picture(path: Path) -> bool:
    return path.suffix.lower() in READ_SUFFIXES and not path.name.startswith(".") and path.is_file()


def precompute_targets(
    contents: Sequence[Path],
    styles: Sequence[Path],
    settings: Settings,
    loader: TargetLoader,
    on_picture: Callable[[PrecomputedPicture], None],
) -> list[PrecomputedPicture]:
    """Load the targets of every content and every style, so that what is missing is computed.

    A style is resized for the results of all contents; without contents, for a result whose long
    side is the settings' size. Styles that are matched to the contents' colours or greys are another picture for
    each content, so that each pair has targets of its own. ``on_picture`` is called after every picture; one
    that cannot be used stops no other. `UsageError` if there is neither a content nor a size, or no content
    to match colours with.
    """
    # A size that no picture can have is a mistake of the call and of none of its pictures.
    fit_size((512, 512), size=settings.size, height=settings.height, width=settings.width)
    done: list[PrecomputedPicture] = []
    # A content that styles are matched to is read once for all of them.
    read = functools.lru_cache(1)(partial(read_input_at, fit=content_fit(settings)))

    def compute(together: Sequence[Path], matched_to: Path | None) -> None:
        # Sizes of results, each with whether a run ends at it: coarser scales can be left out.
        results: dict[tuple[int, int], bool] = {}
        if not together:
            _add_results(results, _sizes_without_content(settings), settings)
        roles: tuple[tuple[Role, Sequence[Path]], ...] = (("content", together), ("style", styles))
        for role, paths in roles:
            for path in paths:
                picture = _precompute(path, role, results, settings, loader, matched_to, read)
                if role == "content":
                    _add_results(results, picture.sizes, settings)
                done.append(picture)
                on_picture(picture)

    if shares_targets(settings.colors):
        compute(contents, None)
    elif not contents:
        raise UsageError(
            "expected contents whose colours the styles are matched to, got none; try --content photo.jpg",
            setting="colors",
        )
    else:
        for content in contents:
            compute([content], content)
    return done


def _add_results(
    results: dict[tuple[int, int], bool], sizes: Sequence[tuple[int, int]], settings: Settings
) -> None:
    for size in sizes:
        # A style that is not stretched goes by the long side alone.
        result = size if settings.stretch else (max(size), max(size))
        results[result] = results.get(result, False) or size == sizes[-1]


def _sizes_without_content(settings: Settings) -> tuple[tuple[int, int], ...]:
    height = settings.height or settings.size
    width = settings.width or settings.size
    if height is None or width is None:
        raise UsageError(
            "expected --size, or --width and --height, where there is no content, got one side; "
            "try --size 512"
        )
    return pyramid_sizes(height, width, settings.scales)


def _precompute(
    path: Path,
    role: Role,
    results: Mapping[tuple[int, int], bool],
    settings: Settings,
    loader: TargetLoader,
    matched_to: Path | None,
    read: Callable[[Path], Picture],
) -> PrecomputedPicture:
    file: InputFile | None = None
    matched_to = matched_to if role == "style" else None
    try:
        with about(role):
            picture = read(path) if role == "content" else _read_style(path, results, settings)
        file = picture.as_input(role)
        if role == "content":
            picture, _ = as_compared(settings.colors, picture, [])
            sizes = choose_sizes(picture.size, (), settings)
            _, source = loader.load_picture(picture, "content", sizes)
        else:
            content = picture if matched_to is None else read(matched_to)
            _, [(picture, _)] = as_compared(settings.colors, content, [(picture, 1.0)])
            usable = _usable_results(picture, results, settings)
            _, source = loader.load_picture(picture, "style", tuple(usable))
            sizes = tuple(usable.values())
    except (ImageError, UsageError, NumericalError) as error:
        return PrecomputedPicture(
            path=path, role=role, matched_to=matched_to, error=error, input=file
        )
    return PrecomputedPicture(
        path=path, role=role, matched_to=matched_to, sizes=sizes, source=source, input=file
    )


def _read_style(path: Path, results: Mapping[tuple[int, int], bool], settings: Settings) -> Picture:
    """Return a style picture: a large one at the size that goes with the largest result, which runs read it at."""
    ends = [size for size, is_end in results.items() if is_end]
    if not ends:
        return take_painting(path)
    return take_painting(path, fit_beside(max(ends, key=max), settings))


def _usable_results(
    picture: Picture, results: Mapping[tuple[int, int], bool], settings: Settings
) -> dict[tuple[int, int], tuple[int, int]]:
    """Return the results that a style can serve, each with the style's size.

    `UsageError` if a run that ends at one of these sizes, or has to begin at it, cannot use it.
    """
    if not results:
        raise UsageError(
            "expected a content picture to go by, got none that can be used; try others"
        )
    scale, usable = settings.style_scale, dict[tuple[int, int], tuple[int, int]]()
    for result in sorted(results):
        try:
            usable[result] = style_size(picture.size, result, scale, stretch=settings.stretch)
        except UsageError:
            if settings.scales is not None or results[result]:
                raise
    return usable


def precompute_file(
    path: Path,
    content: Path,
    styles: Sequence[tuple[Path, float]],
    settings: Settings,
    loader: TargetLoader,
    mask: Source | None = None,
    regions: Source | None = None,
    style_for: Mapping[str, Sequence[tuple[Path, float]]] | None = None,
) -> tuple[tuple[tuple[int, int], ...], LoadedTargets, tuple[InputFile, ...]]:
    """Write the targets file of one content and its styles with their weights.

    They apply within a mask; those in ``style_for`` where a map, ``regions``, has their colours.

    Returns:
        Height and width of each scale, coarse first; the targets; and what a report says of the
        pictures.
    """
    with about("content"):
        picture = read_input_at(content, content_fit(settings))
    size = result_size(picture.size, settings)
    fit = fit_beside(size, settings)
    with about("style"):
        weighted = [(take_painting(style, fit), weight) for style, weight in styles]
        by_colour = {
            colour: [(take_painting(style, fit), weight) for style, weight in blend]
            for colour, blend in (style_for or {}).items()
        }
    placement = place_styles(
        picture, weighted, mask=mask, regions=regions, style_for=by_colour, fit=fit_to_result(size, settings)
    )  # fmt: skip
    sizes = choose_sizes(picture.size, placement.sizes, settings)
    compared, styles_compared = as_compared(settings.colors, picture, placement.paintings)
    of_sizes = make_regions(picture, placement.mask, sizes, placement.parts)
    loaded = loader.load(
        compared, styles_compared, sizes, regions=of_sizes, places=placement.places
    )
    styles_compared = placement.weigh(styles_compared, loaded.targets[-1].areas)
    write_targets(
        path,
        [resize_picture(picture, *size, settings.resampling) for size in sizes],
        loaded.targets,
        settings.objective,
        loader.weights_sha256,
        preset=settings.preset,
        alpha=resize_alpha(picture, *sizes[-1]),
        depth=picture.encoding.depth,
        grain=measure_grains(styles_compared, sizes[-1], settings) if settings.clean else None,
        colors=settings.colors,
    )
    inputs = (
        picture.as_input("content"),
        *placement.describe(),
        *placement.files,
    )
    return sizes, loaded, inputs
