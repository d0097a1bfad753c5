"""Convex solids, and the houses and boats built from them.

Lengths are in metres, x to the right, y up, z away from the eye.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from shades import Array, rgb, unit

Size = tuple[float, ...]
Planes = list[list[float]]
UPRIGHT: Array = np.eye(3, dtype=np.float32)


@dataclass
class Solid:
    """A convex body: the points p for which p @ normals.T <= offsets."""

    material: str
    colour: Array
    trim: Array
    centre: Array
    frame: Array  # its columns are the body's own axes
    size: Array
    normals: Array
    offsets: Array
    seed: int


def solid(
    paint: str, at: ArrayLike, size: Size, planes: Planes, frame: Array = UPRIGHT, seed: int = 0
) -> Solid:
    """Build a body from its planes (a, b, c, d): ax + by + cz <= d; paint: "material colours"."""
    at, table = np.array(at, np.float32), np.array(planes, np.float32)
    table /= np.sqrt((table[:, :3] ** 2).sum(1, keepdims=True))
    normals = table[:, :3] @ frame.T
    material, colour, *trim = paint.split()
    colours = rgb(colour), rgb(trim[0] if trim else colour)
    offsets = table[:, 3] + normals @ at
    return Solid(material, *colours, at, frame, np.array(size, "f4"), normals, offsets, seed)


def turn(degrees: float) -> Array:
    """Make the axes of a body that is turned about the vertical."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]], np.float32)


def box(paint: str, at: ArrayLike, size: Size, frame: Array = UPRIGHT, seed: int = 0) -> Solid:
    """Build a box from its half extents; the faces are +x, -x, +y, -y, +z, -z."""
    planes = [[*(sign * np.eye(3)[k]), size[k]] for k in range(3) for sign in (1, -1)]
    return solid(paint, at, size, planes, frame, seed)


def beam(colour: str, start: ArrayLike, end: ArrayLike, thick: float) -> Solid:
    """Build a thin bar from start to end."""
    start, end = np.array(start, np.float32), np.array(end, np.float32)
    y, half = unit(end - start), float(np.linalg.norm(end - start)) / 2
    x = unit(np.cross(y, [0.13, 0.1, 1]))
    frame = np.stack([x, y, np.cross(x, y)], axis=1).astype(np.float32)
    return box("plain " + colour, (start + end) / 2, (thick, half, thick), frame)


def drum(colour: str, at: ArrayLike, radius: float, half: float, taper: float = 0) -> Solid:
    """Build an upright drum with twelve sides, narrower towards the top by the taper."""
    sides = [[np.cos(t), taper, np.sin(t), radius] for t in np.arange(12) * np.pi / 6]
    planes = [*sides, [0, 1, 0, half], [0, -1, 0, half]]
    return solid("plain " + colour, at, (radius * 1.3, half, radius * 1.3), planes)


def house(at: Size, yaw: float, size: Size, wall: str, roof: str, k: int) -> list[Solid]:
    """Build a gabled house; size: width, depth, height of the walls, height of the roof."""
    (width, depth, height, rise), frame, foot = size, turn(yaw), np.array([at[0], 1.4, at[1]])
    a, e = width / 2 + 0.35, depth / 2 + 0.3
    prism = [[rise, a, 0, rise * a], [-rise, a, 0, rise * a], [0, -1, 0, 0]]
    prism += [[0, 0, 1, e], [0, 0, -1, e]]
    stack = foot + frame @ [width * 0.24, height + rise * 0.75, depth * 0.2 - 0.1 * (k % 5)]
    middle, eaves = (foot + np.array([0, up, 0]) for up in (height / 2, height - 0.1))
    return [
        box("wall " + wall, middle, (width / 2, height / 2, depth / 2), frame, k),
        solid(f"roof {roof} {wall}", eaves, (a, rise, e), prism, frame, k),
        box("stone 9a6a55", stack, (0.45, 1.1, 0.45), frame, k),
    ]


def boat(x: float, z: float, yaw: float, length: float, colour: str, mast: float) -> list[Solid]:
    """Build a boat; with a mast (its height) it also gets a cabin and rigging."""
    frame, w, h = turn(yaw), length * 0.15, 0.35 + length * 0.06
    hull = [[0, -0.45, s, w * 0.85] for s in (1, -1)] + [[0, 1, 0, h], [0, -1, 0, 0.3]]
    hull += [[0.5, -0.6, s, w + length * 0.06] for s in (1, -1)]
    hull += [[1, -0.7, s, length * 0.47] for s in (1, -1)] + [[-1, -0.2, 0, length * 0.48]]
    parts = [solid("hull " + colour, (x, 0, z), (length * 0.6, h, w * 1.5), hull, frame)]
    if not mast:
        return parts
    points = [(-0.14, 0.35), (0.06, 0), (0.06, mast - h), (0.06, 1.3), (-0.42, 1.45), (0, 1.55)]
    points += [(-0.4, 1.65), (0.5, 0.1), (-0.47, 0)]
    cabin, foot, head, boom, tip, sail, clew, bow, stern = (
        np.array([x, h, z]) + frame @ [along * length, up, 0] for along, up in points
    )
    return [
        *parts,
        box("wall e9e2d0", cabin, (length * 0.15, 0.45, w * 0.5), frame, 1),
        *(beam("6b4a2f", foot, head, 0.075), beam("6b4a2f", boom, tip, 0.06)),
        beam("b8452f", sail, clew, 0.14),
        *(beam("3b332e", end, head, 0.018) for end in (bow, stern)),
    ]
