"""Weight files of all kinds, of a narrow network, with headers and archives that lie."""

import functools
import io
import json
import pickletools
import struct
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.io import savemat

from nstx.models.vgg19 import CONVOLUTIONS, Layer
from nstx.models.weights.copies import pack_copy
from nstx.models.weights.entries import SEQUENTIAL_INDICES, TORCHVISION_INDICES
from nstx.models.weights.load import Weights, load_weights

from .damage import LARGE, NUMBERS, STEMS, damage, number, splice
from .inputs import Input
from .narrow import LAYERS, Arrays, expected, quantised, state_dict

_NAMES = [layer.name for layer in CONVOLUTIONS]
_CONVENTIONS = {
    "oxford": _NAMES,
    "torchvision": [f"features.{index}" for index in TORCHVISION_INDICES],
    "sequential": [str(index) for index in SEQUENTIAL_INDICES],
    "parallel": [f"module.features.{index}" for index in TORCHVISION_INDICES],
}
_SHAPES = [(layer.channels, layer.in_channels, 3, 3) for layer in CONVOLUTIONS]

Shape = tuple[int, ...]
Claims = Mapping[str, Shape]
PROGRAMS = frozenset({Path(sys.executable).name})
"""MATLAB's files are read in a process of Python's."""


def _claims(convention: str, shapes: list[Shape]) -> dict[str, Shape]:
    """Return the shapes of all tensors by name."""
    claims: dict[str, Shape] = {"0.weight": (3, 3, 1, 1), "0.bias": (3,)}
    claims = claims if convention == "sequential" else {}
    for name, shape in zip(_CONVENTIONS[convention], shapes, strict=True):
        claims |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return claims


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def _int(value: int) -> bytes:
    length = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([length]) + value.to_bytes(length, "little", signed=True)


def _tuple(values: Shape) -> bytes:
    return b"(" + b"".join(map(_int, values)) + b"t"


def _strides(shape: Shape) -> Shape:
    return tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))


_DICT = b"ccollections\nOrderedDict\n)R"


def _tensor(key: str, shape: Shape, kind: str, legacy: bool) -> bytes:
    size = _int(int(np.prod(shape)))
    stored = (
        b"(" + _text("storage") + f"ctorch\n{kind}\n".encode() + _text(key) + _text("cpu") + size
    )
    stored += (b"N" if legacy else b"") + b"tQ"
    view = _int(0) + _tuple(shape) + _tuple(_strides(shape)) + b"\x89" + _DICT
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + stored + view + b"tR"


_STORAGES = {
    "<f4": "FloatStorage",
    "<f2": "HalfStorage",
    "<f8": "DoubleStorage",
    "|u1": "ByteStorage",
}
_TYPES = {"<f4": "F32", "<f2": "F16", "<f8": "F64"}


def pickled(claims: Claims, kinds: Sequence[str], *, legacy: bool = False) -> bytes:
    """Return the pickle of a state dict, each of whose tensors has a storage named by a number."""
    items = [
        _text(name) + _tensor(str(index), shape, kind, legacy)
        for index, ((name, shape), kind) in enumerate(zip(claims.items(), kinds, strict=True))
    ]
    return b"\x80\x02" + _DICT + b"(" + b"".join(items) + b"u."


