"""A style picture: a print from wood, of a sun over hills and a sea, in three inks on paper."""

import numpy as np
from PIL import Image
from shades import HEIGHT, SCALE, WIDTH, Array, fbm, finish, mix

PAPER, BLUE, DEEP, RED = (
    np.array(list(bytes.fromhex(code)), np.float32) / 255
    for code in ("efe3c8", "2f5f86", "14233c", "c8452d")
)


def lines(phase: Array, tone: Array, edge: float) -> Array:
    """Cut lines along the levels of a phase, the wider the darker the tone; 1 is ink."""
    wave = np.abs(np.mod(phase, 1) - 0.5) * 2
    return np.clip((tone - wave) / edge + 0.5, 0, 1)


def draw_engraving() -> Image.Image:
    """Print the picture, one ink after the other."""
    height, width = HEIGHT * SCALE, WIDTH * SCALE
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / width
    x, y = (
        x + 0.006 * (fbm(x * 30, y * 30, 3) - 0.5),
        y + 0.006 * (fbm(x * 30 + 7, y * 30, 3) - 0.5),
    )
    print_ = (
        np.broadcast_to(PAPER, (height, width, 3)) * (0.95 + 0.1 * fbm(x * 60, y * 8, 3))[..., None]
    )
    disc = np.hypot(x - 0.68, y - 0.2)
    clouds = fbm(x * 3 + 1, y * 9 + 4, 4)
    sky = lines(
        y * 46 + 4 * clouds, 0.12 + 1.3 * np.clip(clouds - 0.42, 0, 1) + 0.6 * (0.3 - y), 0.12
    )
    print_ = mix(print_, BLUE, sky * (disc > 0.125))
    print_ = mix(
        print_,
        RED,
        np.clip((0.115 - disc) * 500, 0, 1) * (0.93 - 0.3 * (fbm(x * 70, y * 70, 2) > 0.66)),
    )
    for k, (level, high, pitch) in enumerate(
        [(0.36, 0.20, 2.3), (0.44, 0.14, 3.7), (0.5, 0.1, 5.1)]
    ):
        crest = level - high * (fbm(x * pitch + 9 * k, 0 * x + k, 4) - 0.35)
        depth = y - crest
        inside = np.clip(depth * 600, 0, 1)
        slope = fbm(x * 9 + 5 * k, y * 7, 4)
        cut = lines(
            depth * 42 + x * (18 - 14 * k) + 3 * slope, 0.25 + 0.9 * slope - 0.8 * depth, 0.14
        )
        ink = np.maximum(cut, np.clip(1 - np.abs(depth - 0.002) * 320, 0, 1))
        print_ = mix(mix(print_, PAPER * 0.97, inside), DEEP if k else BLUE, ink * inside)
    swell = 0.02 * np.sin(x * 21 + 2) + 0.035 * np.sin(x * 8 + 1) + 0.05 * fbm(x * 5, y * 6, 3)
    depth = y - 0.545 + 0.6 * swell
    inside = np.clip(depth * 600, 0, 1)
    foam = fbm(x * 13, (y + swell) * 40, 4)
    cut = lines((y + swell) * (62 - 30 * y), 0.35 + 1.5 * (foam - 0.42) + 0.7 * depth, 0.14)
    print_ = mix(
        mix(print_, PAPER, inside), BLUE, np.clip(depth * 5, 0, 0.55) * inside * (foam < 0.56)
    )
    print_ = mix(print_, DEEP, cut * inside)
    return finish(print_)
