"""Tensors in files that ``torch.save`` wrote, read without PyTorch and without running their code.

Both formats in circulation are a pickle of the object in which each tensor refers to a storage: since
PyTorch 1.6 a zip archive with ``data.pkl`` and a file per storage, before that five pickles in a row
with the storages' bytes behind them. The pickle says where a tensor's numbers lie and how many there
are (`nstx.models.weights.pickles`); they are read when they are asked for, and only from where the
file has as many.
"""

import contextlib
import io
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .entries import Entry, widen_bfloat16
from .pickles import MOST_PICKLED, Pickled, Stored, read_pickle, tensor_of

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001

# NumPy has no bfloat16: it is the upper half of a float32.
_BFLOAT16 = "BFloat16Storage"
_STORAGES: dict[str, np.dtype[Any]] = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    _BFLOAT16: np.dtype("<u2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}

# What zipfile raises for a damaged archive, RuntimeError for an encrypted one.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, OSError, OverflowError,
    RuntimeError, UnicodeDecodeError,
)  # fmt: skip
_KINDS_OF_ZIP = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others unpack without bounds
_PIECE = 1 << 20  # bytes read at once, and the most that an archive's directory may take
_DEEPEST, _MOST_NAMES, _LONGEST_NAME = 4, 20_000, 256

_Find = Callable[[Stored, int, int], bytes]
"""Reads a storage's bytes, from one place in it to another."""


def read_torch_file(file: BinaryIO) -> dict[str, Entry]:
    """Return the tensors of a file of ``torch.save``; else ValueError.

    Dictionaries within dictionaries become names with dots. The file must stay open while tensors
    are read, which may raise ValueError, too.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    is_archive = file.read(2) == b"PK"
    file.seek(0)
    with _damage():
        value, find = (_open_archive if is_archive else _open_legacy)(file, size)
    if type(value) is not dict:
        raise ValueError(f"it is a {type(value).__name__} and no state dict")
    return {name: _entry(tensor, find) for name, tensor in _flatten(value)}


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise ValueError(f"it is damaged ({error})") from error


class _Pieces:
    """A file that is read in small pieces only: an archive's directory may claim gigabytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, count: int = -1) -> bytes:
        data = self._file.read(count if 0 <= count <= _PIECE else _PIECE + 1)
        if len(data) > _PIECE:
            raise zipfile.BadZipFile("its directory is too large")
        return data

    def close(self) -> None:
        """Leave the file open, which is not this class's."""


def _open_archive(file: BinaryIO, size: int) -> tuple[Any, _Find]:
    archive = zipfile.ZipFile(_Pieces(file))
    pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        kind = "of Keras" if "model.weights.h5" in archive.namelist() else "not of torch.save"
        raise ValueError(f"it is a zip archive, but {kind}")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in archive.namelist():
        raise ValueError(
            "it is a whole model of TorchScript; try torch.save(model.state_dict(), …)"
        )
    order = f"{folder}byteorder"
    if order in archive.namelist() and _unpack(archive, order, 16) != b"little":
        raise ValueError("it was written on a big-endian machine")

    def find(storage: Stored, start: int, end: int) -> bytes:
        name = f"{folder}data/{storage.key}"
        held = archive.getinfo(name).file_size
        if held != storage.count * _dtype(storage).itemsize:
            raise ValueError(f"a storage of {storage.count} numbers has {held} bytes")
        # Numbers of a network hardly shrink when they are packed.
        return _unpack(archive, name, 2 * size, start, end)

    return read_pickle(io.BytesIO(_unpack(archive, pickles[0], MOST_PICKLED))), find


