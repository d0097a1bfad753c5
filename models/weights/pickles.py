"""A small reader of pickles, for what tensors are pickled as; nothing that a file names is called.

Not ``pickle.Unpickler``: its BUILD sets attributes of whatever it has made, its dictionaries hash
what a file gives as keys, its memo is as long as a file says, and tuples a million deep exhaust the
stack. This one knows numbers, texts, tuples, lists, dictionaries and `Pickled` tensors, and takes
one step per opcode, each of bounded work and memory.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

MOST_PICKLED = 1 << 20
"""Bytes of the longest pickle that is read; VGG-19's take 4 KiB, a checkpoint's a few times that."""

MOST_AXES = 8

_LONGEST_INTEGER = 16  # bytes; PyTorch's number of magic has ten


class PickleError(ValueError):
    """A pickle that is damaged, or of other things than tensors."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A storage that tensors are views of: its name in the file, its kind, its length in numbers."""

    key: str
    kind: str
    count: int


@dataclass(frozen=True, slots=True)
class Pickled:
    """A tensor as it is pickled: a view of a storage, ``offset`` and ``stride`` in its numbers."""

    storage: Stored
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Name:
    """A class or function, by its name alone."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"[:80]


class _Made:
    """What PyTorch 0.1 pickled as an empty object, and filled afterwards."""

    __slots__ = ("tensor",)

    def __init__(self) -> None:
        self.tensor: Pickled | None = None


_REBUILD = {"_rebuild_tensor", "_rebuild_tensor_v2"}
_PARAMETERS = {"_rebuild_parameter", "_rebuild_parameter_with_state", "Parameter"}
_NAMES = {"collections": {"OrderedDict"}, "torch.nn.parameter": {"Parameter"}}
_NAMES |= {"torch._utils": _REBUILD | _PARAMETERS}
_MODULES_OF_TENSORS = {"torch", "torch.cuda"}


def read_pickle(file: BytesIO, storages: dict[str, Stored] | None = None) -> Any:
    """Read one pickle, from where the file stands to behind it; `PickleError` if that fails.

    Storages that it refers to are added to ``storages``, by their keys.
    """
    return _Reader(file, {} if storages is None else storages).read()


def tensor_of(value: object) -> Pickled | None:
    """Return the tensor that a value of a pickle is, if it is one."""
    return value.tensor if type(value) is _Made else value if type(value) is Pickled else None


class _Reader:
    """The stack, the marks in it, and the memo of one pickle."""

    def __init__(self, file: BytesIO, storages: dict[str, Stored]) -> None:
        self._file = file
        self._storages = storages
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def read(self) -> Any:
        while (code := self._bytes(1)) != b".":
            act = _ACTS.get(code)
            if act is None:
                raise PickleError(f"it has the opcode {code!r}, which no tensor needs")
            act(self)
        return self._pop()

    def _bytes(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) != count:
            raise PickleError("it ends too soon")
        return data

    def _number(self, layout: str) -> Any:
        return struct.unpack(layout, self._bytes(struct.calcsize(layout)))[0]

    def _line(self) -> str:
        line = self._file.readline(256)
        if not line.endswith(b"\n"):
            raise PickleError("it has a name without an end")
        return _text(line[:-1])

    def _pop(self) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise PickleError("it takes more from its stack than it puts there")
        return self._stack.pop()

    def _pop_many(self, count: int) -> list[Any]:
        return [self._pop() for _ in range(count)][::-1]

    def _pop_marked(self) -> list[Any]:
        if not self._marks:
            raise PickleError("it ends a group that it has not begun")
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _top(self) -> Any:
        self._stack.append(self._pop())
        return self._stack[-1]

    def _fillable(self, kind: type) -> Any:
        if type(top := self._top()) is not kind:
            raise PickleError(f"it fills a {type(top).__name__} as if it were a {kind.__name__}")
        return top

    def _put(self, place: int) -> None:
        self._memo[place] = self._top()

    def _get(self, place: int) -> Any:
        if place not in self._memo:
            raise PickleError("it repeats what it has not had")
        return self._memo[place]

    def _integer(self, count: int) -> int:
        if count > _LONGEST_INTEGER:
            raise PickleError(f"it has an integer of {count} bytes")
        return int.from_bytes(self._bytes(count), "little", signed=True)

    def _extend(self, values: list[Any]) -> None:
        self._fillable(list).extend(values)

    def _set_items(self, items: list[Any]) -> None:
        target = self._fillable(dict)
        if len(items) % 2:
            raise PickleError("it has a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_key(key)] = value

    def _name(self, module: object, name: object) -> None:
        if type(module) is not str or type(name) is not str:
            raise PickleError("it has a name that is no text")
        named = _Name(module, name)
        is_kind = module in _MODULES_OF_TENSORS and name.endswith(("Storage", "Tensor"))
        if not is_kind and name not in _NAMES.get(module, ()):
            raise PickleError(f"it holds {named}, and not tensors alone as a state dict does")
        self._stack.append(named)

    def _call(self) -> None:
        named, arguments = self._pop_many(2)
        if type(named) is not _Name or type(arguments) is not tuple:
            raise PickleError("it calls what is no function")
        self._stack.append(_made(named, arguments))

    def _build(self) -> None:
        """Fill a tensor of PyTorch 0.1; the state of anything else is of no use here."""
        made, state = self._pop_many(2)
        if type(made) is _Made:
            if type(state) is not tuple or made.tensor is not None:
                raise PickleError("it fills a tensor with something else")
            made.tensor = _tensor(state)
        elif type(made) is not dict and tensor_of(made) is None:
            raise PickleError(f"it changes a {type(made).__name__}")
        self._stack.append(made)

    def _refer(self) -> None:
        reference = self._pop()
        if type(reference) is not tuple or len(reference) not in (5, 6):
            reference = (None,) * 5
        word, kind, key, _, count, *view = reference
        if word != "storage" or type(kind) is not _Name or not kind.name.endswith("Storage"):
            raise PickleError("it refers to something that is no storage")
        if type(key) is not str or type(count) is not int or count < 0 or view not in ([], [None]):
            raise PickleError("it refers to a storage that it does not name")
        self._storages[key] = Stored(key, kind.name, count)
        self._stack.append(self._storages[key])


def _made(named: _Name, arguments: tuple[Any, ...]) -> Any:
    """Return what a call makes, of the few that tensors are pickled with."""
    if named.name == "OrderedDict" and len(arguments) <= 1:
        return _dictionary(*arguments)
    if named.name in _REBUILD:
        return _tensor(arguments)
    if named.name in _PARAMETERS:
        if arguments and tensor_of(arguments[0]) is not None:
            return tensor_of(arguments[0])
        raise PickleError("it has a parameter that is no tensor")
    if named.module in _MODULES_OF_TENSORS and named.name.endswith("Tensor") and not arguments:
        return _Made()
    raise PickleError(f"it calls {named} with other things than a tensor has")


def _dictionary(pairs: object = None) -> dict[Any, Any]:
    """Return an ordered dictionary; Python 2 gives its pairs with the call."""
    pairs = [] if pairs is None else pairs
    if type(pairs) is not list or not all(type(p) is list and len(p) == 2 for p in pairs):
        raise PickleError("it makes a dictionary of other things than pairs")
    filled = {_key(key): value for key, value in pairs}
    pairs.clear()  # or a list of many would take as many steps each time that it is called with
    return filled


def _key(key: object) -> str | int:
    # Hashes of tuples take exponential time, and those of long integers can be chosen.
    if type(key) is str or (type(key) is int and abs(key) < 1 << 32):
        return key
    raise PickleError(f"it has a {type(key).__name__} as a key")


def _tensor(arguments: tuple[Any, ...]) -> Pickled:
    storage, offset, size, stride = (*arguments[:4], None, None, None, None)[:4]
    if type(storage) is not Stored or type(size) is not tuple or type(stride) is not tuple:
        raise PickleError("a tensor is not a view of a storage")
    numbers = (offset, *size[:MOST_AXES], *stride[:MOST_AXES])
    right = len(size) == len(stride) <= MOST_AXES
    if not right or not all(type(n) is int and n >= 0 for n in numbers):
        raise PickleError("a tensor has an impossible shape")
    return Pickled(storage, offset, size, stride)


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise PickleError("it has a text that is not UTF-8") from error


def _push(value: Callable[[_Reader], Any]) -> Callable[[_Reader], None]:
    return lambda reader: reader._stack.append(value(reader))


# What each opcode does, by its byte; those of protocols 2 to 5 that tensors and plain data need.
_ACTS: dict[bytes, Callable[[_Reader], Any]] = {
    b"\x80": lambda reader: reader._number("B"),  # PROTO
    b"\x95": lambda reader: reader._bytes(8),  # FRAME: its length says nothing that is needed
    b"(": lambda reader: reader._marks.append(len(reader._stack)),
    b"0": lambda reader: reader._pop(),
    b"N": _push(lambda _: None),
    b"\x88": _push(lambda _: True),
    b"\x89": _push(lambda _: False),
    b"K": _push(lambda reader: reader._number("B")),
    b"M": _push(lambda reader: reader._number("<H")),
    b"J": _push(lambda reader: reader._number("<i")),
    b"G": _push(lambda reader: reader._number(">d")),
    b"\x8a": _push(lambda reader: reader._integer(reader._number("B"))),
    b"X": _push(lambda reader: _text(reader._bytes(reader._number("<I")))),
    b"\x8c": _push(lambda reader: _text(reader._bytes(reader._number("B")))),
    b"U": _push(lambda reader: _text(reader._bytes(reader._number("B")))),
    b"C": _push(lambda reader: reader._bytes(reader._number("B"))),
    b")": _push(lambda _: ()),
    b"t": _push(lambda reader: tuple(reader._pop_marked())),
    b"\x85": _push(lambda reader: tuple(reader._pop_many(1))),
    b"\x86": _push(lambda reader: tuple(reader._pop_many(2))),
    b"\x87": _push(lambda reader: tuple(reader._pop_many(3))),
    b"]": _push(lambda _: []),
    b"a": lambda reader: reader._extend(reader._pop_many(1)),
    b"e": lambda reader: reader._extend(reader._pop_marked()),
    b"}": _push(lambda _: {}),
    b"s": lambda reader: reader._set_items(reader._pop_many(2)),
    b"u": lambda reader: reader._set_items(reader._pop_marked()),
    b"q": lambda reader: reader._put(reader._number("B")),
    b"r": lambda reader: reader._put(reader._number("<I")),
    b"\x94": lambda reader: reader._put(len(reader._memo)),
    b"h": _push(lambda reader: reader._get(reader._number("B"))),
    b"j": _push(lambda reader: reader._get(reader._number("<I"))),
    b"c": lambda reader: reader._name(reader._line(), reader._line()),
    b"\x93": lambda reader: reader._name(*reader._pop_many(2)),
    b"R": _Reader._call,
    b"\x81": _Reader._call,  # NEWOBJ: a class called with arguments
    b"b": _Reader._build,
    b"Q": _Reader._refer,
}