def zipped(arrays: Arrays, *, claims: Claims | None = None) -> bytes:
    """Return an archive of torch.save; packed where it claims other shapes than its arrays have."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if claims else 0) as archive:
        archive.writestr("archive/data.pkl", _pickle(arrays, claims))
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")
        for index, array in enumerate(arrays.values()):
            archive.writestr(f"archive/data/{index}", array.tobytes())
    return buffer.getvalue()


def legacy(arrays: Arrays, *, claims: Claims | None = None) -> bytes:
    """Return a file as torch.save wrote it before 1.6."""
    magic = b"\x80\x02" + _int(0x1950A86A20F9469CFC6C) + b"."
    machine = b"\x80\x02}(" + _text("little_endian") + b"\x88u."
    keys = b"\x80\x02](" + b"".join(_text(str(index)) for index in range(len(arrays))) + b"e."
    storages = b"".join(
        struct.pack("<q", array.size) + array.tobytes() for array in arrays.values()
    )
    program = _pickle(arrays, claims, legacy=True)
    return magic + b"\x80\x02M\xe9\x03." + machine + program + keys + storages


def _pickle(arrays: Arrays, claims: Claims | None, *, legacy: bool = False) -> bytes:
    kinds = [_STORAGES[array.dtype.str] for array in arrays.values()]
    shapes = claims or {name: array.shape for name, array in arrays.items()}
    return pickled(shapes, kinds, legacy=legacy)


def safetensors(arrays: Arrays, metadata: Any = None) -> bytes:
    """Return a safetensors file."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    place = 0
    for name, array in arrays.items():
        end = place + array.nbytes
        kind = _TYPES[array.dtype.str]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [place, end]}
        place = end
    text = json.dumps(header).encode()
    return (
        struct.pack("<Q", len(text)) + text + b"".join(array.tobytes() for array in arrays.values())
    )


def _arrays(convention: str) -> dict[str, NDArray[Any]]:
    """Return the narrow network's tensors, in the input's convention that goes with the names."""
    if convention != "sequential":
        return dict(state_dict(_CONVENTIONS[convention]))
    mixing = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1) * 255
    offset = -np.array([123.68, 116.779, 103.939], np.float32)
    rest = state_dict(_CONVENTIONS[convention], is_bgr=False)
    return {"0.weight": mixing, "0.bias": offset, **rest}


@functools.cache
def samples() -> Mapping[str, bytes]:
    """Return files that are whole, by a name that ends in their suffix."""
    data = {}
    for convention in _CONVENTIONS:
        arrays = _arrays(convention)
        half = {name: array.astype("<f2") for name, array in arrays.items()}
        data[f"{convention}.pth"] = zipped(arrays)
        data[f"{convention}-half.pth"] = zipped(half)
        data[f"{convention}-old.pth"] = legacy(arrays)
        data[f"{convention}.safetensors"] = safetensors(arrays)
        data[f"{convention}-half.safetensors"] = safetensors(half)
    data["quantised.bin"] = zipped(quantised())
    data["quantised-old.bin"] = legacy(quantised())
    tensors = state_dict(_NAMES, is_bgr=False)
    data["own.safetensors"] = pack_copy(tensors, (1.0, 2.0, 3.0))
    return data


@functools.cache
def _networks() -> Mapping[str, bytes]:
    """Return files of the embedded network, 80 MB each."""
    weights = load_weights()
    arrays = {f"{name}.weight": kernel for name, kernel in weights.kernels.items()}
    arrays |= {f"{name}.bias": bias for name, bias in weights.biases.items()}
    arrays["conv1_1.weight"] = np.ascontiguousarray(arrays["conv1_1.weight"][:, ::-1])  # BGR
    return {"whole.pth": zipped(arrays), "whole.safetensors": safetensors(arrays)}


@functools.cache
def _lies() -> Mapping[str, bytes]:
    """Return files that claim the whole network's shapes, and hold the narrow one's numbers."""
    data = {}
    for convention in _CONVENTIONS:
        arrays, claims = _arrays(convention), _claims(convention, list(_SHAPES))
        data[f"{convention}-lies.pth"] = zipped(arrays, claims=claims)
        data[f"{convention}-old-lies.pth"] = legacy(arrays, claims=claims)
    return data


def make_network(random: Random) -> Input:
    """Return a file of a whole network that is damaged, or one that claims to be whole."""
    files = _networks() if random.random() < 0.1 else _lies()
    name = random.choice(list(files))
    change, data = _mutate(files[name], Path(name).suffix, random)
    return Input(f"{name} {change}", {name: data})


