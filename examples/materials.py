"""The painters of the harbour's surfaces, one for each material.

A painter gives the albedo and the glow at points p (in the body's own axes) of given faces; u
runs along the wall.
"""

from collections.abc import Callable

import numpy as np
from shades import Array, cell, fbm, mix, rgb
from solids import Solid


def plaster(colour: Array, seed: int, u: Array, v: Array) -> Array:
    """Colour a plastered wall with stains and grain."""
    stain, grain = fbm(u * 0.9 + seed * 3.1, v * 0.5 + seed, 5), fbm(u * 7, v * 7 + seed, 3)
    return colour * (0.575 + 0.55 * stain + 0.35 * grain)[:, None]


def paint_wall(body: Solid, p: Array, face: Array, u: Array) -> tuple[Array, Array]:
    """Plaster with rows of windows, some of them lit, shutters and doors."""
    half, v = np.where(face < 2, body.size[2], body.size[0]), p[:, 1] + body.size[1]
    albedo, glow = plaster(body.colour, body.seed, u + 10 * face, v), np.zeros_like(p)
    albedo *= (1 - 0.35 * np.exp(-v / 0.5) - 0.35 * np.exp((v - 2 * body.size[1]) / 0.35))[:, None]
    storeys = max(round(2 * body.size[1] / 2.6), 1)
    x = (u / half + 1) / 2 * np.maximum(np.round(half / 0.95), 1)
    y = v / (2 * body.size[1]) * storeys
    i, j = np.floor(x), np.floor(y)
    dx, dy, chance = np.abs(x - i - 0.5), np.abs(y - j - 0.52), cell(i + 7 * face, j, body.seed)
    shutter = (dx < 0.43) & (dy < 0.27) & (body.seed % 3 == 0)
    albedo[shutter] = rgb("2f5a4c") * (0.6 + 0.5 * (np.floor(v * 9) % 2))[shutter, None]
    albedo[(dx < 0.27) & (dy < 0.31)] = rgb("ece5d6")
    pane = (dx < 0.225) & (dy < 0.27) & (dx > 0.02) & (np.abs(dy - 0.1) > 0.014)
    lit = pane & (chance > 0.56)
    albedo[pane] = rgb("1a2430")
    glow[pane] = mix(rgb("2c3b4d"), rgb("c69a80"), fbm(u * 0.8, v * 0.6, 2))[pane] * 0.45
    glow[lit] = rgb("ff9a2e") * (0.85 + 0.5 * fbm(u * 2, v * 2, 2))[lit, None]
    albedo[(dx < 0.3) & (np.abs(y - j - 0.19) < 0.02)] = rgb("b9ad9a")
    door = (j == 0) & (chance < 0.35) & (dx < 0.24) & (y < 0.83)
    albedo[door] = rgb("5a2f22") * (0.7 + 0.5 * (np.abs(dx - 0.12) < 0.1))[door, None]
    glow[door] = 0
    return albedo, glow


def tiles(colour: Array, u: Array, v: Array, seed: int) -> Array:
    """Colour rows of roof tiles, with some moss."""
    row = np.floor(v / 0.36)
    shifted = u / 0.34 + 0.5 * (row % 2)
    col = np.floor(shifted)
    shade = 0.52 + 0.5 * cell(row, col, seed) + 0.4 * fbm(u * 0.5 + seed, v * 0.5, 4)
    shade *= 0.8 + 0.35 * np.sin((shifted - col) * np.pi)
    shade *= np.where(v / 0.36 - row < 0.22, 0.5, 1)
    moss = fbm(u * 0.7 + 5 * seed, v * 0.4 + 3, 4)
    return mix(colour, rgb("6d6a48"), (moss - 0.58) * 4) * shade[:, None]


def paint_tile(body: Solid, p: Array, face: Array, u: Array) -> tuple[Array, Array]:
    """Tiles on every face: the church spire."""
    return tiles(body.colour, u, p[:, 1], body.seed), np.zeros_like(p)


def paint_roof(body: Solid, p: Array, face: Array, u: Array) -> tuple[Array, Array]:
    """Tiles on the slopes; on the gables plaster, a window and boards along the edge."""
    (a, rise, _), gable, glow = body.size, face > 2, np.zeros_like(p)
    slope = np.hypot(a, rise)
    albedo = tiles(body.colour, p[:, 2], p[:, 1] * slope / rise, body.seed)
    albedo[gable] = plaster(body.trim, body.seed, p[gable, 0], p[gable, 1])
    edge = (rise * a - rise * np.abs(p[:, 0]) - a * p[:, 1]) / slope
    albedo[gable & (edge < 0.3)] = rgb("e9e0cd" if body.seed % 2 else "4a352a")
    dx, dy = np.abs(p[:, 0]), np.abs(p[:, 1] - rise * 0.33)
    albedo[gable & (dx < 0.55) & (dy < 0.7)] = rgb("ece5d6")
    pane = gable & (dx < 0.44) & (dy < 0.58) & (dx > 0.04) & (dy > 0.04)
    albedo[pane] = rgb("1a2430")
    glow[pane] = rgb("ffb64f") * 0.9 if body.seed % 3 == 1 else rgb("56606c") * 0.5
    return albedo, glow


