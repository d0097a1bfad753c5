"""Reading TIFF: which of a file's pictures is the picture, and which decoder reads it rightly.

Pillow reads samples of up to 8 bits. It mistakes some of those with more, and those that lie in
planes; `read_samples` reads these.
"""

import io
import logging
import os
import re
import struct
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from nstx.models.errors import ImageError
from nstx.models.printable import printable

from ..formats.identify import TIFF
from ..formats.tiff_directories import (
    HEIGHT,
    KIND,
    MOST_PAGES,
    OLD_KIND,
    PHOTOMETRIC,
    WIDTH,
    Directory,
    Pages,
    check_blocks,
    read_pages,
)
from ..formats.tiff_layout import BLOCK_TAGS, LAYOUT_TAGS, Layout, PageTags, read_layout
from .decoding import (
    DECODER_ERRORS,
    check_pixels,
    load_image,
    refuse_damaged,
    turn_image,
    turn_upright,
)
from .samples import Samples
from .tiff_samples import read_samples

_log = logging.getLogger("nstx")

_REDUCED, _MULTIPLE, _MASK = 1, 2, 4  # bits of NewSubfileType
_RAW = {32803: "the raw mosaic", 34892: "the raw values"}
_NOT_READ = {4: "a mask", 8: "CIELab", 9: "ICCLab", 10: "ITULab", 32844: "LogL", 32845: "LogLuv"}
_JPEG, _FAX = (6, 7), (2, 3, 4)
_BARE = (1, 32773)  # no compression and PackBits, of which libtiff undoes no predictor
_ORIENTATION, _COLOUR_MAP, _SUBSAMPLING, _PROFILE = 274, 320, 530, 34675
_PALETTE, _YCBCR = 3, 6

_COMPLAINT = re.compile(
    rb"((?:_?TIFF|O?JPEG|Fax|LZW|ZIP|ZSTD|LZMA|LERC|WebP|Pixar|SGILog|Log|Predictor|PackBits|Dump|NeXT|Thunder)\w*"
    rb"|tempfile\.tif): ([^\r\n]*\.)\s*$"
)
"""The end of a line of libtiff's: one of its functions, or the name that Pillow gives the file, and what is wrong."""

_one_at_a_time = threading.Lock()  # stderr is the whole process's


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The page of a TIFF that is its picture.

    Attributes:
        layout: how its pixels lie in the file.
        tags: that `Layout` and readers go by.
        directory: where it lies in the file.
        is_first: whether it is the file's first page.
        is_big: whether the file is a BigTIFF.
        has_photometric: whether it says what its colours are, or need not.
    """

    layout: Layout
    tags: PageTags
    directory: Directory
    is_first: bool
    is_big: bool
    has_photometric: bool

    @property
    def orientation(self) -> object:
        """EXIF's number of how it is to be turned, as far as it says so."""
        return self.tags.get(_ORIENTATION)

    @property
    def profile(self) -> bytes | None:
        """Its ICC profile."""
        profile = self.tags.get(_PROFILE)
        return profile if isinstance(profile, bytes) else None


def read_page(opened: BinaryIO, path: Path) -> Page:
    """Return what an opened TIFF says of the page that `read_tiff` reads; `ImageError` if that cannot be."""
    try:
        pages = read_pages(opened)
        page = _choose_page(pages, path)
        tags = _read_tags(page, (*LAYOUT_TAGS, _ORIENTATION, _COLOUR_MAP, _SUBSAMPLING, _PROFILE))
        has_photometric = PHOTOMETRIC in tags or tags.get(259) in _FAX
        if not has_photometric:  # as libtiff has it
            tags[PHOTOMETRIC] = 2 if tags.get(277, 1) in (3, 4) else 1
        layout = read_layout(tags, pages.form.order)
        page.check(check_blocks(layout))  # before arrays are read, here or by other decoders
        tags |= _read_tags(page, BLOCK_TAGS)
        return Page(
            layout=read_layout(tags, pages.form.order),
            tags=tags,
            directory=page,
            is_first=page.offset == pages.chain[0].offset,
            is_big=pages.form.is_big,
            has_photometric=has_photometric,
        )
    except DECODER_ERRORS as error:
        refuse_damaged(path, TIFF, error, error)


def _read_tags(page: Directory, codes: tuple[int, ...]) -> PageTags:
    values = {code: page.value(code) for code in codes}
    return {code: value for code, value in values.items() if value is not None}