def make_weights(random: Random) -> Input:
    """Return a file of PyTorch or safetensors that is damaged or lies."""
    name = random.choice(list(samples()))
    suffix = Path(name).suffix
    if random.random() < 0.95:
        change, data = _mutate(samples()[name], suffix, random)
    else:
        change, data = splice(samples()[name], random.choice(list(samples().values())), random)
    if random.random() < 0.05:
        suffix = random.choice((".pth", ".pt", ".bin", ".safetensors", ".h5", ".hdf5", ".onnx"))
    return Input(f"{name} {change}", {random.choice(STEMS) + suffix: data})


def _mutate(data: bytes, suffix: str, random: Random) -> tuple[str, bytes]:
    draw = random.random()
    if draw < 0.4:
        return damage(data, random)
    if suffix == ".safetensors":
        return _header(data, random)
    if draw < 0.65 and data[:2] == b"PK":
        return _archive(data, random)
    return _program(data, random)


def read_network(path: Path) -> None:
    """Load weights, and check what is accepted."""
    _check(load_weights(path, use_cache=False), CONVOLUTIONS)


def read_weights(path: Path) -> None:
    """Load weights of the narrow network, and check what is accepted."""
    with expected():
        _check(load_weights(path, use_cache=False), LAYERS)


def _check(weights: Weights, layers: Sequence[Layer]) -> None:
    for layer in layers:
        kernel, bias = weights.kernels[layer.name], weights.biases[layer.name]
        assert kernel.shape == (layer.channels, layer.in_channels, 3, 3)
        assert bias.shape == (layer.channels,)
        assert kernel.dtype == bias.dtype == np.float32
        assert np.isfinite(kernel).all()
        assert np.isfinite(bias).all()
    assert np.isfinite(weights.mean).all()


def _header(data: bytes, random: Random) -> tuple[str, bytes]:
    """Change a field of a safetensors header, whose length then fits, or does not."""
    (length,) = struct.unpack_from("<Q", data)
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    name = random.choice(list(header))
    odd: tuple[Any, ...] = (
        None, True, "text", [], {}, -1, 1.5, 1e400, [[[]]], *NUMBERS[:4], *LARGE,
        [2**20, 2**20, 3, 3], [0], [64, 3, 3, 3], "F64", "BF16", "I8", "BOOL", "F8_E4M3", [2**63, 0],
    )  # fmt: skip
    change = random.choice(
        ("entry", "field", "field", "drop", "metadata", "nest", "length", "name")
    )
    if change == "entry":
        header[name] = random.choice(odd)
    elif change == "field" and isinstance(header[name], dict):
        header[name][random.choice(list(header[name]))] = random.choice(odd)
    elif change == "drop":
        del header[name]
    elif change == "metadata":
        header["__metadata__"] = random.choice(
            (*odd, {"format": "pt"}, {"format": "nstx-weights-1"}, {"format": 3}, {"nstx": "[]"},
             {"format": "nstx-weights-1", "digest": "", "mean": "[]"}))  # fmt: skip
    elif change == "name":
        header[random.choice(("", "\x1b[2J", "conv1_1.weight", "é"))] = header.pop(name)
    text = json.dumps(header).encode()
    if change == "nest":
        text = random.choice(
            (b"[" * 100_000, b'{"a":' * 50_000, b"9" * 6000, b"{}", b"null", b"NaN")
        )
    claimed = number(random) % 2**64 if change == "length" else len(text)
    return f"{change} of {name}", struct.pack("<Q", claimed) + text + data[8 + length :]


