"""Tensors in files that ``torch.save`` wrote, read without PyTorch and without running their code.

Both formats in circulation are a pickle of the object in which each tensor refers to a storage: since
PyTorch 1.6 a zip archive with ``data.pkl`` and a file per storage, before that five pickles in a row
with the storages' bytes behind them. The unpickler here knows dictionaries, numbers, strings and
tensors; whatever else a file names is refused. What it cannot refuse is what exhausts Python's own
unpickler, such as tuples nested millions deep: that ends the process.
"""

import io
import math
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001

_STORAGES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}

# What a damaged pickle or archive can lead to.
_DAMAGE = (
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    zlib.error,
)

# Far more than the description of any network takes; a deflated file may claim gigabytes.
_MOST_PICKLED = 64 << 20


@dataclass(frozen=True, slots=True, eq=False)
class _Storage:
    """The numbers that tensors are views of; of a class that nothing else in a file passes for."""

    values: NDArray[Any]


class _Maker:
    """A function that a pickle may call, and whose state it cannot change."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: object) -> Any:
        return self._make(*arguments)

    def __setstate__(self, _: object) -> None:
        raise pickle.UnpicklingError("it changes a function")


def read_torch_file(path: Path) -> Any:
    """Return the tensors, dictionaries and lists of a file of ``torch.save``; else ValueError."""
    data = path.read_bytes()
    try:
        if zipfile.is_zipfile(io.BytesIO(data)):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                return _read_archive(archive)
        return _read_legacy(io.BytesIO(data), len(data))
    except (pickle.UnpicklingError, zipfile.BadZipFile, EOFError, OSError, struct.error) as error:
        raise ValueError(str(error) or "it ends too soon") from error
    except _DAMAGE as error:
        raise ValueError(f"it is damaged ({error})") from error


def _read_archive(archive: zipfile.ZipFile) -> Any:
    pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(pickles) != 1 or archive.getinfo(pickles[0]).file_size > _MOST_PICKLED:
        raise ValueError("it is a zip archive, but not of torch.save")
    pickled = pickles[0]
    folder = pickled.removesuffix("data.pkl")
    order = f"{folder}byteorder"
    if order in archive.namelist() and archive.read(order) != b"little":
        raise ValueError("it was written on a big-endian machine")

    def find_storage(key: str, kind: "np.dtype[Any]", count: int) -> _Storage:
        name = f"{folder}data/{key}"
        # Before it is read: what it takes unpacked is the file's to say.
        size = archive.getinfo(name).file_size
        if size != count * kind.itemsize:
            raise ValueError(f"a storage has {size} bytes")
        return _Storage(np.frombuffer(archive.read(name), kind))

    return _Unpickler(io.BytesIO(archive.read(pickled)), find_storage).load()


def _read_legacy(file: BinaryIO, size: int) -> Any:
    storages: dict[str, _Storage] = {}

    def find_storage(key: str, kind: "np.dtype[Any]", count: int) -> _Storage:
        if not 0 <= count * kind.itemsize <= size:
            raise ValueError("a storage is larger than the file")
        # Filled below: the tensors, which are views of it, come before the bytes.
        return storages.setdefault(key, _Storage(np.zeros(count, kind)))

    if _Unpickler(file).load() != _MAGIC or _Unpickler(file).load() != _PROTOCOL:
        raise ValueError("it was not written by torch.save")
    if not _Unpickler(file).load()["little_endian"]:
        raise ValueError("it was written on a big-endian machine")
    loaded = _Unpickler(file, find_storage).load()
    for key in _Unpickler(file).load():
        storage = storages[key].values
        (count,) = struct.unpack("<q", file.read(8))
        data = file.read(storage.nbytes)
        if count != storage.size or len(data) != storage.nbytes:
            raise ValueError("it ends too soon")
        storage[:] = np.frombuffer(data, storage.dtype)
    return loaded


class _Unpickler(pickle.Unpickler):
    """Knows the few names that tensors are pickled with, each replaced by a function of ours."""

    def __init__(
        self,
        file: BinaryIO,
        find_storage: "Callable[[str, np.dtype[Any], int], _Storage] | None" = None,
    ) -> None:
        super().__init__(file)
        self._find_storage = find_storage

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name; all but a few are refused."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Maker(_rebuild_tensor)
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _Maker(lambda data, *_: data)
        if module in ("torch", "torch.cuda") and name in _STORAGES:
            return _STORAGES[name]
        if module == "torch" and name.endswith("Storage"):
            raise pickle.UnpicklingError(f"it holds a {name}, whose numbers NumPy does not have")
        raise pickle.UnpicklingError(f"it holds {module}.{name}, which is no tensor")

    def persistent_load(self, pid: Any) -> _Storage:
        """Return the storage that a tensor refers to."""
        kind, dtype, key, _, count = pid[:5]
        if kind != "storage" or not isinstance(dtype, np.dtype) or self._find_storage is None:
            raise pickle.UnpicklingError("it refers to something that is no storage")
        if type(key) is not str or type(count) is not int:
            raise pickle.UnpicklingError("it refers to a storage that it does not name")
        return self._find_storage(key, dtype, count)


def _rebuild_tensor(
    stored: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> NDArray[Any]:
    # Of these types and no others: numbers of NumPy's would wrap round in the sums below, and a
    # tensor in place of a storage may be larger than the memory behind it.
    if type(stored) is not _Storage or type(size) is not tuple or type(stride) is not tuple:
        raise ValueError("a tensor is not a view of a storage")
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError("a tensor has an impossible shape")
    storage = stored.values
    if math.prod(size) == 0:
        return np.zeros(size, storage.dtype)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if last >= storage.size:
        raise ValueError("a tensor reaches beyond its storage")
    steps = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False)
