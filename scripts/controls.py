"""The pictures of docs/controls.md, one for each control.

Usage: controls.py CONTROL OUT.jpg [CONTENT STYLE ...]

colours, detail and mask need a photograph and a painting, regions a photograph of Tübingen and three paintings.
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from nstx import choose_settings, read_image, stylize, write_image
from nstx.engine.pictures.resizing import resize_picture
from nstx.engine.pictures.writing import to_8_bit
from nstx.engine.settings import COLORS
from nstx.engine.sizes import fit_size

Pixels = NDArray[np.float32]

SIDE = 320  # pixels of a result


def main(arguments: Sequence[str]) -> int:
    """Draw a control's picture and return the exit code."""
    drawn = [name for name in CONTROLS if arguments[:1] == [name]]
    if not drawn or len(arguments) != 2 + len(signature(CONTROLS[drawn[0]]).parameters):
        print(f"expected a control of {', '.join(CONTROLS)}, and OUT.jpg", file=sys.stderr)
        return 2
    CONTROLS[drawn[0]](*arguments[2:]).save(Path(arguments[1]), quality=90, optimize=True)
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


def draw_colours(content: str, style: str) -> Image.Image:
    """Return the ways to colour a result, with what they are made of, and an exchange of channels afterwards."""
    photograph, painting = read_image(content), read_image(style)
    results: dict[str, Pixels] = {
        colors: stylize(
            photograph, painting, size=SIDE, steps=100, colors=colors, precision="fp32"
        ).pixels
        for colors in COLORS
    }
    size = results["style"].shape[:2]
    originals = {
        name: resize_picture(picture, *size)
        for name, picture in (("CONTENT", photograph), ("STYLE", painting))
    }
    luma, *_ = as_ycbcr(results["style"])
    _, *chroma = as_ycbcr(originals["CONTENT"])
    exchanged = Image.merge("YCbCr", (luma, *chroma)).convert("RGB")
    pictures: dict[str, Pixels] = {**originals, **results}
    pictures["style, Y exchanged"] = np.asarray(exchanged, np.float32)
    names = list(pictures)
    return stack(
        [
            side_by_side({name: pictures[name] for name in names[first : first + 4]})
            for first in (0, 4)
        ]
    )


def as_ycbcr(pixels: Pixels) -> tuple[Image.Image, ...]:
    """Return luma and two differences of colour, as other programs exchange them."""
    return Image.fromarray(to_8_bit(pixels)).convert("YCbCr").split()


def stack(rows: Sequence[Image.Image]) -> Image.Image:
    """Return pictures of one width above each other."""
    sheet = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), "white")
    for index, row in enumerate(rows):
        sheet.paste(row, (0, index * row.height))
    return sheet


def draw_statistic() -> Image.Image:
    """Return the harbour in the swirls by Gram matrices, and by Wasserstein distances."""
    examples, pictures = Path(__file__).parents[1] / "examples", {}
    for statistic in ("gram", "wasserstein"):
        settings = choose_settings(size=512, steps=40, style_statistic=statistic)
        result = stylize(examples / "harbour.jpg", examples / "swirls.jpg", settings)
        pictures[statistic] = result.picture.pixels.astype(np.float32)
    return side_by_side(pictures)


def draw_mask(content: str, style: str) -> Image.Image:
    """Return a photograph, a mask of its middle, and what comes of it within the mask and of all of it."""
    photograph, painting = read_image(content), read_image(style)
    settings = choose_settings(size=SIDE, steps=40, precision="fp32")
    whole = stylize(photograph, painting, settings).pixels
    height, width = whole.shape[:2]
    mask = Image.new("L", (width, height))
    middle = (0.2 * width, 0.1 * height, 0.8 * width, 0.9 * height)
    ImageDraw.Draw(mask).ellipse(middle, fill=255)
    grey = np.repeat(np.asarray(mask, np.float32)[..., None], 3, axis=2)
    return side_by_side(
        {
            "photograph": resize_picture(photograph, height, width),
            "mask": grey,
            "within the mask": stylize(photograph, painting, settings, mask=mask).pixels,
            "without one": whole,
        }
    )


_ROOFS = (
    (0, 0.49), (0.18, 0.47), (0.33, 0.41), (0.53, 0.42), (0.6, 0.37), (0.64, 0.25), (0.655, 0.15), (0.67, 0.25),
    (0.7, 0.32), (0.83, 0.28), (1, 0.23),
)  # fmt: skip
_BANK = ((0, 0.72), (0.16, 0.715), (0.49, 0.81), (0.52, 0.83), (0.95, 1), (0, 1))
"""Of the photograph of Tübingen: where the sky ends, and the river, in parts of its sides."""


def draw_regions(content: str, sky: str, town: str, river: str) -> Image.Image:
    """Return a photograph of Tübingen, a map of it, its regions with a style each, and two of them with one."""
    photograph = read_image(content)
    settings = choose_settings(size=SIDE, steps=80, precision="fp32")
    height, width = fit_size(photograph.size, size=SIDE)
    drawn = Image.new("RGB", (width, height), "blue")
    pen = ImageDraw.Draw(drawn)
    for points, colour in (((*_ROOFS, (1, 1), (0, 1)), "red"), (_BANK, "lime")):
        pen.polygon([(x * width, y * height) for x, y in points], fill=colour)
    places = {"blue": sky, "lime": river}
    return side_by_side(
        {
            "photograph": resize_picture(photograph, height, width),
            "map": np.asarray(drawn, np.float32),
            "a style for each colour": stylize(
                photograph, town, settings, regions=drawn, style_for=places
            ).pixels,
            "for blue and lime": stylize(
                photograph, settings=settings, regions=drawn, style_for=places
            ).pixels,
        }
    )


def draw_detail(content: str, style: str) -> Image.Image:
    """Return a portrait, what comes of it with its detail kept more and more, and its middle above at twice the size."""
    photograph, painting = read_image(content), read_image(style)
    ways: dict[str, dict[str, Any]] = {
        "laplacian weight 0": {},
        "1e-5": {"laplacian_weight": 1e-5},
        "1e-4": {"laplacian_weight": 1e-4},
        "0, content layers conv2_2:0.5,conv4_2": {"content_layers": "conv2_2:0.5,conv4_2"},
    }
    results = {
        name: stylize(
            photograph, painting, choose_settings(size=SIDE, steps=80, precision="fp32", **way)
        ).pixels
        for name, way in ways.items()
    }
    height, width = next(iter(results.values())).shape[:2]
    pictures = {"photograph": resize_picture(photograph, height, width), **results}
    middle = np.s_[: height // 2, width // 5 : width // 5 + width // 2]
    parts = {name: pixels[middle].repeat(2, 0).repeat(2, 1) for name, pixels in pictures.items()}
    return stack([side_by_side(pictures), side_by_side(parts)])


CONTROLS: dict[str, Callable[..., Image.Image]] = {
    "colours": draw_colours,
    "depth": draw_depth,
    "detail": draw_detail,
    "mask": draw_mask,
    "regions": draw_regions,
    "statistic": draw_statistic,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