def _archive(data: bytes, random: Random) -> tuple[str, bytes]:
    """Change an entry of an archive: its name, its contents, its place, or what it claims."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name = random.choice([*list(entries)[:3], random.choice(list(entries))])
    change = random.choice(("name", "twice", "drop", "contents", "order", "pad", "directory"))
    body, method = entries[name], random.choice((0, 0, 8, 12, 14))
    method = method if len(data) < 10**6 else 0  # packing takes minutes
    names = list(entries)
    if change == "name":
        new = random.choice(("../data.pkl", "/data.pkl", "b/data.pkl", "data.pkl", "é", "\x1b[2J"))
        names[names.index(name)] = new
    elif change == "twice":
        names.append(name)
    elif change == "drop":
        names.remove(name)
    elif change == "contents":
        body = random.choice((b"", b"big", bytes(10**7), random.randbytes(50), body * 3))
    elif change == "order":
        random.shuffle(names)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that come twice
        for entry in names:
            info = zipfile.ZipInfo(entry, (1980, 1, 1, 0, 0, 0))
            info.compress_type = method
            with archive.open(info, "w") as file:
                file.write(body if entry == name else entries.get(entry, body))
    data = buffer.getvalue()
    if change == "pad":
        data = random.randbytes(random.choice((1, 1000))) + data
    elif change == "directory":
        place = data.rindex(b"PK\1\2") + random.randrange(46)
        data = (
            data[:place]
            + random.choice((b"\xff\xff\xff\xff", b"\0\0", b"\x01"))
            + data[place + 4 :]
        )
    return f"{change} of {name}", data


_OPCODES = [code.code.encode("latin-1") for code in pickletools.opcodes]


def _program(data: bytes, random: Random) -> tuple[str, bytes]:
    """Change an opcode of the pickle of a state dict, or a number in it."""
    if data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        change, program = _edit(entries["archive/data.pkl"], random)
        entries["archive/data.pkl"] = program
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, body in entries.items():
                archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), body)
        return change, buffer.getvalue()
    start = data.index(b"\x80\x02ccollections")
    end = data.index(b"u.\x80\x02](", start) + 2
    change, program = _edit(data[start:end], random)
    return change, data[:start] + program + data[end:]


def _edit(program: bytes, random: Random) -> tuple[str, bytes]:
    places = [place for _, _, place in pickletools.genops(program) if place is not None]
    places.append(len(program))
    for _ in range(random.choice((1, 1, 2, 4))):
        index = random.randrange(len(places) - 1)
        start, end = places[index], places[index + 1]
        change = random.choice(("opcode", "insert", "copy", "drop", "number", "text"))
        piece = program[start:end]
        if change == "opcode":
            piece = random.choice(_OPCODES) + piece[1:]
        elif change == "insert":
            piece = random.choice(_OPCODES) + piece
        elif change == "copy":
            other = random.randrange(len(places) - 1)
            piece += program[places[other] : places[other + 1]] * random.choice((1, 1, 1000))
        elif change == "drop":
            piece = b""
        elif change == "number":
            piece = _int(random.choice((-1, 1)) * number(random))
        else:
            piece = _text(random.choice(("", "0", "storage", "\x1b[2J", "a" * 70_000)))
        program = program[:start] + piece + program[end:]
        shift = len(piece) - (end - start)
        places = [place + shift if place >= end else place for place in places]
    return f"program {change}", program


def _keras_arrays() -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.float32]]]:
    tensors = state_dict(_NAMES)
    for name in _NAMES:
        yield name, tensors[f"{name}.weight"].transpose(2, 3, 1, 0), tensors[f"{name}.bias"]


@functools.cache
def keras_samples() -> Mapping[str, bytes]:
    """Return Keras' files."""
    data = {}
    for name, prefix in (("keras2", ""), ("nested", "model_weights/")):
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            for layer, kernel, bias in _keras_arrays():
                key = f"block{layer[4]}_conv{layer[6]}"
                group = file.create_group(f"{prefix}{key}/{key}")
                group["kernel:0"], group["bias:0"] = kernel, bias
        data[name] = buffer.getvalue()
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for index, (_, kernel, bias) in enumerate(_keras_arrays()):
            group = file.create_group(f"layers/conv2d{f'_{index}' if index else ''}/vars")
            group["0"], group["1"] = kernel, bias
    data["keras3"] = buffer.getvalue()
    return data


