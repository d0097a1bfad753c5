"""A style picture: a garden by a pond, painted in dots of unmixed colours."""

import numpy as np
from PIL import Image
from shades import SCALE, WIDTH, Array, fbm, finish
from swirls import palette

SKY = "7fb2d9 b7d3e6 f2e3c6 f7c9a0"
TREES = "1f3d2b 2f6b3c 6c9a3b c2bf4a"
MEADOW = "4f7d32 93b23f d8cf5b f2e6a0"
POND = "23406e 3f74a3 7fb0c4 d9d9e8"
DOTS = [(9000, 11.0), (16000, 7.5), (22000, 5.0)]  # how many, and their radius


def view(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Choose a colour for each place; beside each stand the colours that mix to it from afar."""
    chance = rng.random(x.shape)
    tone = fbm(x * 7, y * 7, 4) + 0.35 * (chance - 0.5)
    colour = palette(SKY, y * 1.9 + 0.5 * (tone - 0.5))
    crown = (
        0.36 + 0.16 * (fbm(x * 4.2 + 2, 0 * x, 3) - 0.5) - 0.13 * np.exp(-(((x - 0.2) / 0.13) ** 2))
    )
    colour = np.where((y > crown)[:, None], palette(TREES, 1.5 * tone - 0.35), colour)
    bank = 0.47 + 0.03 * np.sin(5 * x + 1)
    colour = np.where((y > bank)[:, None], palette(MEADOW, tone + 0.5 * (y - bank)), colour)
    pond = ((x - 0.68) / 0.36) ** 2 + ((y - 0.62) / 0.09) ** 2 < 1 + 0.25 * (tone - 0.5)
    water = palette(POND, 1.3 * fbm(x * 6, y * 50, 3) - 0.15 + 0.4 * (chance - 0.5))
    colour = np.where(pond[:, None], water, colour)
    flower = (fbm(x * 22, y * 22 + 5, 2) > 0.62) & (y > bank) & ~pond
    petals = palette("c33b4e e8745a f5b0c0 8b5fb0", rng.random(x.shape))
    colour = np.where((flower & (chance < 0.75))[:, None], petals, colour)
    stray = rng.random(x.shape) < 0.16
    return np.where(stray[:, None], np.clip(1.05 - colour[:, [1, 2, 0]], 0, 1), colour)


def draw_dots() -> Image.Image:
    """Set the dots, large ones first, each with a rim of thick paint."""
    rng, width, height = np.random.default_rng(31), WIDTH * SCALE, WIDTH * SCALE * 3 // 4
    canvas = np.ones((height, width, 3), np.float32) * np.float32([0.93, 0.88, 0.78])
    for count, radius in DOTS:
        x, y = (rng.random((2, count)) * [[width], [height]]).astype(np.float32)
        colours = view(x / width, y / width, rng).astype(np.float32)
        colours *= 1 + 0.07 * rng.standard_normal((count, 1)).astype(np.float32)
        sizes = radius * rng.uniform(0.75, 1.25, count)
        for n in range(count):
            reach = int(sizes[n]) + 2
            top, left = max(int(y[n]) - reach, 0), max(int(x[n]) - reach, 0)
            patch = canvas[top : int(y[n]) + reach + 1, left : int(x[n]) + reach + 1]
            dy = np.arange(top, top + patch.shape[0], dtype=np.float32)[:, None] - y[n]
            dx = np.arange(left, left + patch.shape[1], dtype=np.float32) - x[n]
            far = np.hypot(dx, dy * 1.1)
            cover = np.clip(sizes[n] - far, 0, 1)[..., None]
            lit = 1 - 0.1 * np.clip((dx + dy) / sizes[n], -1, 1)[..., None]
            patch += (colours[n] * lit - patch) * cover
    return finish(canvas)
