"""The ray tracer: the light that comes back from the solids, the sky and the water."""

import numpy as np
from materials import PAINTERS
from scene import LAMPS
from shades import Array, fbm, mix, rgb, unit
from sky import SUN, sky
from solids import Solid

EYE = np.array([0, 6, 0], np.float32)
LIGHT = unit([-0.88, 0.40, -0.26])  # where sunlight comes from: further round, to model shapes


def trace(scene: list[Solid], origin: Array, ray: Array) -> tuple[Array, Array, Array]:
    """Find the nearest solid: its distance, number and face (inf and -1 where there is none)."""
    best = np.full(len(ray), np.inf, np.float32)
    which, face = np.full(len(ray), -1), np.zeros(len(ray), int)
    for number, body in enumerate(scene):
        to = body.centre - origin
        along, radius = np.einsum("ij,ij->i", to, ray), float(np.linalg.norm(body.size))
        off_axis = np.einsum("ij,ij->i", to, to) - along * along
        rows = np.flatnonzero((off_axis < radius**2) & (along > -radius))
        if not len(rows):
            continue
        slope = ray[rows] @ body.normals.T
        t = (body.offsets - origin[rows] @ body.normals.T) / slope
        enter = np.where(slope < 0, t, -np.inf)
        first, leave = enter.max(1), np.where(slope > 0, t, np.inf).min(1)
        hit = (first < leave) & (first > 1e-3) & (first < best[rows])
        best[rows[hit]], which[rows[hit]] = first[hit], number
        face[rows[hit]] = enter[hit].argmax(1)
    return best, which, face


def illuminate(scene: list[Solid], point: Array, normal: Array, rng: np.random.Generator) -> Array:
    """Find the light that falls on points: the low sun with soft shadows, the sky, the lamps."""
    lit = np.clip(normal @ LIGHT, 0, 1)
    toward = unit(LIGHT + 0.006 * rng.standard_normal(point.shape, dtype=np.float32))
    rows = np.flatnonzero(lit > 0)
    shadow = trace(scene, point[rows] + normal[rows] * 0.02, toward[rows])[1] >= 0
    lit[rows[shadow]] = 0
    light = lit[:, None] * rgb("ffb26a") * 3.5
    light += (0.62 + 0.38 * normal[:, 1:2]) * rgb("7f97cc") * 0.66
    light += np.clip(normal @ SUN, 0, 1)[:, None] * rgb("ffa860") * 0.3
    for lamp in LAMPS:
        to = lamp - point
        facing, square = np.clip((to * normal).sum(1), 0, None), (to * to).sum(1)
        light += (facing / (square**1.5 + 0.5) * 7)[:, None] * rgb("ffab52")
    return light


def radiance(
    scene: list[Solid], origin: Array, ray: Array, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Find the light that comes back along rays, the water left out, and how far it came."""
    far, which, face = trace(scene, origin, ray)
    colour, rows = sky(ray), np.flatnonzero(which >= 0)
    point = origin[rows] + ray[rows] * far[rows, None]
    albedo, glow, normal = (np.zeros_like(point) for _ in range(3))
    for number in np.unique(which[rows]):
        mine, body = np.flatnonzero(which[rows] == number), scene[number]
        side, p = face[rows][mine], (point[mine] - body.centre) @ body.frame
        u = np.where(side < 2, p[:, 2], p[:, 0])
        albedo[mine], glow[mine] = PAINTERS[body.material](body, p, side, u)
        normal[mine] = body.normals[side]
    shaded = albedo * illuminate(scene, point, normal, rng) + glow
    haze = mix(rgb("b795a0"), rgb("ffab62"), np.clip(ray[rows] @ SUN, 0, 1) ** 20) * 0.8
    colour[rows] = mix(shaded, haze, 1 - np.exp(-far[rows] / 420))
    return colour, far


def ripples(x: Array, z: Array) -> Array:
    """Give the height of the water, in no particular unit."""
    return fbm(x * 0.55 + 0.2 * z, z * 1.3, 4) + 0.35 * fbm(x * 0.12, z * 0.25 + 7, 2)


def water(scene: list[Solid], ray: Array, far: Array, rng: np.random.Generator) -> Array:
    """Find the light from the water: what it mirrors, over its own colour."""
    point, step = EYE + ray * far[:, None], 0.04
    x, z = point[:, 0], point[:, 2]
    steep = 0.068 / (1 + far / 60) / step
    here, level = ripples(x, z), np.ones_like(x)
    tilt = (here - ripples(x + step, z)) * steep, level, (here - ripples(x, z + step)) * steep
    normal = unit(np.stack(tilt, axis=1))
    cosine = -(ray * normal).sum(1, keepdims=True)
    bounce = ray + 2 * cosine * normal
    bounce[:, 1] = np.abs(bounce[:, 1]) + 1e-3
    mirror, _ = radiance(scene, point, unit(bounce), rng)
    deep = rgb("1d4a52") * (0.55 + 0.7 * fbm(x * 0.15, z * 0.3, 3))[:, None]
    fresnel = 0.12 + 0.88 * (1 - np.clip(cosine[:, 0], 0, 1)) ** 3.2
    return mix(deep, np.minimum(mirror, 6), fresnel)
