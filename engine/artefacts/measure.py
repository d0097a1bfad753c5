"""All figures of a picture's artefacts, beside the photograph and the paintings that it was made of."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .rim import measure_rim
from .ripple import (
    Texture,
    cover_flat,
    excess,
    find_flat,
    measure_texture,
)
from .speckles import measure_speckles
from .untouched import measure_untouched

_LUMINANCE = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefacts:
    """What shows of a picture's pixels before its style does; 0 is none, which photographs and paintings have.

    Root mean squares are of luminance, 0–255. Figures are None of a picture that is too small for them.

    Attributes:
        ripple: of texture where the photograph is flat, beyond that of the photograph there and of the flattest
            areas of the paintings; of all periods from 2 to 9 pixels.
        locked: of the part of it that repeats with the strides of the poolings, beyond what texture does by chance.
        rim: how far the outer four pixels stand out, in standard deviations beyond three.
        speckles: single pixels unlike all around them where the photograph is flat, in thousandths of these areas.
        untouched: the share of the picture, 0–1, that stayed the photograph's, in a colour that the paintings lack.
        picture, content, style: texture of flat areas: of the picture and the photograph where that is flat, and
            of the paintings where they are.
    """

    ripple: float | None
    locked: float | None
    rim: float | None
    speckles: float | None
    untouched: float
    picture: Texture | None
    content: Texture | None
    style: Texture | None


def find_artefacts(
    pixels: NDArray[np.float32], content: NDArray[np.float32], styles: Sequence[NDArray[np.float32]]
) -> Artefacts:
    """Return the artefacts of a picture.

    Args:
        pixels: the picture's, float32 (height, width, 3), 0–255.
        content: the photograph's, of that size.
        styles: the paintings', at the scale that goes with it.
    """
    y, of_content, *of_styles = (
        picture.astype(np.float64) @ _LUMINANCE for picture in (pixels, content, *styles)
    )
    wide, photograph = pixels.astype(np.float64), content.astype(np.float64)
    figures = Artefacts(
        ripple=None, locked=None, speckles=None, picture=None, content=None, style=None,
        rim=measure_rim(wide),
        untouched=measure_untouched(wide, photograph, styles),
    )  # fmt: skip
    flat = find_flat(of_content)
    own = [(style, where) for style in of_styles if (where := find_flat(style)) is not None]
    if flat is None or not own:
        return figures
    picture, content_texture = measure_texture(y, flat), measure_texture(of_content, flat)
    style = _largest([measure_texture(*painting) for painting in own])
    others = (content_texture, style)
    areas = [
        (values.astype(np.float32), cover_flat(values.shape, where))
        for values, where in ((of_content, flat), *own)
    ]
    return replace(
        figures,
        ripple=_length(excess(picture.ripple, [texture.ripple for texture in others])),
        locked=_length(excess(picture.locked, [texture.locked for texture in others])),
        speckles=measure_speckles(y.astype(np.float32), areas[0][1], areas),
        picture=picture,
        content=content_texture,
        style=style,
    )


def _largest(textures: Sequence[Texture]) -> Texture:
    """Return the largest of each figure."""
    return Texture(
        tuple(map(max, zip(*(texture.ripple for texture in textures), strict=True))),
        tuple(map(max, zip(*(texture.locked for texture in textures), strict=True))),
    )


def _length(values: Sequence[float]) -> float:
    return float(np.linalg.norm(values))
