"""ICC profiles of matrix and curves, such as Display P3, Adobe RGB and greys: read, and sRGB's written.

Little CMS, by Pillow, converts 8 bits alone. A profile of a matrix and three curves is a formula; here it is
taken from the file for pictures of 16 bits (ICC.1:2022, 8.3.3 and annex F.3). Profiles of tables are left to Little
CMS.
"""

import functools
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

NODES = np.linspace(0, 1, 2**16)
"""Where curves are known: the values that 16 bits have."""

MOST_BYTES = 2**22
"""Of a profile that is read here or written; those of a matrix have some thousand."""

_HEADER, _MOST_TAGS = 128, 200
_CLASSES = (b"mntr", b"scnr", b"prtr", b"spac")
_COMPENSATED = 4  # from this version on a profile's black is sRGB's, as Little CMS has it
_TABLES = (b"A2B0", b"A2B1", b"A2B2", b"D2B0", b"D2B1", b"D2B2")
_LEAST_DETERMINANT = 1e-3
_CURVE_PARAMETERS = (1, 3, 4, 5, 7)

SRGB_TO_XYZ = np.array(
    [[0.43604, 0.22249, 0.01392], [0.38512, 0.7169, 0.09706], [0.14305, 0.06061, 0.71393]]
)
"""IEC 61966-2-1, its white adapted to that of profiles by Bradford's matrix; a row for each of red, green and blue."""

_D50 = (0.9642, 1.0, 0.8249)
_D65_TO_D50 = (1.04788, 0.02292, -0.0502, 0.02959, 0.99048, -0.01706, -0.00923, 0.01508, 0.75168)
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


class UnusableProfileError(ValueError):
    """A profile is damaged, or of another kind than is read here; the message says what it has."""


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """The colours of a profile.

    Attributes:
        curves: what light the values of `NODES` stand for, (1 or 3, 65536), from black to white, each
            rising: of grey, or of red, green and blue.
        to_xyz: (3, 3), a row for each of red, green and blue; None of grey.
    """

    curves: Values
    to_xyz: Values | None


@functools.lru_cache(maxsize=8)
def parse_profile(data: bytes) -> Space:
    """Return the colours of a profile of RGB or grey.

    Raises:
        UnusableProfileError: it is damaged, has tables, or is of other colours.
    """
    if len(data) > MOST_BYTES:
        raise UnusableProfileError(f"it has more than {MOST_BYTES >> 20} MiB")
    try:
        with np.errstate(all="ignore"):
            return _parse(data)
    except struct.error as error:
        raise UnusableProfileError("it ends early") from error


def _parse(data: bytes) -> Space:
    kind, colours, connection = data[12:16], data[16:20], data[20:24]
    if data[36:40] != b"acsp" or kind not in _CLASSES or connection not in (b"XYZ ", b"Lab "):
        raise UnusableProfileError("its header is that of no picture's profile")
    names = {b"RGB ": (b"rTRC", b"gTRC", b"bTRC"), b"GRAY": (b"kTRC",)}.get(colours)
    if names is None:
        raise UnusableProfileError("it is of other colours than RGB or grey")
    tags = _read_tags(data)
    if connection != b"XYZ " or tags.keys() & set(_TABLES) or not tags.keys() >= set(names):
        raise UnusableProfileError("it has tables in place of a matrix and curves")
    curves = np.stack([_read_curve(tags[name]) for name in names])
    if data[8] >= _COMPENSATED:
        darkest = curves[:, :1]
        curves = (curves - darkest) / (1 - darkest)
    if colours == b"GRAY":
        return Space(curves, None)
    matrix = np.array([_read_colour(tags.get(name[:1] + b"XYZ", b"")) for name in names])
    if not abs(np.linalg.det(matrix)) > _LEAST_DETERMINANT:
        raise UnusableProfileError("its red, green and blue are not three colours")
    return Space(curves, matrix)