def read_tiff(data: bytes, path: Path, most_pixels: int) -> Image.Image | Samples:
    """Return the picture of a TIFF, upright; of 8 bits a channel, with its profile in ``info``.

    It is the first page that does not say of itself that it is a reduced copy of another, such as
    a thumbnail; of a DNG, the largest that is no raw data. Samples of more than 8 bits keep them all,
    see `read_samples`.

    Raises:
        ImageError: its pixels are damaged or too many, raw, or of a kind that is not read.
    """
    page = read_page(io.BytesIO(data), path)
    layout, tags = page.layout, page.tags
    check_pixels((layout.width, layout.height), len(data), TIFF, path, most_pixels)
    kind = _NOT_READ.get(layout.photometric)
    if (layout.photometric, layout.compression) == (_YCBCR, 1):
        halves = tags.get(_SUBSAMPLING, (2, 2))
        whole = halves == (1, 1) and layout.planes == 1
        kind = None if whole else "uncompressed YCbCr in planes or with fewer colours than pixels"
    if kind:
        raise ImageError(
            f"expected RGB, grey, palette or CMYK in {printable(path)}, got a TIFF of {kind}; "
            "try to save it as PNG"
        )
    first = page.directory.without_unread(data)
    if not page.is_first:
        first = _with_first_page(first, page.directory.offset, page.is_big)
    try:
        with _libtiff_lines() as lines:
            image = (
                _load_with_pillow(first, layout, path, most_pixels)
                if page.has_photometric
                else None
            )
            if image is not None and layout.photometric == _PALETTE:
                _widen_palette(image, tags.get(_COLOUR_MAP))
            picture = image or _read_samples(data, page, path, most_pixels)
    except DECODER_ERRORS as error:
        refuse_damaged(path, TIFF, error, error)
    if lines:
        _log.warning(
            "%s: libtiff complains (%s); parts of the picture may be damaged",
            printable(path), printable(lines[0])[:200],
        )  # fmt: skip
    return picture if isinstance(picture, Samples) else turn_upright(picture, path)


def _read_samples(data: bytes, page: Page, path: Path, most_pixels: int) -> Image.Image | Samples:
    """Return what `read_samples` does, with the page's profile, turned as its tag says."""
    picture = read_samples(data, page.layout, path, most_pixels)
    if isinstance(picture, Samples):
        return replace(picture, profile=page.profile).turned(page.orientation)
    if page.profile is not None:
        picture.info["icc_profile"] = page.profile
    return turn_image(picture, page.orientation)


def _load_with_pillow(
    data: bytes, layout: Layout, path: Path, most_pixels: int
) -> Image.Image | None:
    """Return the first page as Pillow reads it; None if it would not, or not rightly."""
    others = layout.compression not in _JPEG and layout.photometric in (0, 1, 2, 5)
    simple = layout.planes == 1 and layout.sample_format == 1 and len(layout.extra) <= 1
    simple = simple and (layout.predictor == 1 or layout.compression not in _BARE)
    if others and not (layout.bits <= 8 and simple):
        return None
    try:
        return load_image(data, TIFF, path, most_pixels).image
    except ImageError as error:
        if not isinstance(error.__cause__, UnidentifiedImageError):
            raise
        if others:
            return None
        raise ImageError(
            f"expected RGB, grey, palette or CMYK of 8 or 16 bits in {printable(path)}, got a TIFF "
            f"of {layout.bits} bits, PhotometricInterpretation {layout.photometric}, compression "
            f"{layout.compression}; try to save it as PNG"
        ) from error


def _widen_palette(image: Image.Image, colours: object) -> None:
    """Let a palette of 8 bits, as old programs wrote it, be read as such; Pillow takes it for black."""
    table = np.asarray(colours).reshape(3, -1)
    if image.mode in ("P", "PA") and table.any() and table.max() < 256:
        image.putpalette(table.T.astype(np.uint8).tobytes())


@contextmanager
def _libtiff_lines() -> Iterator[list[str]]:
    """Keep what libtiff writes on stderr off the terminal; the list holds the first line of it at the end.

    There is no other way to it from Python. What else is written meanwhile, such as progress, comes after.
    """
    lines: list[str] = []

    def restore(terminal: int, caught: BinaryIO) -> None:
        os.dup2(terminal, 2)
        caught.seek(0)
        for line in caught:
            complaint = _COMPLAINT.search(line)
            with suppress(OSError):  # what a spinner has left before it is not libtiff's
                os.write(2, line[: complaint.start()] if complaint else line)
            if complaint and not lines:
                lines.append(b": ".join(complaint.groups()).decode(errors="replace"))

    with _one_at_a_time, ExitStack() as stack:
        with suppress(OSError):  # stderr is closed, or no folder takes temporary files
            caught = stack.enter_context(tempfile.TemporaryFile())
            terminal = os.dup(2)
            stack.callback(os.close, terminal)
            os.dup2(caught.fileno(), 2)
            stack.callback(restore, terminal, caught)
        yield lines


def _choose_page(pages: Pages, path: Path) -> Directory:
    every = [*pages.chain, *pages.below][:MOST_PAGES]
    whole = [page for page in every if not _kind(page) & (_REDUCED | _MASK)]
    raw = [page for page in whole if page.number(PHOTOMETRIC) in _RAW]
    if raw:
        whole = [page for page in whole if page not in raw]
        if not whole:
            raise ImageError(
                f"expected a developed picture in {printable(path)}, got "
                f"{_RAW[raw[0].number(PHOTOMETRIC)]} of a camera; try to export it as JPEG or 16-bit TIFF"
            )
    elif whole and whole[0] in pages.chain:
        return whole[0]  # pages of a document or of a stack are equals
    return max(whole or every, key=lambda page: page.number(WIDTH) * page.number(HEIGHT))


def _kind(page: Directory) -> int:
    """Return the bits of NewSubfileType; those of the old SubfileType where that is missing."""
    return page.number(KIND) or {2: _REDUCED, 3: _MULTIPLE}.get(page.number(OLD_KIND), 0)


def _with_first_page(data: bytes, offset: int, big: bool) -> bytes:
    """Return a TIFF whose first page is the one at an offset, for readers that begin there."""
    order = "<" if data[:2] == b"II" else ">"
    if big:
        return data[:8] + struct.pack(order + "Q", offset) + data[16:]
    return data[:4] + struct.pack(order + "I", offset) + data[8:]
