"""The content picture: a harbour at a low sun, seen over the water."""

import numpy as np
from PIL import Image
from scene import town, waterfront
from shades import HEIGHT, SCALE, WIDTH, finish, unit
from tracer import EYE, radiance, water


def draw_harbour() -> Image.Image:
    """Render the content picture, a few rows at a time, and develop it like film."""
    rng, scene = np.random.default_rng(11), town() + waterfront()
    width, height, strip = WIDTH * SCALE, HEIGHT * SCALE, 40
    picture = np.zeros((height, width, 3), np.float32)
    for top in range(0, height, strip):
        y, x = np.mgrid[top : top + strip, 0:width].astype(np.float32) + 0.5
        x, y = x / width - 0.5, (0.45 * height - y) / width
        ray = unit(np.stack([x, y, np.full_like(x, 0.96)], axis=-1).reshape(-1, 3))
        colour, far = radiance(scene, np.broadcast_to(EYE, ray.shape), ray, rng)
        surface = np.where(ray[:, 1] < 0, -EYE[1] / ray[:, 1], np.inf)
        wet = np.flatnonzero(surface < far)
        colour[wet] = water(scene, ray[wet], surface[wet], rng)
        picture[top : top + strip] = colour.reshape(strip, width, 3)
    picture *= (1 + picture / 9) / (1 + picture * 0.62)
    picture = np.clip(picture * 1.12, 0, 1) ** (1 / 2.2)
    return finish(picture + 0.24 * (picture**2 * (3 - 2 * picture) - picture))
