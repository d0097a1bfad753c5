"""Details of pictures before and after cleaning, at twice their size: docs/quality.jpg.

Usage: cleaned.py OUT.jpg PICTURE.npy CONTENT STYLE LEFT TOP [PICTURE.npy CONTENT STYLE LEFT TOP]…

PICTURE.npy holds float pixels of `nstx optimize --no-clean` (height, width, 3), as `benchmarks/cleaned_pictures.py` keeps
them; LEFT and TOP are the upper left pixel of a detail of 170 × 170, from the right and the bottom if below 0.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from nstx import Picture, choose_settings
from nstx.engine.artefacts.cleaning import clean_pixels
from nstx.engine.pictures.reading import take_input
from nstx.engine.pictures.writing import to_8_bit
from nstx.engine.preparation.inputs import fit_to, take_styles
from nstx.engine.targets.paintings import measure_grains

SIDE, ZOOM, GAP = 170, 2, 6
TILE = SIDE * ZOOM
ARGUMENTS = 5  # of a detail


def main(arguments: Sequence[str]) -> int:
    """Draw the sheet and return the exit code."""
    if len(arguments) < 1 + ARGUMENTS or len(arguments) % ARGUMENTS != 1:
        print("expected OUT.jpg and PICTURE.npy CONTENT STYLE LEFT TOP…", file=sys.stderr)
        return 2
    details = [arguments[at : at + ARGUMENTS] for at in range(1, len(arguments), ARGUMENTS)]
    sheet = Image.new("RGB", (len(details) * (TILE + GAP) - GAP, 2 * TILE + GAP), "white")
    for index, (picture, content, style, left, top) in enumerate(details):
        before_and_after = draw(picture, content, style, int(left), int(top))
        for row, detail in enumerate(before_and_after):
            sheet.paste(detail, (index * (TILE + GAP), row * (TILE + GAP)))
    sheet.save(Path(arguments[0]), quality=88, optimize=True)
    return 0


def draw(path: str, content: str, style: str, left: int, top: int) -> list[Image.Image]:
    """Return a detail of a picture before cleaning and after."""
    pixels = np.asarray(np.load(path), np.float32)
    paintings, settings = take_styles(style), choose_settings()
    picture = Picture(pixels.clip(0, 255), None)
    _, photograph, _ = fit_to(picture, take_input(content), paintings, settings)
    grain = measure_grains(paintings, picture.size, settings)
    if grain is None:
        raise SystemExit(f"expected a painting of 64 pixels and more on a side, got {style}")
    height, width = pixels.shape[:2]
    row, column = top % height, left % width
    return [
        Image.fromarray(to_8_bit(values[row : row + SIDE, column : column + SIDE])).resize(
            (TILE, TILE), Image.Resampling.NEAREST
        )
        for values in (pixels, clean_pixels(pixels, photograph, grain))
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
