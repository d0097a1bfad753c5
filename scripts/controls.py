"""The pictures of docs/controls.md, one for each control.

Usage: controls.py CONTROL OUT.jpg
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from nstx import choose_settings, read_image, stylize, write_image
from nstx.engine.pictures.writing import to_8_bit

Pixels = NDArray[np.float32]


def main(arguments: Sequence[str]) -> int:
    """Draw a control's picture and return the exit code."""
    if len(arguments) != 2 or arguments[0] not in CONTROLS:
        print(f"expected a control of {', '.join(CONTROLS)}, and OUT.jpg", file=sys.stderr)
        return 2
    CONTROLS[arguments[0]]().save(Path(arguments[1]), quality=90, optimize=True)
    return 0


def side_by_side(pictures: dict[str, Pixels]) -> Image.Image:
    """Return pictures of one size in a row, each under its name."""
    height, width = next(iter(pictures.values())).shape[:2]
    sheet = Image.new("RGB", (len(pictures) * (width + 8) - 8, height + 20), "white")
    pen = ImageDraw.Draw(sheet)
    for index, (name, pixels) in enumerate(pictures.items()):
        pen.text((index * (width + 8), 4), name, fill="black")
        sheet.paste(Image.fromarray(to_8_bit(pixels)), (index * (width + 8), 20))
    return sheet


def draw_depth() -> Image.Image:
    """Return a soft sky of 16 bits as a run leaves it in 8 and in 16 bits, each with ten times its contrast."""
    rows, columns = np.mgrid[:256, :384].astype(np.float32)
    light = 16 * (rows / 256) + 3 * np.cos(columns / 90)
    sky = np.stack([120 + light, 150 + 0.8 * light, 200 + 0.5 * light], axis=2)
    pictures = {}
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "sky.png", Path(folder) / "out.png"
        write_image(source, sky.astype(np.float32), depth=16)
        result = stylize(source, source, choose_settings(size=384, steps=1, style_weight=0.0))
        for depth in (8, 16):
            result.save(output, depth=8 if depth == 8 else 16)
            pixels = read_image(output).pixels.astype(np.float32)
            pictures[f"{depth} bits, contrast x 10"] = 128 + 10 * (pixels - sky.mean((0, 1)))
    return side_by_side(pictures)


CONTROLS: dict[str, Callable[[], Image.Image]] = {"depth": draw_depth}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