def _read_tags(data: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", data, _HEADER)
    if count > _MOST_TAGS:
        raise UnusableProfileError(f"it says that it has {count} parts")
    tags = dict[bytes, bytes]()
    for index in range(count):
        name, at, size = struct.unpack_from(">4sII", data, _HEADER + 4 + 12 * index)
        tags.setdefault(name, data[at : at + size])
    return tags


def _read_colour(tag: bytes) -> tuple[float, ...]:
    if tag[:4] != b"XYZ ":
        raise UnusableProfileError("a colour of its matrix is missing")
    return tuple(value / 65536 for value in struct.unpack_from(">3i", tag, 8))


def _read_curve(tag: bytes) -> Values:
    """Return a curve at `NODES`, within 0–1."""
    if tag[:4] == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        if count > len(NODES) or len(tag) < 12 + 2 * count:
            raise UnusableProfileError("a curve of it ends early")
        points = np.frombuffer(tag, ">u2", count, 12)
        if count == 0:
            curve = NODES
        elif count == 1:
            curve = NODES ** (float(points[0]) / 256)
        else:
            curve = np.interp(NODES, np.linspace(0, 1, count), points / 65535)
    elif tag[:4] == b"para":
        (kind,) = struct.unpack_from(">H", tag, 8)
        if kind >= len(_CURVE_PARAMETERS):
            raise UnusableProfileError(f"a curve of it is of kind {kind}")
        numbers = struct.unpack_from(f">{_CURVE_PARAMETERS[kind]}i", tag, 12)
        curve = _evaluate(kind, [number / 65536 for number in numbers])
    else:
        raise UnusableProfileError("a curve of it is of no kind that there is")
    if not np.isfinite(curve).all():
        raise UnusableProfileError("a curve of it is not finite")
    curve = np.asarray(curve.clip(0, 1))
    if (np.diff(curve) < 0).any() or curve[-1] - curve[0] < 0.5:
        raise UnusableProfileError("a curve of it does not rise")
    return curve


def _evaluate(kind: int, numbers: list[float]) -> Values:
    """Return a parametric curve at `NODES`: ICC.1:2022, table 68."""
    g, *rest = numbers
    if kind == 0:
        rest = [1, 0, 0, 0, 0, 0]
    elif kind in (1, 2):
        slope, start, shift = (*rest, 0.0)[:3]
        if not slope:
            raise UnusableProfileError("a curve of it does not rise")
        rest = [slope, start, 0, -start / slope, shift, shift]
    a, b, c, d, e, f = (*rest, 0.0, 0.0)[:6]
    return np.where(d <= NODES, np.maximum(a * NODES + b, 0) ** g + e, c * NODES + f)


def make_srgb_profile() -> bytes:
    """Return an ICC profile of sRGB, version 4: always the same bytes."""
    curve = _tag(b"para", struct.pack(">HH", 3, 0) + _fixed(*_SRGB_CURVE))
    tags = {
        b"desc": _text("sRGB"),
        b"cprt": _text("No copyright, use freely"),
        b"wtpt": _tag(b"XYZ ", _fixed(*_D50)),
        b"chad": _tag(b"sf32", _fixed(*_D65_TO_D50)),
        **{
            name + b"XYZ": _tag(b"XYZ ", _fixed(*colour))
            for name, colour in zip((b"r", b"g", b"b"), SRGB_TO_XYZ, strict=True)
        },
    }
    names = [*tags, b"rTRC", b"gTRC", b"bTRC"]
    at = _HEADER + 4 + 12 * len(names)
    places, body = list[tuple[bytes, int, int]](), b""
    for name, tag in [*tags.items(), (b"rTRC", curve)]:
        places.append((name, at + len(body), len(tag)))
        body += tag + bytes(-len(tag) % 4)
    places += [(name, *places[-1][1:]) for name in (b"gTRC", b"bTRC")]
    table = struct.pack(">I", len(places)) + b"".join(
        struct.pack(">4sII", *place) for place in places
    )
    header = struct.pack(
        ">I4sI4s4s4s6H4s4sIIIQI12s4s44x", at + len(body), b"", 0x04300000, b"mntr", b"RGB ", b"XYZ ",
        2000, 1, 1, 0, 0, 0, b"acsp", b"", 0, 0, 0, 0, 0, _fixed(*_D50), b"",
    )  # fmt: skip
    return header + table + body


def _tag(name: bytes, body: bytes) -> bytes:
    return name + bytes(4) + body


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    return _tag(b"mluc", struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(encoded), 28) + encoded)


def _fixed(*numbers: float) -> bytes:
    return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))
