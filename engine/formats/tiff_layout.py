"""What a TIFF's page says of its samples by its tags, checked in one place: `read_layout`."""

from dataclasses import dataclass
from typing import Any

PageTags = dict[int, Any]
"""The values of a page's tags, by their numbers."""

LAYOUT_TAGS = (
    256, 257, 258, 259, 262, 266, 277, 278, 284, 317, 322, 323, 338, 339,
)  # fmt: skip
"""The tags that `read_layout` goes by, and `BLOCK_TAGS`."""

BLOCK_TAGS = (273, 279, 324, 325)
"""Places and lengths of strips and of tiles, as many as there are."""

COLOURS = {0: 1, 1: 1, 2: 3, 5: 4}
"""Samples of a pixel without the extra ones, by kinds of colours."""

_ASSOCIATED, _UNASSOCIATED = 1, 2
UNSIGNED, _UNDEFINED = 1, 4


@dataclass(frozen=True, slots=True)
class Layout:
    """How the pixels of a page lie in its file.

    Attributes:
        planes: 1, or the number of samples of a pixel if they lie apart.
        bits: of a sample.
        block: width and height of a strip or tile, in pixels.
        offsets, counts: places and lengths of the strips or tiles in bytes, plane by plane.
        order: ``<`` or ``>``.
    """

    width: int
    height: int
    samples: int
    planes: int
    bits: int
    sample_format: int
    photometric: int
    compression: int
    predictor: int
    fill_order: int
    extra: tuple[int, ...]
    block: tuple[int, int]
    tiled: bool
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    order: str

    @property
    def blocks(self) -> tuple[int, int]:
        """How many strips or tiles lie side by side, and one below the other."""
        return -(-self.width // self.block[0]), -(-self.height // self.block[1])

    @property
    def alpha(self) -> int | None:
        """The index of the sample that is alpha, and None if none is."""
        colours = COLOURS[self.photometric]
        kinds = self.extra
        if not kinds and self.photometric == 2 and self.samples == 4:
            return 3  # written by programs that leave out what it is
        alphas = [i for i, kind in enumerate(kinds) if kind in (_ASSOCIATED, _UNASSOCIATED)]
        return colours + alphas[0] if alphas and self.photometric != 5 else None

    @property
    def is_premultiplied(self) -> bool:
        """Whether the colours are multiplied by the alpha beside them."""
        if self.alpha is None:
            return False
        return self.extra[self.alpha - COLOURS[self.photometric] :][:1] == (_ASSOCIATED,)


def read_layout(tags: PageTags, order: str) -> Layout:
    """Return what a page's tags say of its pixels.

    Raises:
        ValueError: they say what cannot be.
    """
    width, height = _whole(tags, 256, None), _whole(tags, 257, None)
    photometric, samples = _whole(tags, 262, 0, least=0), _whole(tags, 277, 1)
    sample_format = _same(tags, 339, UNSIGNED)
    tiled = 322 in tags
    strip = (width, min(_whole(tags, 278, height), height))
    block = (_whole(tags, 322, None), _whole(tags, 323, None)) if tiled else strip
    return Layout(
        width=width,
        height=height,
        samples=samples,
        planes=samples if _whole(tags, 284, 1) == 2 else 1,
        bits=_same(tags, 258, 1),
        sample_format=UNSIGNED if sample_format == _UNDEFINED else sample_format,
        photometric=photometric,
        compression=_whole(tags, 259, 1),
        predictor=_whole(tags, 317, 1),
        fill_order=_whole(tags, 266, 1),
        extra=_tuple(tags, 338),
        block=block,
        tiled=tiled,
        offsets=_tuple(tags, 324 if tiled else 273),
        counts=_tuple(tags, 325 if tiled else 279),
        order=order,
    )


def _whole(tags: PageTags, code: int, default: int | None, least: int = 1) -> int:
    value = tags.get(code, default)
    if not isinstance(value, int) or value < least:
        raise ValueError(f"tag {code} is {value!r:.40}")
    return int(value)


def _tuple(tags: PageTags, code: int) -> tuple[int, ...]:
    value = tags.get(code, ())
    values = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(item, int) and item >= 0 for item in values):
        raise ValueError(f"tag {code} is {value!r:.40}")
    return values


def _same(tags: PageTags, code: int, default: int) -> int:
    """Return a number that is the same for all samples of a pixel."""
    values = set(_tuple(tags, code)) or {default}
    if len(values) > 1:
        raise ValueError(f"tag {code} differs among the samples: {sorted(values)}")
    return values.pop()
