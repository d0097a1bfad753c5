"""What is evaluated: a picture at its own size or a smaller one, and a photograph and paintings at the sizes that go with it."""

from dataclasses import replace

from ..pictures.picture import Picture
from ..pictures.reading import Source
from ..pictures.transparency import fill_transparent
from ..settings import Settings
from ..sizes import fit_size
from ..streaming.narrow import Size, reduce_to
from ..streaming.reduced import WHOLE, fit_by, read_source
from ..targets.paintings import fit_to_result

_OWN_SIZE = replace(
    WHOLE,
    advice="nstx evaluate --size 2000, or a smaller copy of it, as it is evaluated at its own size, in float64",
)


def take_evaluated(source: Source) -> Picture:
    """Return the picture that is evaluated, as it is in its file; `ImageError` of one of more than 89 million pixels."""
    return read_source(source, _OWN_SIZE)


def take_reduced(source: Source, side: int, settings: Settings) -> Picture:
    """Return the picture that is evaluated, whose long side is at most ``side`` pixels; large by `allow_large`."""

    def choose(own: Size) -> Size:
        return fit_size(own, size=side) if max(own) > side else own

    picture = read_source(source, fit_by(settings, choose))
    if max(picture.size) > side:
        picture = reduce_to(picture, choose(picture.size), settings.resampling)
    return picture


def allow_large(settings: Settings) -> Settings:
    """Return settings by which large pictures are read beside one whose size is known."""
    return replace(settings, large=True)


def take_beside(source: Source, size: tuple[int, int], settings: Settings) -> Picture:
    """Return a photograph, filled where it is transparent; a large one at the (height, width) of what is evaluated."""
    return fill_transparent(read_source(source, fit_to_result(size, settings)))
