"""Make the pictures that the gallery is of: two contents and three styles.

The contents are the harbour of `make_examples.py` and a nearer view of its town; the styles are its
swirls, and two more that the same brushes paint in other colours and along other flows.

Usage: python make_gallery.py FOLDER    (writes FOLDER/contents and FOLDER/styles)
"""

import sys
from pathlib import Path
from typing import Any

import swirls
from PIL import Image

CANDLE = "7a1f12 c9441f f08a2c fbc65a fff0c0"
ROSE = "5a1038 a32a5a d9628a f0a8b4 fde3dc"
LEAF = "12281a 2c5a2a 5f8f3a a8bf58 e8e8a8"

STYLES: dict[str, dict[str, Any]] = {
    "swirls": {},
    # Warm, in few broad strokes, with one large sun.
    "embers": {
        "NIGHT": "2a0a12 5a1018 9a2418 d0501c ee8e32 f8c870",
        "VORTICES": [(2.0, 1.1, 1.0, 1.0, CANDLE), (3.6, 0.5, 0.35, -1.0, ROSE)],
        "HILLS": [(2.55, 0.16, 1.2, 1.0, ROSE)],
        "BRUSHES": [(1400, 0.60, 0.140), (2200, 0.40, 0.085), (900, 0.25, 0.045)],
    },
    # Pale and green, in many short dabs, without a horizon.
    "garden": {
        "NIGHT": "1f4a3a 3f7a4a 7aa85a b8cc8a e6e8c0 f6f2e4",
        "VORTICES": [
            (
                0.7 + 1.25 * (n % 3) + 0.35 * (n // 3 % 2),
                0.45 + 0.7 * (n // 3),
                0.3,
                (-1.0) ** n,
                tone,
            )
            for n, tone in enumerate((ROSE, LEAF, CANDLE) * 4)
        ],
        "HILLS": [],
        "BRUSHES": [(2500, 0.16, 0.075), (7000, 0.10, 0.045), (6000, 0.07, 0.030)],
    },
}
NEARER = (260, 60, 800, 465)  # left, top, right, bottom, of 800×600


def main() -> None:
    """Write the pictures into the folder named on the command line."""
    contents, styles = (Path(sys.argv[1]) / name for name in ("contents", "styles"))
    for folder in (contents, styles):
        folder.mkdir(parents=True, exist_ok=True)
    with Image.open(Path(__file__).parent / "harbour.jpg", formats=["JPEG"]) as harbour:
        harbour.save(contents / "harbour.png")
        harbour.crop(NEARER).save(contents / "town.png")
    usual = {name: getattr(swirls, name) for name in ("NIGHT", "VORTICES", "HILLS", "BRUSHES")}
    for name, changes in STYLES.items():
        for variable, value in {**usual, **changes}.items():
            setattr(swirls, variable, value)
        swirls.draw_swirls().save(styles / f"{name}.png")


if __name__ == "__main__":
    main()