def _open_legacy(file: BinaryIO, size: int) -> tuple[Any, _Find]:
    head = io.BytesIO(file.read(MOST_PICKLED))
    if read_pickle(head) != _MAGIC or read_pickle(head) != _PROTOCOL:
        raise ValueError("it was not written by torch.save")
    system = read_pickle(head)
    if type(system) is not dict or system.get("little_endian") is not True:
        raise ValueError("it was written on a big-endian machine")
    storages: dict[str, Stored] = {}
    value = read_pickle(head, storages)
    keys = read_pickle(head)
    starts: dict[str, tuple[int, int]] = {}
    place = head.tell()
    for key in keys if type(keys) is list else []:
        if type(key) is not str or key not in storages:
            raise ValueError("it has a storage that no tensor names")
        file.seek(place)
        (count,) = struct.unpack("<q", file.read(8))
        starts[key] = place + 8, place + 8 + count * _dtype(storages[key]).itemsize
        place = starts[key][1]
        if count != storages[key].count or place > size:
            raise ValueError("it ends too soon, or a storage is larger than the file")

    def find(storage: Stored, start: int, end: int) -> bytes:
        first, last = starts[storage.key]
        if first + end > last:
            raise ValueError("a tensor reaches beyond its storage")
        file.seek(first + start)
        return file.read(end - start)

    return value, find


def _unpack(
    archive: zipfile.ZipFile, name: str, most: int, start: int = 0, end: int | None = None
) -> bytes:
    """Return an entry's bytes, or some of them, if unpacked it has ``most`` bytes or fewer."""
    info = archive.getinfo(name)
    if info.file_size > most or info.compress_type not in _KINDS_OF_ZIP:
        raise ValueError(f"its entry {name[-40:]} unpacks to {info.file_size} bytes")
    data, count = bytearray(), (info.file_size if end is None else end) - start
    with archive.open(info) as entry:
        place = 0  # by pieces: up to Python 3.12 seeking reads all that is in between at once
        while place < start and (after := entry.seek(min(start, place + _PIECE))) > place:
            place = after
        while len(data) < count and (piece := entry.read(min(_PIECE, count - len(data)))):
            data += piece
    return bytes(data)


def _flatten(value: dict[Any, Any]) -> Iterator[tuple[str, Pickled]]:
    """Yield every tensor of dictionaries within dictionaries, which may hold themselves."""
    waiting: list[tuple[str, Any, int]] = [("", value, 0)]
    for _ in range(_MOST_NAMES):
        if not waiting:
            return
        name, held, depth = waiting.pop()
        if tensor := tensor_of(held):
            yield name, tensor
        elif type(held) is dict and depth < _DEEPEST:
            if len(waiting) + len(held) > _MOST_NAMES:
                break
            if any(len(name) + len(str(key)) > _LONGEST_NAME for key in held):
                raise ValueError("it has a name that is too long")
            start = f"{name}." if name else ""
            waiting += [(start + str(key), item, depth + 1) for key, item in held.items()][::-1]
    raise ValueError("it has too many names")


def _dtype(storage: Stored) -> "np.dtype[Any]":
    if storage.kind not in _STORAGES:
        raise ValueError(f"it holds a {storage.kind[:40]}, whose numbers NumPy does not have")
    return _STORAGES[storage.kind]


def _entry(tensor: Pickled, find: _Find) -> Entry:
    def read() -> NDArray[Any]:
        with _damage():
            return _read(tensor, find)

    return Entry(tensor.size, read)


def _read(tensor: Pickled, find: _Find) -> NDArray[Any]:
    """Read a tensor whose numbers lie one after another, its axes in any order.

    What repeats numbers by a stride of 0 may claim more than there is memory, and is no weights.
    """
    size, dtype = tensor.size, _dtype(tensor.storage)
    if math.prod(size) > tensor.storage.count - tensor.offset:
        raise ValueError("a tensor reaches beyond its storage")
    axes = sorted((a for a in range(len(size)) if size[a] != 1), key=lambda a: -tensor.stride[a])
    step = count = math.prod(size)
    for axis in axes:
        step //= max(size[axis], 1)
        if tensor.stride[axis] != step and count:
            raise ValueError("a tensor's numbers do not lie one after another")
    data = find(
        tensor.storage, tensor.offset * dtype.itemsize, (tensor.offset + count) * dtype.itemsize
    )
    numbers = np.frombuffer(data, dtype)
    if tensor.storage.kind == _BFLOAT16:
        numbers = widen_bfloat16(numbers)
    return numbers.reshape([size[a] for a in axes]).transpose(np.argsort(axes)).reshape(size)
