"""Make the small pictures on the page of `nstx serve` that show what its controls do.

The harbour is painted like the swirls, which both are drawn by this folder's code, once with each
value that is shown.

Usage: python make_looks.py FOLDER [NAME…]
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import nstx

HERE, SIZE = Path(__file__).parent, 176
FEWER, FEWEST = {"steps": 40}, {"steps": 24}
LOOKS: dict[str, dict[str, Any]] = {
    "default": FEWER,
    "bold": {"preset": "bold", **FEWER},
    "fine": {"preset": "fine", **FEWER},
    "gatys": {"preset": "gatys", "steps": 40},
    "coursera": {"preset": "coursera", "steps": 150},
    "coursera-tf2": {"preset": "coursera-tf2", "steps": 150, "stretch": False},
    "luminance": {"colors": "luminance", **FEWER},
    "matched": {"colors": "matched", **FEWER},
    "histogram": {"colors": "histogram", **FEWEST},
    "only": {"colors": "only"},
    "weight-low": {"style_weight": 0.05, **FEWER},
    "weight-high": {"style_weight": 10.0, **FEWER},
    "strokes-low": {"style_scale": 0.4, **FEWEST},
    "strokes-high": {"style_scale": 2.0, **FEWEST},
    "detail-high": {"laplacian_weight": 1e-4, **FEWEST},
}


def main() -> None:
    """Write the pictures into the folder named on the command line, or those of them named behind it."""
    folder, *names = Path(sys.argv[1]), *sys.argv[2:]
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or LOOKS:
        chosen = {"size": SIZE, **LOOKS[name]}
        result = nstx.stylize(HERE / "harbour.jpg", HERE / "swirls.jpg", **chosen)
        image = Image.fromarray(result.pixels.round().astype(np.uint8))
        image.save(folder / f"{name}.jpg", quality=80, optimize=True)


if __name__ == "__main__":
    main()
