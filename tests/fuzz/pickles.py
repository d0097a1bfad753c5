"""Programs of pickle opcodes, and files of torch.save around them.

A quarter are any opcodes with any arguments, those that the reader does not know included; the
others put together what pickled tensors consist of, so that calls, states and views are reached.
"""

import io
import pickletools
import struct
import zipfile
from pathlib import Path
from random import Random

from nstx.models.errors import WeightsError
from nstx.models.weights.torch_files import read_torch_file

from .damage import LARGE, NUMBERS, damage
from .inputs import Input

_NAMES = (
    b"torch._utils\n_rebuild_tensor_v2\n",
    b"torch._utils\n_rebuild_tensor\n",
    b"torch._utils\n_rebuild_parameter\n",
    b"torch.nn.parameter\nParameter\n",
    b"torch\nFloatStorage\n",
    b"torch\nBFloat16Storage\n",
    b"torch\nLongStorage\n",
    b"torch\nFloatTensor\n",
    b"torch.cuda\nHalfTensor\n",
    b"collections\nOrderedDict\n",
    b"builtins\neval\n",
    b"os\nsystem\n",
    b"numpy.core.multiarray\n_reconstruct\n",
)
_REFERENCE = b"(X\x07\0\0\0storage%sX\x01\0\0\x000X\x03\0\0\0cpu%stQ"
_NUMBERS_BEHIND = bytes(range(64))
_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}X\r\0\0\0little_endian\x88s."


def program(random: Random) -> bytes:
    """Return a pickle; its STOP may be missing, and whatever comes before it make no sense."""
    pieces = [b"\x80\x02"] * random.choice((0, 1))
    if random.random() < 0.5:
        return _state_dict(random)
    make = random.choice((_any, _sensible))
    pieces += [make(random) for _ in range(random.choice((1, 3, 10, 30, 100)))]
    data = b"".join(pieces)
    if random.random() < 0.2:
        _, data = damage(data, random)
    return data + b"." * (random.random() < 0.95)


def make_pickle(random: Random) -> Input:
    """Return a file of torch.save, of either format, around a program."""
    data = program(random)
    if random.random() < 0.3:
        stored = struct.pack("<q", random.choice((16, 4, 2**40))) + _NUMBERS_BEHIND
        return Input(
            "legacy", {"w.pth": b"\x80\x02" + _MAGIC + data + b"]X\x01\0\0\x000a." + stored}
        )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a/data.pkl", data)
        archive.writestr("a/data/0", _NUMBERS_BEHIND)
    return Input("archive", {"w.pth": packed.getvalue()})


def read_pickle(path: Path) -> None:
    """Read every tensor of a file; what has more numbers than the file must have been refused."""
    with path.open("rb") as file:
        try:
            for entry in read_torch_file(file).values():
                array = entry.read()
                assert array.shape == entry.shape
                assert array.size <= len(_NUMBERS_BEHIND), "numbers that are not in the file"
        except ValueError as error:
            raise WeightsError("refused") from error


def _any(random: Random) -> bytes:
    opcode = random.choice(pickletools.opcodes)
    code = opcode.code.encode("latin-1")
    if opcode.arg is None or code == b".":
        return code if code != b"." else b"N"
    if opcode.arg.n >= 0:
        value = random.choice((*NUMBERS[:9], *LARGE)) if random.random() < 0.7 else 1
        return code + struct.pack("<Q", value % 2**64)[: opcode.arg.n].ljust(opcode.arg.n, b"\0")
    if opcode.name == "GLOBAL":
        return code + random.choice(_NAMES)
    if opcode.arg.n == pickletools.UP_TO_NEWLINE:
        return code + random.choice((b"1", b"'a'", b"99999999999", b"x", b"9" * 5000)) + b"\n"
    width = {pickletools.TAKEN_FROM_ARGUMENT1: 1, pickletools.TAKEN_FROM_ARGUMENT8U: 8}
    text = random.choice((b"", b"a", b"storage", b"\xff\xfe", b"\x01" * 9))
    size = random.choice((len(text), len(text), len(text), *LARGE))
    bytes_of_size = width.get(opcode.arg.n, 4)
    return code + struct.pack("<Q", size % 2**64)[:bytes_of_size] + text


def _sensible(random: Random) -> bytes:
    pieces = (
        _number, _key, _tensor, _tensor, _state, _memo,
        lambda _: random.choice((b"}", b"]", b")", b"N", b"\x88", b"(")),
        lambda _: random.choice((b"s", b"u", b"a", b"e", b"t", b"\x85", b"\x86", b"\x87", b"R", b"b", b"0")),
        lambda _: b"c" + random.choice(_NAMES),
        lambda random: b"}" + _key(random) + _tensor(random) + b"s",
    )  # fmt: skip
    return random.choice(pieces)(random)


def _state_dict(random: Random) -> bytes:
    """Return a dictionary of tensors, with something else among them now and then."""
    pieces = [b"}"]
    for _ in range(random.choice((1, 2, 4))):
        pieces += [_key(random), _tensor(random), b"s"]
        if random.random() < 0.3:
            pieces.insert(random.randrange(len(pieces)), random.choice((_any, _sensible))(random))
    return b"".join(pieces) + b"."


def _number(random: Random) -> bytes:
    if random.random() < 0.8:
        return b"K" + bytes([random.choice((0, 1, 2, 3, 4, 16))])
    return b"\x8a\x09" + struct.pack("<Q", random.choice(LARGE) % 2**64) + b"\0"


def _key(random: Random) -> bytes:
    return b"X\x01\0\0\0" + random.choice((b"a", b"b", b"0"))


def _memo(random: Random) -> bytes:
    if random.random() < 0.2:
        return random.choice((b"r", b"j")) + struct.pack("<I", random.choice((0, 2**29, 2**32 - 1)))
    return random.choice((b"q", b"h")) + bytes([random.randrange(3)])


def _storage(random: Random) -> bytes:
    kind = b"c" + random.choice(_NAMES[4:7] if random.random() < 0.9 else _NAMES)
    return _REFERENCE % (kind, random.choice((b"K\x10", b"K\x10", b"K\x08", _number(random))))


def _view(random: Random) -> bytes:
    axes = random.choice((0, 1, 1, 2, 2, 4))
    sizes, strides = (b"".join(_number(random) for _ in range(axes)) for _ in range(2))
    if axes == 1 and random.random() < 0.5:
        sizes, strides = b"K\x04", b"K\x01"
    offset = b"K\0" if random.random() < 0.7 else _number(random)
    return b"(" + _storage(random) + offset + b"(" + sizes + b"t(" + strides + b"t"


def _tensor(random: Random) -> bytes:
    if random.random() < 0.2:
        return b"ctorch\nFloatTensor\n)R" + _view(random) + b"tb"
    return b"c" + random.choice(_NAMES[:2]) + _view(random) + random.choice((b"\x89N", b"")) + b"tR"


def _state(random: Random) -> bytes:
    slots = (b"__dict__", b"values", b"storage", b"tensor", b"__class__", b"size")
    name = random.choice(slots)
    return b"N}X" + struct.pack("<I", len(name)) + name + _tensor(random) + b"s\x86b"
