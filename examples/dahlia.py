"""A second content picture: a dahlia, seen near, before leaves that are out of focus."""

import numpy as np
from PIL import Image, ImageFilter
from shades import HEIGHT, WIDTH, Array, fbm, finish
from swirls import palette

PETALS = "4a0f24 8e1f3d c93a55 ea7a7f f7c3a8"
LEAVES = "0d1a17 16302a 2c5240 5f8b5a b5c98a"
RINGS = 9


def draw_leaves(width: int, height: int, rng: np.random.Generator) -> Array:
    """Lay leaves and spots of light behind the flower, and blur them as a lens does."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / width
    ground = palette(LEAVES, 1.15 * fbm(x * 4 + 3, y * 4, 3) - 0.3 + 0.3 * (0.6 - y))
    for _ in range(46):
        at_x, at_y, radius = rng.uniform((-0.05, -0.05, 0.012), (1.05, 0.8, 0.06))
        rim = np.hypot(x - at_x, y - at_y) / radius
        disc = np.clip((1 - rim) * 12, 0, 1) * (0.55 + 0.45 * np.clip(rim, 0, 1) ** 4)
        ground += (disc * rng.uniform(0.04, 0.16))[..., None] * [0.9, 1.0, 0.6]
    image = Image.fromarray((np.clip(ground, 0, 1) * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(width / 160)), np.float32) / 255


def lay_petal(canvas: Array, centre: tuple[float, float], shape: Array, tone: float) -> None:
    """Lay one petal with its shadow; its shape is angle, start, length and width, in pixels."""
    (cx, cy), (angle, start, length, width) = centre, shape
    reach = int(start + length * 1.3) + 8
    top, left = max(int(cy) - reach, 0), max(int(cx) - reach, 0)
    patch = canvas[top : int(cy) + reach, left : int(cx) + reach]
    y, x = np.mgrid[0 : patch.shape[0], 0 : patch.shape[1]].astype(np.float32)
    x, y = x + left - cx, y + top - cy
    c, s = np.cos(angle), np.sin(angle)

    def place(dx: float, dy: float, size: float) -> tuple[Array, Array]:
        along = ((x - dx) * c + (y - dy) * s - start) / (length * size)
        across = ((y - dy) * c - (x - dx) * s) / (width * size)
        half = np.sin(np.pi * np.clip(along, 0, 1) ** 0.75) ** 0.7 + 1e-3
        return along, across / half

    _, off = place(length * 0.03, length * 0.07, 1.05)
    patch *= 1 - 0.5 * np.clip((1 - np.abs(off)) * 2.2, 0, 1)[..., None]
    along, across = place(0, 0, 1)
    cover = np.clip((1 - np.abs(across)) * width * 0.35, 0, 1) * (along > 0) * (along < 1)
    vein = fbm(across * 6 + 40 * angle, along * 1.5, 3) - 0.5
    light = 0.25 * across * (s * 0.5 + c * -0.8) - 0.3 * np.abs(across) ** 3
    shade = tone + 0.55 * along + 0.22 * vein + light
    patch += (palette(PETALS, shade) - patch) * cover[..., None]


def draw_dahlia() -> Image.Image:
    """Draw the picture: rings of petals, the outer ones first."""
    rng, width, height = np.random.default_rng(23), WIDTH, HEIGHT
    canvas, centre = draw_leaves(width, height, rng), (0.47 * width, 0.49 * height)
    for ring in range(RINGS):
        open_ = 1 - ring / RINGS
        count, radius = int(8 + 15 * open_**0.8), 0.29 * width * open_**0.85
        for k in range(count):
            angle = 2 * np.pi * (k + 0.5 * (ring % 2)) / count + 0.06 * rng.standard_normal()
            length = radius * rng.uniform(0.92, 1.06) + 10
            shape = np.array([angle, radius * 0.18, length, length * (0.2 + 0.1 * (1 - open_))])
            lay_petal(canvas, centre, shape, 0.06 + 0.22 * open_ + 0.05 * rng.standard_normal())
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / width
    vignette = 1 - 0.5 * np.clip(np.hypot(x - 0.45, y - 0.35) - 0.25, 0, 1)
    return finish(canvas * vignette[..., None] * 1.06)
