"""What lies beyond the harbour: the sky, the sun, the clouds and the mountains."""

import numpy as np
from shades import Array, fbm, mix, rgb, unit

SUN = unit([-0.33, 0.20, 1])  # where the sun is seen


def mountains(colour: Array, azimuth: Array, up: Array, near_sun: Array) -> Array:
    """Draw three ranges over the sky, the nearer ones lower, darker and less hazy."""
    haze = mix(rgb("a58ea6"), rgb("ffab62") * 0.95, near_sun**20)
    ranges = [
        (0.165, 2.6, 0.15, "4d5678", 0.42, 3.0),
        (0.085, 4.1, 0.09, "43536a", 0.32, 11.4),
        (0.05, 6.0, 0.06, "2a3d3c", 0.18, 23.0),
    ]
    for k, (base, pitch, high, rock, fog, shift) in enumerate(ranges):
        level, crest = np.full_like(azimuth, k), azimuth * pitch + shift
        crag = 0.7 * (1 - np.abs(2 * fbm(crest, level, 2) - 1))
        fine = 0.9 * fbm(azimuth * pitch * 5 + shift, level, 5)
        ridge = base + 0.06 * azimuth + high * (crag + fine - 0.9)
        u, v = azimuth * (26 + 40 * k) + shift, up * (30 + 50 * k)
        u = u + 1.6 * v * (fbm(u * 0.15, 0 * v + 5, 2) - 0.5)
        relief = fbm(u, v * 0.9, 6)
        shade = 0.8 + 9 * (relief - fbm(u - 0.1, v * 0.9 + 0.07, 6))
        snow = (up - base + 0.25 * (relief - 0.5)) * 40 * (k == 0)
        face = mix(rgb(rock), rgb("efdcd6"), snow) * np.clip(shade, 0.2, 2)[:, None]
        face = mix(face * (0.85 + 0.4 * rgb("ffb070")), haze, fog + 0.3 * np.exp(-up / 0.02))
        colour = mix(colour, face, (ridge - up) * 900)
    return colour


def sky(ray: Array) -> Array:
    """Find the light that comes from the sky, the sun, the clouds and the mountains."""
    flat = np.hypot(ray[:, 0], ray[:, 2]) + 1e-6
    up, azimuth = np.abs(ray[:, 1]) / flat, np.arctan2(ray[:, 0], ray[:, 2])
    near_sun = np.clip(ray @ SUN, 0, 1)
    colour = mix(rgb("f2a579"), rgb("9a9cc0"), up / 0.26)
    colour = mix(colour, rgb("2f5688"), (up - 0.14) / 0.42)
    colour = mix(colour, rgb("ffa64a") * 1.1, near_sun**22 * 0.95)
    x, y = azimuth * 5 + 3, np.log(up + 0.1) * 5.2
    warp = fbm(x * 0.7 + 4, y * 0.7, 3)
    x, y = x + 2.5 * warp, y * 1.6 + 1.5 * warp
    dense = fbm(x, y, 6)
    lit = 0.45 + 5 * (dense - fbm(x - 0.12, y - 0.22, 6))
    cloud = mix(rgb("74779a"), rgb("ffbd85") * (1 + 0.9 * near_sun[:, None] ** 20), lit)
    colour = mix(colour, cloud, (dense - 0.46) * 3.6 * np.clip(up / 0.1, 0, 1))
    disc = 5 * np.clip((near_sun - 0.9995) / 0.0004, 0, 1) + near_sun**500 * 1.2
    return mountains(colour + disc[:, None] * rgb("ffd390"), azimuth, up, near_sun)
