"""The style picture: brush strokes that follow a flow field, lit like thick paint.

The flow is laid out with x from 0 to 4 and y, downwards, from 0 to 3.
"""

import numpy as np
from PIL import Image
from shades import SCALE, WIDTH, Array, fbm, finish, mix

NIGHT = "0a1534 10295a 19477f 2270a0 3f9fae a5d6bd"
FIRE = "a8431a d9741c f0a52a fbd052 fff3bd"
MOON = "1d6f8f 3fa7a9 96d3b4 e9f0c0 fff6d0"
OCHRE = "2a2a2c 5d4a1f a87422 dca436 f3d675"
RUST = "16202e 4a2a2c 8f3f24 cf6f2a efb052"
REED = "081a26 0f3a40 1d6660 4f9a78 c2cf80"
VORTICES = [  # x, y, radius, spin, colours
    (2.84, 0.92, 0.74, 1.0, FIRE),
    (1.16, 0.78, 0.52, -1.0, MOON),
    (1.90, 1.55, 0.33, 0.9, MOON),
    (3.70, 1.72, 0.30, -0.8, FIRE),
    (0.38, 1.52, 0.38, 0.9, FIRE),
    (0.20, 0.16, 0.28, 0.8, MOON),
]
HILLS = [  # level, height, pitch and phase of the outline, colours; the nearest is last
    (2.12, 0.13, 1.5, 0.4, REED),
    (2.36, 0.20, 1.9, 2.6, OCHRE),
    (2.74, 0.20, 1.4, 5.0, RUST),
]
BRUSHES = [  # how many strokes, their length and their width
    (1500, 0.44, 0.100),
    (3600, 0.27, 0.055),
    (4200, 0.18, 0.036),
    (2400, 0.12, 0.022),
]


def palette(stops: str, amount: Array) -> Array:
    """Look colours up along a row of sRGB stops."""
    table = np.array([list(bytes.fromhex(code)) for code in stops.split()]) / 255
    at = np.clip(amount, 0, 1) * (len(table) - 1)
    i = np.minimum(at.astype(int), len(table) - 2)
    return mix(table[i], table[i + 1], at - i)


def stream(x: Array, y: Array) -> Array:
    """Give the stream function: the paint flows along its level lines."""
    total = 0.5 * y + 0.24 * fbm(x * 0.8 + 3, y * 0.9, 2)
    for cx, cy, size, spin, _ in VORTICES:
        pull = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / size**2)
        total = total * (1 - pull) + pull * (0.5 * cy + 0.12 + spin * size)
    for level, high, pitch, phase, _ in HILLS:
        depth = y - level - high * np.sin(pitch * x + phase)
        furrow = depth * (1 + 0.5 * np.sin(pitch * x + phase + 1)) + 0.1 * np.sin(3 * x + phase)
        total = np.where(depth > 0, furrow, total)
    return total


def heading(x: Array, y: Array) -> Array:
    """Give the direction of the flow."""
    s, step = stream(x, y), 0.01
    return np.arctan2(s - stream(x + step, y), stream(x, y + step) - s)


