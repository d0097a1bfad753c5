"""Sizes: of the result, of the style pictures, and of the scales of the pyramid."""

from collections.abc import Sequence

from nstx.models.errors import UsageError

from .settings import MAX_SIDE, MIN_SIDE, MOST_SCALES, Settings, check_side

_SMALLEST_SCALE = 120


def fit_size(
    source: tuple[int, int],
    *,
    size: int | None = None,
    height: int | None = None,
    width: int | None = None,
) -> tuple[int, int]:
    """Return the (height, width) that a picture of a size is worked at.

    ``size`` is the long side; a ``height`` or ``width`` alone keeps the proportions, both are
    exact. `UsageError` if ``size`` is combined with a side, none is there, or a side would be
    shorter than 16 pixels or longer than 65535.
    """
    if size is not None and (height is not None or width is not None):
        sides = " and ".join(
            flag for flag, side in (("--width", width), ("--height", height)) if side is not None
        )
        raise UsageError(f"expected --size, or else {sides}, got both; try one of the two")
    for name, value in (("size", size), ("height", height), ("width", width)):
        if value is not None:
            check_side(name, value)
    source_height, source_width = source
    if height is not None and width is not None:
        return height, width
    if height is not None:
        scale = height / source_height
    elif width is not None:
        scale = width / source_width
    elif size is not None:
        scale = size / max(source)
    else:
        raise UsageError("expected a size, got none; try --size 512")
    fitted = round(source_height * scale), round(source_width * scale)
    if max(fitted) > MAX_SIDE:
        raise UsageError(
            f"expected both sides to be {MAX_SIDE} pixels or less, got {fitted[1]}×{fitted[0]}; "
            "try --size 512"
        )
    if min(fitted) < MIN_SIDE:
        raise UsageError(
            f"expected both sides to be {MIN_SIDE} pixels or more, got {fitted[1]}×{fitted[0]} "
            f"from a picture of {source_width}×{source_height}; try a larger --size, or crop it"
        )
    return fitted


def style_size(
    source: tuple[int, int], result: tuple[int, int], scale: float, *, stretch: bool = False
) -> tuple[int, int]:
    """Return the (height, width) of a style picture for a result of a given size.

    Its long side is ``scale`` times the result's, so the style's strokes grow and shrink with it.
    With ``stretch`` both sides are. `UsageError` if a side would be shorter than 16 pixels, or too
    long.
    """
    long_side = max(1, round(min(max(result) * scale, 2 * MAX_SIDE)))
    if long_side > MAX_SIDE:
        raise UsageError(
            f"expected a style picture of at most {MAX_SIDE} pixels a side, got more; "
            "try a smaller --style-scale"
        )
    if stretch:
        source = result
    factor = long_side / max(source)
    fitted = round(source[0] * factor), round(source[1] * factor)
    if min(fitted) < MIN_SIDE:
        raise UsageError(
            f"expected a style picture of {MIN_SIDE} or more pixels a side, got "
            f"{fitted[1]}×{fitted[0]}; try a larger --style-scale or --size, or crop the picture"
        )
    return fitted


def pyramid_sizes(height: int, width: int, scales: int | None) -> tuple[tuple[int, int], ...]:
    """Return the sizes of a coarse-to-fine pyramid, each twice the one before, the last the result.

    None as ``scales`` adds half sizes while their long side is 120 pixels or more. `UsageError` if
    there are fewer than 1, or so many that the first would be under 16 pixels.
    """
    if scales is None:
        scales = 1
        while (
            scales < 8
            and max(height, width) / 2**scales >= _SMALLEST_SCALE
            and min(height, width) / 2**scales >= 2 * MIN_SIDE
        ):
            scales += 1
    if not 1 <= scales <= MOST_SCALES:
        raise UsageError(
            f"expected 1 … {MOST_SCALES} scales, got {scales}; try --scales auto", setting="scales"
        )
    factors = [2 ** (scales - 1 - index) for index in range(scales)]
    sizes = tuple((round(height / factor), round(width / factor)) for factor in factors)
    if min(sizes[0]) < MIN_SIDE:
        raise UsageError(
            f"expected scales of {MIN_SIDE} or more pixels a side, got {sizes[0][1]}×{sizes[0][0]} "
            "for the first; try --scales auto"
        )
    return sizes


def result_size(content: tuple[int, int], settings: Settings) -> tuple[int, int]:
    """Return the (height, width) of the result of a content picture of this size; errors as `fit_size`."""
    if settings.stretch and settings.size is not None:
        content = settings.size, settings.size
    return fit_size(content, size=settings.size, height=settings.height, width=settings.width)


def choose_sizes(
    content: tuple[int, int], styles: Sequence[tuple[int, int]], settings: Settings
) -> tuple[tuple[int, int], ...]:
    """Return the size of each scale; where ``scales`` is None, as many as the styles allow.

    The content picture is brought to it; a ``size`` that it is stretched to is a square.
    """
    height, width = result_size(content, settings)
    sizes = pyramid_sizes(height, width, settings.scales)
    while True:
        try:
            for style in styles:
                style_size(style, sizes[0], settings.style_scale, stretch=settings.stretch)
            return sizes
        except UsageError:
            if settings.scales is not None or len(sizes) == 1:
                raise
            sizes = sizes[1:]


def split_steps(steps: int, scales: int) -> tuple[int, ...]:
    """Share steps among the scales, coarse first: the finest has about twice as many as each of the others.

    So few that one would have none are shared equally, the rest to the finest ones.
    """
    share = round(steps / (scales + 1))
    if 0 < share <= steps - share * (scales - 1):
        return (*[share] * (scales - 1), steps - share * (scales - 1))
    share, rest = divmod(steps, scales)
    return tuple(share + (1 if index >= scales - rest else 0) for index in range(scales))
