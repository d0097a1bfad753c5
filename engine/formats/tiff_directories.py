"""A TIFF's directories, each a page of it: a value is decoded where it is asked for, and no longer than it may be.

Libraries decode the arrays of a whole directory as they open a file, of as many numbers as it says.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from .tiff_layout import BLOCK_TAGS, Layout

Value = int | float | bytes | tuple[int | float, ...]

WIDTH, HEIGHT, KIND, OLD_KIND, PHOTOMETRIC = 256, 257, 254, 255, 262
MOST_PAGES = 64
"""That are looked at, and of those below each."""

_MOST_BLOCKS = 2**22  # strips or tiles of a picture

_MOST_TAGS = 4096  # as tifffile and libtiff have it
_MOST_NUMBERS = 3 * 2**16  # of any other tag: a palette of 16 bits has as many
_MOST_FREE_BLOCKS = 2**16  # that need not be those of the picture
_LEAST_PIXELS = 128  # of a strip or tile, where there are more than these
_BELOW, _EXIF, _GPS, _INTEROPERABILITY = 330, 34665, 34853, 40965
_TYPES = {
    1: "B", 2: "c", 3: "H", 4: "I", 5: "II", 6: "b", 7: "c", 8: "h", 9: "i", 10: "ii", 11: "f",
    12: "d", 13: "I", 16: "Q", 17: "q", 18: "Q",
}  # fmt: skip
_LARGE = 2**20  # bytes of a tag's values
_TEXT = (1, 2, 7)  # types of bytes
_DECODED = (
    254, 255, 256, 257, 258, 259, 262, 266, 274, 277, 278, 282, 283, 284, 292, 293, 296, 301, 317, 320, 322,
    323, 330, 332, 338, 339, 347, 529, 530, 531, 532, 700, 34665, 34675, 34853, 40965,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a tag's values lie: their type, how many there are, and the place of the first in the file, and its own."""

    kind: int
    count: int
    place: int
    own: int

    @property
    def length(self) -> int:
        """How many bytes its values take."""
        return self.count * struct.calcsize("=" + _TYPES[self.kind])


@dataclass(frozen=True, slots=True)
class Form:
    """How a TIFF's numbers are written: order is ``<`` or ``>``, of 64 bits in a BigTIFF."""

    order: str
    is_big: bool

    @property
    def offset(self) -> str:
        """The format of a place in the file."""
        return self.order + ("Q" if self.is_big else "I")

    @property
    def count(self) -> str:
        """The format of how many tags a directory has."""
        return self.order + ("Q" if self.is_big else "H")

    @property
    def tag(self) -> str:
        """The format of a tag: number, type, how many values, and these or their place."""
        return self.order + ("HHQ8s" if self.is_big else "HHI4s")


@dataclass(frozen=True, slots=True)
class Directory:
    """A page: where it lies, and its tags, the first of each number.

    Attributes:
        following: the place of the next directory; 0 after the last.
    """

    file: BinaryIO
    form: Form
    offset: int
    entries: dict[int, Entry]
    following: int

    def value(self, code: int) -> Value | None:
        """Return a tag's value: a number, several, or bytes of any length; None if there is none.

        Raises:
            ValueError: it has more numbers than any picture needs, or fewer than it says.
        """
        entry = self.entries.get(code)
        if entry is None:
            return None
        self._check(code, _MOST_BLOCKS if code in BLOCK_TAGS else _MOST_NUMBERS)
        letters = _TYPES[entry.kind]
        self.file.seek(entry.place)
        data = self.file.read(entry.length)
        if len(data) < entry.length:
            raise ValueError(f"tag {code} ends with the file")
        if entry.kind in _TEXT and entry.count > 1:
            return data
        numbers = struct.unpack(f"{self.form.order}{entry.count * len(letters)}{letters[0]}", data)
        return numbers[0] if len(numbers) == 1 else numbers

    def number(self, code: int, default: int = 0) -> int:
        """Return a tag's value if it is one whole number, else another."""
        value = self.value(code)
        return value if isinstance(value, int) else default

    def check(self, blocks: int) -> None:
        """Raise ValueError where arrays that decoders read have more numbers than a picture of so many strips or tiles needs.

        They read those of EXIF's directories, too. Of others they hold the bytes, as many as the file has.
        """
        for code in _DECODED:
            self._check(code, _MOST_NUMBERS)
        for code in BLOCK_TAGS:
            self._check(code, max(blocks, _MOST_FREE_BLOCKS))
        for below in self._exif():
            for code in below.entries:
                below._check(code, _MOST_NUMBERS)

    def without_unread(self, data: bytes) -> bytes:
        """Return a file's bytes in which large values that no decoder needs are a byte: Pillow and libtiff hold several copies."""
        parts, end, view = list[bytes | memoryview](), 0, memoryview(data)
        for code, entry in sorted(self.entries.items(), key=lambda item: item[1].own):
            if entry.length > _LARGE and code not in (*_DECODED, *BLOCK_TAGS):
                form, value = self.form.tag, bytes(8 if self.form.is_big else 4)
                parts += [view[end : entry.own], struct.pack(form, code, 1, 1, value)]
                end = entry.own + struct.calcsize(form)
        return b"".join((*parts, view[end:])) if parts else data

    def _exif(self) -> Iterator["Directory"]:
        """Yield the directories of EXIF, and those below them."""
        parents = [self]
        for codes in ((_EXIF, _GPS, _INTEROPERABILITY), (_INTEROPERABILITY,)):
            places = [page.number(code) for page in parents for code in codes]
            read = [_read_directory(self.file, self.form, place) for place in places]
            parents = [page for page in read if page is not None]
            yield from parents

    def _check(self, code: int, most: int) -> None:
        entry = self.entries.get(code)
        if entry is not None and entry.count > most and entry.kind not in _TEXT:
            raise ValueError(f"tag {code} has {entry.count} numbers")


