"""A style picture: a mosaic of small stones of glass, set along the waves that it shows."""

import numpy as np
from PIL import Image
from shades import HEIGHT, SCALE, WIDTH, Array, cell, fbm, finish
from swirls import palette

SEA = "0b2545 13507a 1f8a94 6cc2a8 e9ecc6"
SUN = "7a2114 c4461f ec8b2c f6c453 fff1c9"
STONE = 1 / 58  # of the width


def wave(x: Array, y: Array) -> Array:
    """Give the height of the waves, whose level lines the stones follow."""
    return y + 0.06 * np.sin(9 * x + 2) + 0.12 * fbm(x * 2.2, y * 2.2, 2)


def draw_tesserae() -> Image.Image:
    """Set the stones: each pixel belongs to the nearest of the points about it."""
    height, width = HEIGHT * SCALE, WIDTH * SCALE
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / width
    u, v = x / STONE + 1.2 * fbm(x * 3, y * 3 + 9, 2), wave(x, y) / STONE
    first = np.full_like(u, 9.0)
    second, i0, j0 = first.copy(), np.zeros_like(u), np.zeros_like(u)
    for di in (-1, 0, 1):
        for dj in (-1, 0, 1):
            i, j = np.floor(u) + di, np.floor(v) + dj
            shift = 0.5 * (np.mod(j, 2))
            du = u - i - 0.5 - shift + 0.5 - 0.3 * (cell(i, j) - 0.5)
            far = np.maximum(np.abs(du), np.abs(v - j - 0.5 - 0.3 * (cell(i, j, 1) - 0.5)))
            second = np.where(far < first, first, np.minimum(second, far))
            i0, j0 = np.where(far < first, i, i0), np.where(far < first, j, j0)
            first = np.minimum(first, far)
    chance, other = cell(i0, j0, 2), cell(i0, j0, 3)
    low = (j0 * STONE - 0.06) / 0.75
    band = 0.5 + 0.5 * np.sin(j0 * 0.55 + 3 * fbm(i0 * 0.05, j0 * 0.05, 2))
    colour = palette(SEA, 0.12 + 0.6 * band * (0.5 + 0.6 * low) + 0.35 * (chance - 0.4))
    disc = np.hypot(i0 * STONE - 0.66, low - 0.42)
    rays = 0.5 + 0.5 * np.sin(14 * np.arctan2(low - 0.42, i0 * STONE - 0.66) + 9 * disc)
    glow = np.clip(1.5 - disc / (0.16 + 0.1 * rays), 0, 1) > other * 0.9
    warm = palette(SUN, 1.05 - 2.1 * disc + 0.4 * (chance - 0.5))
    colour = np.where(glow[..., None], warm, colour)
    gap = np.clip((second - first) / 0.16, 0, 1)
    down, right = np.gradient(np.minimum(gap, 0.7) + 0.06 * fbm(x * 240, y * 240, 2))
    lit = 1 + 0.5 * np.tanh((down + right) * 3) + 0.12 * (fbm(x * 90, y * 90, 3) - 0.5)
    grout = np.array([0.17, 0.15, 0.15])
    return finish(grout + (colour * lit[..., None] - grout) * gap[..., None] ** 0.8)