def colours(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Choose a colour for the stroke at each place; at borders strokes take either side's."""
    s, chance = stream(x, y), rng.random(x.shape)
    band = 0.5 + 0.5 * np.sin(s * 24 + 2.5 * fbm(x * 1.2, y * 1.2, 2))
    colour = palette(NIGHT, 0.1 + 0.95 * band * fbm(x * 1.1 + 5, y * 1.1, 3) + 0.05 * y)
    for cx, cy, size, spin, stops in VORTICES:
        d, angle = np.hypot(x - cx, y - cy) / size, np.arctan2(y - cy, x - cx)
        arm = 0.5 + 0.5 * np.cos(d * 11 - spin * angle)
        heart = np.exp(-((d / 0.45) ** 2))
        inside = heart * 1.6 + 2.4 * arm * np.exp(-((d / 0.95) ** 4)) - 0.65
        tone = palette(stops, 0.1 + 0.75 * heart + 0.45 * arm * np.exp(-(d**2)))
        colour = np.where((chance < inside)[:, None], tone, colour)
    for level, high, pitch, phase, stops in HILLS:
        depth = y - level - high * np.sin(pitch * x + phase) + 0.02 * (chance - 0.5)
        row = 0.5 + 0.5 * np.sin(s * 38 + 2 * fbm(x * 2, y * 2, 2))
        shade = np.clip(depth / 0.07, 0, 1) * (0.1 + 0.95 * row * (0.4 + fbm(x * 2, y * 4, 3)))
        colour = np.where((depth > 0)[:, None], palette(stops, shade), colour)
    return colour


def dab(
    canvas: Array, relief: Array, place: Array, shape: Array, colour: Array, hair: Array
) -> None:
    """Lay one bent stroke of bristle marks on the canvas and on its height map."""
    (x, y, angle, bend), (length, width) = place, shape
    reach = int(length / 2 + width) + 2
    left, top = max(int(x) - reach, 0), max(int(y) - reach, 0)
    area = np.s_[top : max(int(y) + reach, 0), left : max(int(x) + reach, 0)]
    patch, bump = canvas[area], relief[area]
    dx = np.arange(left, left + bump.shape[1], dtype=np.float32) - x
    dy = np.arange(top, top + bump.shape[0], dtype=np.float32)[:, None] - y
    c, s = np.cos(angle), np.sin(angle)
    a = dx * c + dy * s
    across, along = (dy * c - dx * s - 0.5 * bend * a * a) / width + 0.5, a / length + 0.5
    row = np.clip(across * 22, 0, 21.99)
    i = row.astype(np.int32)
    hairs = hair[i] + (hair[i + 1] - hair[i]) * (row - i)
    ends = np.minimum(along / 0.12, (1 - along - 0.22 * hairs) / 0.1)
    cover = np.clip(np.minimum(ends, np.minimum(across, 1 - across) / 0.12), 0, 1)
    cover *= np.clip(1.3 - (along - 0.6) * 2.2 * (0.4 + hairs), 0, 1)
    patch += (colour * (0.88 + 0.24 * hairs[..., None]) - patch) * cover[..., None]
    body = 0.35 + 0.5 * hairs + 0.5 * np.abs(2 * across - 1) ** 3
    bump += (width * body * (1.15 - 0.6 * along) - 0.7 * bump) * cover


def draw_swirls() -> Image.Image:
    """Paint the style picture, coarse strokes first, and light its relief from the upper left."""
    rng, zoom, step = np.random.default_rng(5), WIDTH * SCALE // 4, 0.05
    y, x = np.mgrid[0:3:0.02, 0:4:0.02].astype(np.float32)
    ground = colours(x.ravel(), y.ravel(), rng).reshape(*x.shape, 3).astype(np.float32)
    canvas = 0.8 * ground.repeat(zoom // 50, axis=0).repeat(zoom // 50, axis=1)
    relief = np.zeros(canvas.shape[:2], np.float32)
    for count, length, width in BRUSHES:
        x, y = (rng.random((2, count)) * [[4], [3]]).astype(np.float32)
        here = heading(x, y)
        ahead = heading(x + step * np.cos(here), y + step * np.sin(here))
        size = rng.uniform(0.7, 1.3, (count, 1)) * [length, width] * zoom
        bend = (np.mod(ahead - here + np.pi, 2 * np.pi) - np.pi) / (step * zoom)
        bend = np.clip(bend, -1.6 / size[:, 0], 1.6 / size[:, 0])
        place = np.stack([x * zoom, y * zoom, here + 0.08 * rng.standard_normal(count), bend], 1)
        tint = 1 + 0.1 * rng.standard_normal((count, 1)) + 0.05 * rng.standard_normal((count, 3))
        colour = np.clip(colours(x, y, rng) * tint, 0.02, 1).astype(np.float32)
        hair = rng.random((count, 23), dtype=np.float32)
        for n in range(count):
            dab(canvas, relief, place[n], size[n], colour[n], hair[n])
    down, right = np.gradient(relief)
    shade = np.tanh((right * 0.6 + down * 0.8) * 0.22)[..., None]
    return finish(canvas * (1 + 0.5 * shade) + 0.13 * np.clip(shade, 0, 1) ** 2)