def paint_stone(body: Solid, p: Array, face: Array, u: Array) -> tuple[Array, Array]:
    """Courses of stone blocks, dark and green near the water."""
    v = np.where(face == 2, p[:, 2], p[:, 1])
    high, wide = (0.45, 0.9) if body.size[1] > 1.15 else (0.22, 0.4)
    row = np.floor(v / high)
    along = u / wide + 0.5 * (row % 2) + 0.2 * cell(row, row, 3)
    col = np.floor(along)
    from_row, from_col = 0.5 - np.abs(v / high - row - 0.5), 0.5 - np.abs(along - col - 0.5)
    shade = 0.32 + 0.45 * cell(row, col, body.seed) + 0.7 * fbm(u * 2.2, v * 2.2, 5)
    shade *= np.where(np.minimum(from_row * high, from_col * wide) < 0.035, 0.5, 1)
    wet = np.exp(-np.maximum(p[:, 1] + body.centre[1] - 0.25, 0) / 0.15) * (face != 2)
    return mix(body.colour * shade[:, None], rgb("2a3328"), wet * 0.85), np.zeros_like(p)


def paint_belfry(body: Solid, p: Array, face: Array, u: Array) -> tuple[Array, Array]:
    """Stone with louvred arches, a clock and string courses."""
    albedo, glow = paint_stone(body, p, face, u)
    v = p[:, 1] + body.size[1]
    du = np.abs(np.abs(u) - 0.95)
    arch = ((v > 15.2) & (v < 17.6) & (du < 0.55)) | (np.hypot(du, v - 17.6) < 0.55)
    albedo[arch] = rgb("2a2a30") * (0.7 + 0.8 * (np.floor(v[arch] * 4) % 2))[:, None]
    clock, x, y = np.hypot(u, v - 12.6), u, v - 12.6
    albedo[clock < 1.35] = rgb("4a3a2a")
    albedo[clock < 1.2] = rgb("efe6d2")
    hands = ((np.abs(x) < 0.1) & (y > 0)) | ((np.abs(y) < 0.1) & (x > 0))
    albedo[hands & (clock < 1)] = rgb("2a211a")
    albedo[(np.abs(v - 10.2) < 0.2) | (np.abs(v - 14.4) < 0.2) | (v > 19.5)] = rgb("e2d6bd")
    return albedo, glow


def paint_hull(body: Solid, p: Array, face: Array, u: Array) -> tuple[Array, Array]:
    """Painted planks outside; inside, the floor, the thwarts and a rim."""
    y, top, high = p[:, 1], face == 2, body.size[1]
    planks = np.where(np.abs((y / 0.17) % 1 - 0.5) > 0.43, 0.7, 1)
    albedo = body.colour * (planks * (0.75 + 0.5 * fbm(p[:, 0] * 1.5, y * 6, 4)))[:, None]
    albedo[y > high - 0.16] = rgb("efe6d2")
    albedo[y < 0.14] = rgb("4a2420")
    sides = [0, 1, 4, 5, 6, 7, 8]
    world = p @ body.frame.T + body.centre
    edge = (body.offsets[sides] - world @ body.normals[sides].T).min(1)
    floor = (0.6 + 0.5 * cell(np.floor(p[:, 2] / 0.14), 0 * y)) * np.clip(edge / 0.5, 0.35, 1)
    albedo[top] = rgb("a87a4a") * floor[top, None]
    albedo[top & (np.abs((p[:, 0] + 0.3) % 1.5 - 0.75) < 0.16)] = rgb("c79a63")
    albedo[top & (edge < 0.12)] = rgb("d8b98a")
    return albedo, np.zeros_like(p)


def paint_wood(body: Solid, p: Array, face: Array, u: Array) -> tuple[Array, Array]:
    """Boards of a crate, with battens at the corners."""
    v = np.where(face == 2, p[:, 2], p[:, 1])
    batten = np.abs(u) > body.size[0] - 0.09
    gap = (np.abs((v / 0.2) % 1 - 0.5) > 0.42) & ~batten
    shade = 0.5 + 0.8 * fbm(u * 1.2, v * 22 + body.seed * 9, 4)
    return body.colour * (shade * np.where(gap, 0.35, 1 + 0.15 * batten))[:, None], np.zeros_like(p)


def paint_plain(body: Solid, p: Array, face: Array, u: Array) -> tuple[Array, Array]:
    """One colour, slightly uneven."""
    return body.colour * (0.8 + 0.4 * fbm(u * 4, p[:, 1] * 4, 3))[:, None], np.zeros_like(p)


def paint_lamp(body: Solid, p: Array, face: Array, u: Array) -> tuple[Array, Array]:
    """Light."""
    return np.zeros_like(p), np.zeros_like(p) + body.colour * 3


Painter = Callable[[Solid, Array, Array, Array], tuple[Array, Array]]
PAINTERS: dict[str, Painter] = {
    "wall": paint_wall, "roof": paint_roof, "tile": paint_tile, "stone": paint_stone,
    "belfry": paint_belfry, "hull": paint_hull, "wood": paint_wood, "plain": paint_plain,
    "lamp": paint_lamp,
}  # fmt: skip
