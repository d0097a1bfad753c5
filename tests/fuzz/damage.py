"""What can happen to bytes of any kind: cut, flipped, overwritten, moved, mixed with others."""

import struct
from collections.abc import Callable, Sequence
from random import Random

NUMBERS = (0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 32767, 32768, 65535, 65536)
LARGE = (2**24, 2**29, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**63 - 1, 2**63, 2**64 - 1)

# A file name is an outside string, too.
STEMS = (
    "a",
    "a",
    "a",
    "with space",
    "\x1b[2Ja",
    "a\nb",
    "\x1b]0;t\x07",
    "é",
    "\udcff",
    "-a",
    "a:2",
)


def number(random: Random) -> int:
    """Return a number at which something usually ends, or any."""
    if random.random() < 0.5:
        return random.choice((*NUMBERS, *LARGE))
    return random.getrandbits(random.choice((4, 8, 16, 32, 64)))


def packed(random: Random) -> bytes:
    """Return such a number as 1 to 8 bytes of either order."""
    letter = random.choice("BHIQ")
    value = number(random) % (1 << (8 * struct.calcsize(f"<{letter}")))
    return struct.pack(random.choice("<>") + letter, value)


def cut(data: bytes, random: Random) -> bytes:
    """Cut off the end."""
    return data[: _place(data, random)]


def flip(data: bytes, random: Random) -> bytes:
    """Change single bits."""
    out = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8, 64))):
        if out:
            out[_place(data, random)] ^= 1 << random.randrange(8)
    return bytes(out)


def overwrite(data: bytes, random: Random) -> bytes:
    """Put a number in the place of some bytes."""
    value, start = packed(random), _place(data, random)
    return data[:start] + value + data[start + len(value) :]


def insert(data: bytes, random: Random) -> bytes:
    """Insert bytes that are random, all the same, or a piece of the rest."""
    start, length = _place(data, random), random.choice((1, 2, 4, 16, 300, 5000))
    piece = random.choice((random.randbytes(length), bytes([random.randrange(256)]) * length, data))
    return data[:start] + piece[:length] + data[start:]


def remove(data: bytes, random: Random) -> bytes:
    """Leave a piece out."""
    start = _place(data, random)
    return data[:start] + data[start + random.choice((1, 2, 4, 16, 300)) :]


def move(data: bytes, random: Random) -> bytes:
    """Copy a piece over another."""
    source, target = _place(data, random), _place(data, random)
    piece = data[source : source + random.choice((4, 16, 300, 5000))]
    return data[:target] + piece + data[target + len(piece) :]


def _place(data: bytes, random: Random) -> int:
    # What a file says of itself stands in front, or at the end.
    length = max(1, len(data))
    if random.random() < 0.5:
        return random.randrange(min(length, random.choice((16, 64, 512))))
    if random.random() < 0.2:
        return length - 1 - random.randrange(min(length, 64))
    return random.randrange(length)


_MUTATORS: Sequence[Callable[[bytes, Random], bytes]] = (
    cut, flip, flip, overwrite, overwrite, insert, remove, move,
)  # fmt: skip


def damage(data: bytes, random: Random) -> tuple[str, bytes]:
    """Return what was done, and the bytes after it: one to three changes."""
    names = []
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        mutate = random.choice(_MUTATORS)
        names.append(mutate.__name__)
        data = mutate(data, random)
    return "+".join(names), data


def splice(first: bytes, second: bytes, random: Random) -> tuple[str, bytes]:
    """Return the beginning of one file with the end of another."""
    return "splice", first[: _place(first, random)] + second[_place(second, random) :]
