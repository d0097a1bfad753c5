"""What each figure of artefacts sees: a picture to which one artefact after another is added.

Usage: artefacts.py PICTURE CONTENT STYLE OUT.jpg

PICTURE is a result of `nstx optimize`. For each figure the sheet has a detail at three times its size, and below it what
the figure looks at; its value is that before and after the artefact was added.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from nstx import choose_settings, read_image
from nstx.engine.artefacts.grain import AROUND, find_flatness, split
from nstx.engine.artefacts.measure import Artefacts, find_artefacts
from nstx.engine.artefacts.ripple import WINDOW
from nstx.engine.artefacts.speckles import isolate
from nstx.engine.artefacts.strips import FROM_RGB
from nstx.engine.pictures.reading import take_input
from nstx.engine.pictures.writing import to_8_bit
from nstx.engine.preparation.inputs import fit_to, take_styles

Pixels = NDArray[np.float32]

SIDE, ZOOM = 80, 3  # pixels of a detail, and their size
TILE = SIDE * ZOOM
FIGURES = ("ripple", "locked", "rim", "speckles", "untouched")


def main(arguments: Sequence[str]) -> int:
    """Draw the sheet and return the exit code."""
    if len(arguments) != 4:
        print("expected PICTURE CONTENT STYLE OUT.jpg", file=sys.stderr)
        return 2
    picture, content, style, out = arguments
    result = read_image(picture)
    pixels, photograph, paintings = fit_to(
        result, take_input(content), take_styles(style), choose_settings()
    )
    styles = [painting for painting, _ in paintings]
    flatness = find_flatness(photograph)
    if flatness is None or min(pixels.shape[:2]) < 2 * SIDE:
        print(f"expected a picture of {2 * SIDE} pixels and more on a side", file=sys.stderr)
        return 2
    draw(pixels, photograph, styles, flatness.share).save(Path(out), quality=88, optimize=True)
    return 0


def draw(pixels: Pixels, photograph: Pixels, styles: list[Pixels], share: Pixels) -> Image.Image:
    """Return the sheet: a column for each figure."""
    sheet = Image.new("RGB", (len(FIGURES) * (TILE + 8) - 8, 2 * TILE + 44), "white")
    pen = ImageDraw.Draw(sheet)
    before = find_artefacts(pixels, photograph, styles)
    for index, (name, (worse, at)) in enumerate(add_artefacts(pixels, photograph, share).items()):
        after = find_artefacts(worse, photograph, styles)
        left = index * (TILE + 8)
        sheet.paste(crop(worse, at), (left, 20))
        sheet.paste(see(name, worse, photograph, share, at), (left, TILE + 24))
        pen.text((left, 4), name, "black")
        pen.text((left, 2 * TILE + 28), changes(before, after, name), "black")
    return sheet


def add_artefacts(
    pixels: Pixels, photograph: Pixels, share: Pixels
) -> dict[str, tuple[Pixels, tuple[int, int]]]:
    """Return the picture with each artefact, and the upper left pixel of a detail that shows it."""
    height, width = pixels.shape[:2]
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    flat = share[..., None]
    calm = calmest(pixels, share)
    wave = 8 * np.sin(2 * np.pi * (x + 0.6 * y) / 5)[..., None] * flat
    tile = generator.normal(0, 6, (8, 8, 1))
    grid = np.tile(tile - tile.mean(), (height // 8 + 1, width // 8 + 1, 1))[:height, :width] * flat
    strip, speckled, holed = pixels.copy(), pixels.copy(), pixels.copy()
    strip[:, -3:] += np.array([-40, 45, -40], np.float32)
    rows, columns = generator.integers(8, height - 8, 900), generator.integers(8, width - 8, 900)
    chosen = share[rows, columns] > 0.5
    speckled[rows[chosen], columns[chosen]] = (250, 90, 60)
    hole = (y - calm[0] - SIDE / 2) ** 2 + (x - calm[1] - SIDE / 2) ** 2 < (SIDE * 0.45) ** 2
    holed[hole] = photograph[hole]
    return {
        "ripple": ((pixels + wave).astype(np.float32), calm),
        "locked": ((pixels + grid).astype(np.float32), calm),
        "rim": (strip, (height // 2 - SIDE // 2, width - SIDE)),
        "speckles": (speckled, calm),
        "untouched": (holed, calm),
    }


def calmest(pixels: Pixels, share: Pixels) -> tuple[int, int]:
    """Return the upper left pixel of the detail that has least of the style, where the photograph is flat."""
    places = []
    for top in range(8, share.shape[0] - SIDE - 8, 8):
        for left in range(8, share.shape[1] - SIDE - 8, 8):
            part = slice(top, top + SIDE), slice(left, left + SIDE)
            variation = float(pixels[part].std((0, 1)).mean())
            places.append((variation / float(share[part].mean()) ** 2, (top, left)))
    return min(places)[1]


def see(
    name: str, pixels: Pixels, photograph: Pixels, share: Pixels, at: tuple[int, int]
) -> Image.Image:
    """Return what a figure looks at, where the detail is."""
    height = pixels.shape[0]
    if name == "rim":
        return draw_rim(pixels)
    if name == "untouched":
        seen = np.abs(pixels - photograph).mean(2) * 4
    elif name == "speckles":
        mirrored = np.pad(pixels, ((2, 2), (2, 2), (0, 0)), "symmetric") @ FROM_RGB[:, 0]
        everywhere = np.ones(pixels.shape[:2], bool)
        alone = isolate(mirrored, everywhere).reshape(pixels.shape[:2]) * share
        seen = alone * 3
    else:
        bands, _ = split(pixels, slice(0, height))
        details = sum(band[AROUND:-AROUND, AROUND:-AROUND, 0] for band in bands) * share
        seen = 128 + 6 * (average_tiles(details, share) if name == "locked" else details)
    return crop(np.repeat(seen[..., None], 3, 2).astype(np.float32), at)


def average_tiles(details: Pixels, share: Pixels) -> Pixels:
    """Return what repeats every 24 pixels in all of a picture, laid all over it."""
    rows, columns = (side // WINDOW * WINDOW for side in details.shape)

    def fold(values: Pixels) -> Pixels:
        tiles = values[:rows, :columns].reshape(rows // WINDOW, WINDOW, columns // WINDOW, WINDOW)
        return np.asarray(tiles.sum((0, 2)), np.float32)

    repeats = tuple(-(-side // WINDOW) for side in details.shape)
    tile = np.tile(fold(details) / fold(share), repeats)
    return tile[: details.shape[0], : details.shape[1]]


def draw_rim(pixels: Pixels) -> Image.Image:
    """Return bars: how much each strip of four pixels differs from the next, from the right border on."""
    strips = pixels[:, ::-1][:, :48].reshape(len(pixels), 12, 4, 3).mean(2)
    distances = np.linalg.norm(np.diff(strips, axis=1), axis=2).mean(0)
    image = Image.new("RGB", (TILE, TILE), "white")
    pen, step = ImageDraw.Draw(image), TILE // len(distances)
    for index, distance in enumerate(distances[::-1]):
        top = TILE - round(float(distance / distances.max()) * (TILE - 8))
        pen.rectangle((index * step + 2, top, (index + 1) * step - 2, TILE), "black")
    return image


def crop(pixels: Pixels, at: tuple[int, int]) -> Image.Image:
    """Return a detail at three times its size."""
    detail = pixels[at[0] : at[0] + SIDE, at[1] : at[1] + SIDE]
    return Image.fromarray(to_8_bit(detail)).resize((TILE, TILE), Image.Resampling.NEAREST)


def changes(before: Artefacts, after: Artefacts, name: str) -> str:
    """Return a figure before and after, and which of the others rose with it."""
    values = [(key, getattr(before, key), getattr(after, key)) for key in FIGURES]
    own = next(f"{first:.2f} to {second:.2f}" for key, first, second in values if key == name)
    others = [
        f"{key} {second:.1f}"
        for key, first, second in values
        if key != name and second > first + 0.5
    ]
    return own + (f"; {', '.join(others)}" if others else "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
