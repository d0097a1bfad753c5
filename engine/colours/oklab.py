"""OKLab, a perceptual space: lightness L, and a and b, which are 0 where a colour is grey.

Equal distances look about equally different, and a colour that is made lighter or darker keeps its hue: Ottosson
2020, "A perceptual color space for image processing". Of a grey all three channels are equal, and L is the cube root
of its share of white's light. Values beyond 0–255 go on as their mirror images do, so that no function here fails.
"""

import numpy as np
from numpy.typing import NDArray

from ..pictures.picture import Pixels, row_bands
from ..profiles.conversion import decode_srgb, encode_srgb

_Values = NDArray[np.float32]

_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ],
    np.float32,
)
"""From linear RGB to the responses of cones (Ottosson's for sRGB); a row's sum is 1."""

_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ],
    np.float32,
)
"""From the cube roots of these to L, a and b."""

_FROM_CONES = np.linalg.inv(_TO_CONES.astype(np.float64)).astype(np.float32)
_FROM_LAB = np.linalg.inv(_TO_LAB.astype(np.float64)).astype(np.float32)

_HALVINGS = 12
_TOLERANCE = 0.5 / 255
"""Of what is within the gamut: it is rounded to a colour that is."""


def to_oklab(pixels: Pixels) -> _Values:
    """Return L (0–1), a and b (within ±0.4), float32 (…, 3), of colours (…, 3), RGB, 0–255."""
    cones = decode_srgb(pixels) @ _TO_CONES.T
    return np.asarray(np.cbrt(cones) @ _TO_LAB.T, np.float32)


def from_oklab(values: _Values) -> Pixels:
    """Return colours, RGB, 0–255 and beyond, float32 (…, 3), of L, a and b (…, 3)."""
    return encode_srgb(_to_light(values))


def to_grey(pixels: Pixels) -> Pixels:
    """Return a picture (height, width, 3) in greys that are as light as its colours are; a grey one as it is."""
    grey = np.empty_like(pixels, np.float32)
    for band in row_bands(*pixels.shape[:2]):
        colours = pixels[band].astype(np.float32, copy=False)
        lightness = to_oklab(colours) @ np.array([1, 0, 0], np.float32)
        is_grey = (colours == colours[..., :1]).all(-1)
        grey[band] = np.where(is_grey, colours[..., 0], encode_srgb(lightness**3))[..., None]
    return grey


def with_chroma(grey: Pixels, content: Pixels) -> Pixels:
    """Return a grey picture with another's colours: L of the one, and a and b of the other.

    Where no colour of 0–255 has all three, a and b become smaller alike until one has, so that hue and lightness
    stay.

    Args:
        grey: (height, width, 3), the channels alike, 0–255; what is beyond is cut off.
        content: RGB, 0–255, of the same shape.
    """
    coloured = np.empty_like(grey, np.float32)
    for band in row_bands(*grey.shape[:2]):
        values = to_oklab(content[band])
        values[..., 0] = np.cbrt(decode_srgb(grey[band].mean(-1).clip(0, 255)))
        values[..., 1:] *= _find_share(values)[..., None]
        coloured[band] = from_oklab(values).clip(0, 255)
    return coloured


def _find_share(values: _Values) -> _Values:
    """Return the largest share, 0–1, of a and b with which a colour is within 0–255."""
    share = np.ones(values.shape[:-1], np.float32)
    outside = ~_is_displayable(values)
    colours = values[outside]
    low, high = np.zeros(len(colours), np.float32), np.ones(len(colours), np.float32)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        is_inside = _is_displayable(
            np.column_stack([colours[:, :1], colours[:, 1:] * middle[:, None]])
        )
        low, high = np.where(is_inside, middle, low), np.where(is_inside, high, middle)
    share[outside] = low
    return share


def _is_displayable(values: _Values) -> NDArray[np.bool_]:
    # In light, as cube roots are all that is left to compute: a colour's encoding rises with it.
    light = _to_light(values)
    return np.asarray(((light >= _LEAST_LIGHT) & (light <= _MOST_LIGHT)).all(-1))


def _to_light(values: _Values) -> _Values:
    cones = values @ _FROM_LAB.T
    return np.asarray((cones * cones * cones) @ _FROM_CONES.T, np.float32)


_LEAST_LIGHT = -_TOLERANCE / 12.92
_MOST_LIGHT = float(decode_srgb(np.array(255 * (1 + _TOLERANCE), np.float32)))
