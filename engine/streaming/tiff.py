"""Bands of a TIFF: each some rows of strips or tiles, read as if it were a picture of its own."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from nstx.models.errors import ImageError
from nstx.models.printable import printable

from ..formats.identify import TIFF
from ..formats.tiff_layout import Layout
from ..pictures.decoding import check_pixels, refuse_damaged
from ..pictures.samples import Samples
from ..pictures.tiff_samples import find_range, read_samples
from .bands import BAND, Band, Bands
from .file_bytes import FileBytes

if TYPE_CHECKING:
    from ..pictures.tiff import Page

_READABLE = (0, 1, 2, 5)  # photometric interpretations: greys, RGB, CMYK
_MOST_BAND = 2**28  # bytes of a row of strips or tiles
_MOST_BYTES_A_BYTE = 2**14  # of samples, of a file, whose strips may be one and the same


def open_tiff(file: BinaryIO, path: Path, most_pixels: int) -> Bands:
    """Return the picture of a TIFF as bands; `ImageError` if it is damaged, or of a kind that is read whole alone."""
    page = read_tiff_page(file, path)
    layout = _split_strips(page.layout)
    data = FileBytes(file)
    _check_layout(layout, len(data), path, most_pixels)
    span = find_range(data, layout, path)

    def read() -> Iterator[Band]:
        for part in _parts(layout):
            band = read_samples(data, part, path, most_pixels, span)
            if isinstance(band, Samples):
                band = replace(band, profile=page.profile, doubt=span.doubt)
            elif page.profile is not None:
                band.info["icc_profile"] = page.profile
            yield from _cut(band)
            del band  # before there is another

    return Bands(
        size=(layout.height, layout.width),
        read=read,
        orientation=page.orientation,
        doubt=span.doubt,
    )


def _cut(band: Band) -> Iterator[Band]:
    """Yield a band of which a strip makes more than others as several, as a picture made of it takes as much again."""
    if isinstance(band, Samples):
        (height, width), samples = band.values.shape[:2], band
        step = max(1, BAND // width)
        for top in range(0, height, step):
            yield replace(samples, values=samples.values[top : top + step])
        return
    step = max(1, BAND // band.width)
    if step >= band.height:
        yield band
        return
    for top in range(0, band.height, step):
        part = band.crop((0, top, band.width, min(band.height, top + step)))
        part.info = band.info
        yield part


def read_tiff_page(file: BinaryIO, path: Path) -> "Page":
    """Return what a TIFF says of its picture; the file stays open."""
    file.seek(0)
    from ..pictures.tiff import read_page  # few pictures need it

    return read_page(file, path)


def _check_layout(layout: Layout, length: int, path: Path, most_pixels: int) -> None:
    across, down = layout.blocks
    samples = layout.samples
    if layout.photometric not in _READABLE:
        raise ImageError(
            f"expected a large picture in grey, RGB or CMYK in {printable(path)}, got a TIFF of "
            f"PhotometricInterpretation {layout.photometric}; try to save it as such, or as PNG"
        )
    width, height = layout.block
    # Samples of fewer bits than a byte have one here.
    rows = across * width * height * samples * max(8, layout.bits) // 8
    if rows > _MOST_BAND:
        raise ImageError(
            f"expected strips or tiles of at most {_MOST_BAND >> 20} MiB a row in {printable(path)}, got "
            f"{rows >> 20} MiB; try to save it with smaller ones"
        )
    check_pixels((across * width, down * height), length, TIFF, path, most_pixels)
    if rows * down > max(_MOST_BAND, _MOST_BYTES_A_BYTE * length):
        refuse_damaged(path, TIFF, f"{rows * down >> 30} GiB of samples in {length} bytes")
    if min(len(layout.offsets), len(layout.counts)) < across * down * layout.planes:
        refuse_damaged(path, TIFF, "strips or tiles are missing")


def _split_strips(layout: Layout) -> Layout:
    """Return a layout whose strips are short: those of bytes that nothing compresses can be split anywhere."""
    if layout.compression != 1 or layout.tiled or layout.planes != 1 or not layout.offsets:
        return layout
    rows = max(1, BAND // layout.width)
    height = layout.block[1]
    if rows >= height:
        return layout
    stride = (layout.width * layout.samples * layout.bits + 7) // 8
    starts, counts = list[int](), list[int]()
    strips = min(len(layout.offsets), layout.blocks[1])
    if strips != 1:
        return layout  # strips of many rows; `_check_layout` bounds them
    for top in range(0, layout.height, rows):
        starts.append(layout.offsets[0] + top * stride)
        counts.append(min(rows, layout.height - top) * stride)
    return replace(layout, block=(layout.width, rows), offsets=tuple(starts), counts=tuple(counts))


def _parts(layout: Layout) -> Iterator[Layout]:
    """Yield the layouts of bands, from the top down."""
    across, down = layout.blocks
    step = max(1, BAND // (across * layout.block[0] * layout.block[1]))
    every = across * down
    for first in range(0, down, step):
        last = min(down, first + step)
        spans = [
            slice(plane * every + first * across, plane * every + last * across)
            for plane in range(layout.planes)
        ]
        rows = layout.block[1]
        yield replace(
            layout,
            height=min(layout.height, last * rows) - first * rows,
            offsets=tuple(value for span in spans for value in layout.offsets[span]),
            counts=tuple(value for span in spans for value in layout.counts[span]),
        )
