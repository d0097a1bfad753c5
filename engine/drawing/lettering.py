"""Type on sheets: one line at a time, in Pillow's own font."""

import unicodedata
from functools import cache

from PIL import ImageDraw, ImageFont
from PIL.ImageFont import FreeTypeFont
from PIL.ImageFont import ImageFont as BitmapFont

Ink = tuple[int, int, int]
INK, FAINT, PAPER = (20, 20, 20), (90, 90, 90), (255, 255, 255)

_LEADING = 1.35
# Letters that are no letter of ASCII with an accent.
_LIKE = str.maketrans("×–’øØłŁ", "x-'oOlL") | str.maketrans({"ß": "ss", "æ": "ae", "œ": "oe"})


def plain(text: str) -> str:
    """Return a text in the characters that Pillow's own font has: those of ASCII.

    Accents are dropped, and a character without an equivalent becomes a question mark.
    """
    letters = unicodedata.normalize("NFKD", text.translate(_LIKE))
    bare = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return bare.encode("ascii", "replace").decode()


def line_height(size: int) -> int:
    """Return the height of a line of type of a size, both in pixels."""
    return round(size * _LEADING)


def line_width(text: str, size: int) -> float:
    """Return the width of a text in type of a size, both in pixels."""
    return _font(size).getlength(plain(text))


@cache
def _font(size: int) -> FreeTypeFont | BitmapFont:
    return ImageFont.load_default(size)


def draw_line(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    text: str,
    size: int,
    room: int,
    ink: Ink = INK,
) -> None:
    """Draw a line of type, without its middle if it is wider than the room.

    Corner (left, upper), size and room are in pixels, the ink is RGB, and the text is `plain`.
    """
    text = shown = plain(text)
    font, length = _font(size), len(text)
    while length > 2 and font.getlength(shown) > room:
        length -= 1
        shown = f"{text[: (length + 1) // 2]}…{text[len(text) - length // 2 :]}"
    draw.text(corner, shown, ink, font)