@dataclass(frozen=True, slots=True)
class Pages:
    """What a file has: the pages that follow each other, and those below them."""

    form: Form
    chain: tuple[Directory, ...]
    below: tuple[Directory, ...]


def check_blocks(layout: Layout) -> int:
    """Return how many strips or tiles a picture has.

    Raises:
        ValueError: they are more than are sensible for its pixels.
    """
    across, down = layout.blocks
    blocks = across * down * layout.planes
    fair = layout.width * layout.height * layout.planes // _LEAST_PIXELS
    if blocks > min(_MOST_BLOCKS, max(_MOST_FREE_BLOCKS, fair)):
        raise ValueError(f"{blocks} strips or tiles of {layout.width}×{layout.height} pixels")
    return blocks


def read_pages(file: BinaryIO) -> Pages:
    """Return the first pages of a file.

    Raises:
        ValueError: it has none, or the first is damaged.
    """
    file.seek(0)
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        raise ValueError("its header does not fit")
    is_big = struct.unpack(order + "H", head[2:4])[0] == 43
    form = Form(order, is_big)
    (start,) = struct.unpack_from(form.offset, head, 8 if is_big else 4)
    chain = tuple(_follow(file, form, start))
    if not chain:
        raise ValueError("its first page is missing or damaged")
    return Pages(form, chain, tuple(_below(chain)))


def _follow(file: BinaryIO, form: Form, place: int) -> Iterator[Directory]:
    for _ in range(MOST_PAGES):
        page = _read_directory(file, form, place) if place else None
        if page is None:
            return
        yield page
        place = page.following


def _below(chain: tuple[Directory, ...]) -> Iterator[Directory]:
    for page in chain:
        places = page.value(_BELOW)
        for place in (places if isinstance(places, tuple) else (places,))[:MOST_PAGES]:
            below = _read_directory(page.file, page.form, place) if isinstance(place, int) else None
            if below is not None:
                yield below


def _read_directory(file: BinaryIO, form: Form, place: int) -> Directory | None:
    """Return the directory at a place; None where there is none that can be one."""
    length = file.seek(0, 2)
    first, size = struct.calcsize(form.count), struct.calcsize(form.tag)
    if not 8 <= place < length:
        return None
    file.seek(place)
    head = file.read(first)
    if len(head) < first or (count := struct.unpack(form.count, head)[0]) > _MOST_TAGS:
        return None
    data = file.read(count * size)
    if len(data) < count * size:
        return None
    entries: dict[int, Entry] = {}
    inline = struct.calcsize(form.offset)
    for index, (code, kind, number, value) in enumerate(struct.iter_unpack(form.tag, data)):
        if kind not in _TYPES or code in entries:
            continue
        own = place + first + index * size
        entry = Entry(kind, number, own + size - inline, own)
        if entry.length > inline:
            entry = replace(entry, place=struct.unpack(form.offset, value)[0])
        if entry.place >= 8 and entry.place + entry.length <= length:
            entries[code] = entry
    tail = file.read(inline)
    following = struct.unpack(form.offset, tail)[0] if len(tail) == inline else 0
    return Directory(file, form, place, entries, following)
