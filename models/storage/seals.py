"""Files that carry their own checksum, so that a changed byte is noticed wherever the file goes.

The sha256 is computed with a placeholder of the same length in its place.
"""

import hashlib

NO_SEAL = "nstx" * 16  # as long as a sha256 in hexadecimal, and never mistaken for one
"""Stands in a file, in front of anything like it, while the checksum is computed."""


def seal(data: bytes) -> bytes:
    """Return a file's bytes with their sha256, in hexadecimal, in the place of `NO_SEAL`."""
    return data.replace(NO_SEAL.encode(), hashlib.sha256(data).hexdigest().encode(), 1)


def seal_is_right(data: bytes, found: str) -> bool:
    """Whether a file's bytes are those that were sealed.

    Args:
        data: the whole file.
        found: the checksum that it carries.
    """
    place = data.find(found.encode()) if len(found) == len(NO_SEAL) else -1
    if place < 0:
        return False
    view = memoryview(data)  # slices of it are not copies
    digest = hashlib.sha256(view[:place])
    digest.update(NO_SEAL.encode())
    digest.update(view[place + len(found) :])
    return digest.hexdigest() == found