def make_keras(random: Random) -> Input:
    """Return an HDF5 file that is damaged, or whose datasets are not what they should be."""
    name = random.choice(list(keras_samples()))
    data = keras_samples()[name]
    change, data = damage(data, random) if random.random() < 0.5 else _dataset(data, random)
    suffix = random.choice((".h5", ".h5", ".hdf5", ".weights.h5", ".mat"))
    return Input(f"{name} {change}", {f"a{suffix}": data})


def _dataset(data: bytes, random: Random) -> tuple[str, bytes]:
    buffer = io.BytesIO(data)
    with h5py.File(buffer, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        groups = [name for name in names if isinstance(file[name], h5py.Group)]
        datasets = [name for name in names if isinstance(file[name], h5py.Dataset)]
        name = random.choice((*groups[:2], random.choice(datasets), random.choice(names)))
        del file[name]
        change = random.choice(list(_DATASETS))
        _DATASETS[change](file, name)
    return f"{change} at {name}", buffer.getvalue()


def _huge(file: h5py.File, name: str) -> None:
    file.create_dataset(name, (2**20, 2**20, 3, 3), np.float32)


def _unallocated(file: h5py.File, name: str) -> None:
    file.create_dataset(name, (3, 3, 512, 512), np.float32, chunks=True, fillvalue=1.0)


def _external(file: h5py.File, name: str) -> None:
    file.create_dataset(name, (3, 3, 3, 2), np.float32, external=[("/etc/passwd", 0, 216)])


def _packed(file: h5py.File, name: str) -> None:
    shape = (3, 3, 128, 2048)
    file.create_dataset(name, data=np.zeros(shape, np.float32), chunks=shape, compression="gzip")


def _odd(value: Any) -> Any:
    def write(file: h5py.File, name: str) -> None:
        file[name] = value

    return write


_DATASETS = {
    "huge": _huge,
    "unallocated": _unallocated,
    "external": _external,
    "packed": _packed,
    "soft link": _odd(h5py.SoftLink("/")),
    "dangling": _odd(h5py.SoftLink("/nothing")),
    "other file": _odd(h5py.ExternalLink("/etc/passwd", "/")),
    "text": _odd("text"),
    "number": _odd(3.0),
    "empty": _odd(h5py.Empty("f4")),
    "fields": _odd(np.zeros((3, 3), [("a", "f4")])),
    "complex": _odd(np.zeros((3, 3, 3, 2), complex)),
    "nan": _odd(np.full((3, 3, 3, 2), np.nan)),
    "no rows": _odd(np.zeros((0, 3, 3, 2))),
    "flat": _odd(np.zeros(9)),
    "reference": _odd(h5py.Empty(h5py.ref_dtype)),
}


@functools.cache
def matlab_samples() -> Mapping[str, bytes]:
    """Return MatConvNet's files, whose kernels are tiny."""
    data = {}
    for name, compressed in (("plain", False), ("compressed", True)):
        layers = np.empty((1, len(_NAMES)), object)
        for index, (layer, kernel, bias) in enumerate(_keras_arrays()):
            held = np.empty((1, 2), object)
            held[0, 0], held[0, 1] = kernel, bias[None]
            layers[0, index] = {"type": "conv", "name": layer, "weights": held}
        image = np.full((1, 1, 3), 100.0)
        buffer = io.BytesIO()
        content = {"layers": layers, "meta": {"normalization": {"averageImage": image}}}
        savemat(buffer, content, do_compression=compressed)
        data[name] = buffer.getvalue()
    return data


def make_matlab(random: Random) -> Input:
    """Return a MATLAB file that is damaged."""
    name = random.choice(list(matlab_samples()))
    change, data = damage(matlab_samples()[name], random)
    return Input(f"{name} {change}", {"a.mat": data})
