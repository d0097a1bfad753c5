"""Colours from a profile to sRGB and back, in floating point: nothing is rounded to 8 bits."""

import numpy as np
from numpy.typing import NDArray

from .icc import NODES, SRGB_TO_XYZ, Space

Colours = NDArray[np.float32]
"""float32, (…, 3) or (…, 1), 0–255."""

# IEC 61966-2-1.
_SLOPE, _SHIFT, _POWER = 12.92, 0.055, 2.4
_LEAST_LIGHT, _LEAST_VALUE = 0.0031308, 0.04045


def to_srgb(colours: Colours, space: Space, *, cut: bool = True) -> Colours:
    """Return a profile's colours in sRGB, (…, 3).

    Those that sRGB lacks are cut to 0–255; or else they lie beyond, where sRGB's curve goes on and is mirrored at 0, as
    in IEC 61966-2-2.
    """
    light = np.stack(
        [
            np.interp(colours[..., index] / np.float32(255), NODES, curve)
            for index, curve in enumerate(space.curves)
        ],
        axis=-1,
        dtype=np.float32,
    )
    if space.to_xyz is None:
        light = np.repeat(light, 3, axis=-1)
    else:
        light = light @ (space.to_xyz @ np.linalg.inv(SRGB_TO_XYZ)).astype(np.float32)
    return encode_srgb(light.clip(0, 1) if cut else light)


def from_srgb(colours: Colours, space: Space) -> Colours:
    """Return sRGB's colours, (…, 3), in those of a profile of RGB; those that it lacks are cut to 0–255."""
    assert space.to_xyz is not None  # else there is no way back
    light = decode_srgb(colours) @ (SRGB_TO_XYZ @ np.linalg.inv(space.to_xyz)).astype(np.float32)
    values = [
        np.interp(light[..., index], curve, NODES) for index, curve in enumerate(space.curves)
    ]
    return np.stack(values, axis=-1, dtype=np.float32) * np.float32(255)


def encode_srgb(light: Colours) -> Colours:
    """Return the sRGB values, 0–255 and beyond, of linear light, of which 1 is white; mirrored at 0."""
    size = np.abs(light)
    curved = np.float32(1 + _SHIFT) * size ** np.float32(1 / _POWER) - np.float32(_SHIFT)
    values = np.where(size <= _LEAST_LIGHT, np.float32(_SLOPE) * size, curved)
    return np.copysign(values, light) * np.float32(255)


def decode_srgb(values: Colours) -> Colours:
    """Return the linear light of sRGB values, 0–255 and beyond; mirrored at 0."""
    unit = np.abs(values) / np.float32(255)
    curved = ((unit + np.float32(_SHIFT)) / np.float32(1 + _SHIFT)) ** np.float32(_POWER)
    return np.copysign(np.where(unit <= _LEAST_VALUE, unit / np.float32(_SLOPE), curved), values)
