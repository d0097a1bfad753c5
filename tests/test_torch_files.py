"""Files of torch.save, read without PyTorch: both formats, and nothing that could run code."""

import contextlib
import io
import pickle
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from fuzz.pickles import make_pickle
from fuzz.pickles import read_pickle as read_program

from nstx.models.errors import WeightsError
from nstx.models.weights.pickles import MOST_PICKLED, PickleError, read_pickle
from nstx.models.weights.torch_files import read_torch_file

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.int16,
    torch.int8, torch.uint8, torch.bool, torch.bfloat16,
]  # fmt: skip
BOTH = pytest.mark.parametrize("zipped", [True, False])


def load(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file:
        return {name: entry.read() for name, entry in read_torch_file(file).items()}


def save(value: object, path: Path, zipped: bool) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


@BOTH
def test_views_far_behind_a_storage_s_beginning_are_read(tmp_path: Path, zipped: bool) -> None:
    flat = torch.arange(900_000, dtype=torch.float32)
    loaded = load(save({"a": flat[:9], "b": flat[800_000:800_007]}, tmp_path / "f.pth", zipped))
    assert loaded["b"].tolist() == list(range(800_000, 800_007))


@BOTH
@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_of_every_type_and_order_of_axes_are_what_torch_reads(
    tmp_path: Path, zipped: bool, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(3)
    whole = torch.randint(0, 2, (4, 5, 6), generator=generator).to(dtype)
    expected = OrderedDict(
        whole=whole,
        turned=whole.permute(2, 0, 1),
        last=whole[None].to(memory_format=torch.channels_last),
        rows=whole[1:3],
        scalar=whole[0, 0, 1],
        empty=whole[:0],
    )
    values = {**expected, "number": 3, "others": [whole, "text", None, 1.5]}
    values["nested"] = {"a": {"b": whole[3]}, 7: whole[2]}
    loaded = load(save(values, tmp_path / "f.pth", zipped))
    expected |= {"nested.a.b": whole[3], "nested.7": whole[2]}
    assert set(loaded) == set(expected)
    for name, tensor in expected.items():
        if dtype == torch.bfloat16:
            tensor = tensor.float()
        assert loaded[name].dtype == tensor.numpy().dtype
        np.testing.assert_array_equal(loaded[name], tensor.numpy())


@BOTH
def test_parameters_and_state_dicts_are_read(tmp_path: Path, zipped: bool) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    loaded = load(save(module.state_dict(), tmp_path / "a.pth", zipped))
    for name, tensor in module.state_dict().items():
        np.testing.assert_array_equal(loaded[name], tensor.numpy())
    parameters = dict(module.named_parameters())
    loaded = load(save(parameters, tmp_path / "b.pth", zipped))
    np.testing.assert_array_equal(loaded["0.bias"], parameters["0.bias"].detach().numpy())


STORAGE = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x04NtQ"
VIEW = STORAGE + b"K\x01K\x02\x85K\x01\x85"


@pytest.mark.parametrize(
    "tensor",
    [
        # PyTorch 0.1 fills an empty tensor afterwards; until 0.4 it calls a function.
        b"ctorch\nFloatTensor\n)R(" + VIEW + b"tb",
        b"ctorch\nFloatTensor\n)\x81q\x00(" + VIEW + b"tbh\x000",
        b"ctorch._utils\n_rebuild_tensor\n(" + VIEW + b"tR",
        b"ctorch.nn.parameter\nParameter\nctorch._utils\n_rebuild_tensor\n("
        + VIEW
        + b"tR\x85R(\x88\x89Ntb",
    ],
)
def test_tensors_of_pytorch_before_0_4_are_read(tmp_path: Path, tensor: bytes) -> None:
    """The published files of 2017 are of these, some by Python 2, whose texts are bytes."""
    state = b"ccollections\nOrderedDict\n(](](U\x01a" + tensor + b"eetR}U\x09_metadataNsb"
    data = b"".join(
        pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    )
    data += b"\x80\x02" + state + b"." + pickle.dumps(["0"], 2)
    (tmp_path / "f.pth").write_bytes(data + struct.pack("<q4f", 4, 1.0, 2.0, 3.0, 4.0))
    assert load(tmp_path / "f.pth")["a"].tolist() == [2.0, 3.0]


class Harmful:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("this ran",))


@BOTH
def test_code_in_a_file_is_refused_and_does_not_run(
    tmp_path: Path, zipped: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save({"weights": Harmful()}, tmp_path / "f.pth", zipped)
    with pytest.raises(ValueError, match="print"):
        load(path)
    path = save(torch.nn.Linear(2, 2), tmp_path / "g.pth", zipped)
    with pytest.raises(ValueError, match="not tensors alone"):
        load(path)
    path.write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(ValueError, match="print"):
        load(path)
    assert capsys.readouterr().out == ""


def forge(
    path: Path,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    data: bytes = b"\0" * 16,
) -> Path:
    """Write a zip file whose one tensor claims a place in a storage of four numbers."""

    class Tensor:
        def __reduce__(self) -> tuple[object, ...]:
            rebuild = torch._utils._rebuild_tensor_v2
            return rebuild, (Stored(), offset, size, stride, False, OrderedDict())

    class Stored:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> object:
            if isinstance(value, Stored):
                return ("storage", torch.FloatStorage, "0", "cpu", 4)
            return None

    buffer = io.BytesIO()
    Pickler(buffer, 2).dump({"t": Tensor()})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("f/data.pkl", buffer.getvalue())
        archive.writestr("f/data/0", data)
    return path


def test_a_tensor_stays_within_its_storage(tmp_path: Path) -> None:
    path = tmp_path / "f.pth"
    assert load(forge(path, 1, (3,), (1,)))["t"].shape == (3,)
    assert load(forge(path, 3, (1 << 40, 0), (1, 1)))["t"].size == 0
    for offset, size, stride in (
        (2, (3,), (1,)),
        (0, (2, 2), (3, 1)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (1 << 62,), (1,)),
        (5, (1,), (1,)),
    ):
        with pytest.raises(ValueError, match=r"beyond|impossible|one after another"):
            load(forge(path, offset, size, stride))
    with pytest.raises(ValueError, match="has 12 bytes"):
        load(forge(path, 0, (3,), (1,), b"\0" * 12))


class Forger(pickle.Pickler):
    """Writes storages of four numbers as torch.save does."""

    def persistent_id(self, value: object) -> object:
        return (
            ("storage", value.kind, "0", "cpu", value.count) if isinstance(value, Stored) else None
        )


class Stored:
    def __init__(self, kind: type = torch.FloatStorage, count: int = 4) -> None:
        self.kind, self.count = kind, count


class Tensor:
    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments

    def __reduce__(self) -> tuple[object, ...]:
        return torch._utils._rebuild_tensor_v2, (*self.arguments, False, OrderedDict())


def write_forged(path: Path, value: object, data: bytes = b"\0" * 16) -> Path:
    buffer = io.BytesIO()
    Forger(buffer, 2).dump(value)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("f/data.pkl", buffer.getvalue())
        archive.writestr("f/data/0", data)
    return path


def test_a_tensor_is_no_storage(tmp_path: Path) -> None:
    """It may claim more numbers than there is memory behind it: its stride may be 0."""
    wide = Tensor(Stored(), 0, (4000,), (0,))
    for size, stride in (((4000,), (0,)), ((2, 2), (0, 1)), ((2, 2), (1, 0)), ((4,), (0,))):
        with pytest.raises(ValueError, match=r"beyond|one after another"):
            load(write_forged(tmp_path / "f.pth", {"a": Tensor(Stored(), 0, size, stride)}))
    with pytest.raises(ValueError, match="not a view"):
        load(write_forged(tmp_path / "g.pth", Tensor(wide, 8, (100,), (1,))))


def test_numbers_of_numpys_are_no_sizes(tmp_path: Path) -> None:
    """They would wrap round where the place of the last number is computed."""
    longs = np.array([3, 1 << 62], np.int64).tobytes()
    sizes = Tensor(Stored(torch.LongStorage, 2), 0, (2,), (1,))
    for size, stride in ((sizes, (1, 1)), ((2, 2), sizes), (sizes, sizes), ([2], (1,))):
        forged = Tensor(Stored(torch.LongStorage, 2), 0, size, stride)
        with pytest.raises(ValueError, match="view"):
            load(write_forged(tmp_path / "f.pth", {"a": forged}, longs))
    with pytest.raises(ValueError, match="impossible"):
        load(write_forged(tmp_path / "g.pth", {"a": Tensor(Stored(), 0.0, (2,), (1,))}))


def test_a_storage_larger_than_it_says_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    data = b"\0" * (200 << 20)
    path = write_forged(tmp_path / "f.pth", {"a": Tensor(Stored(), 0, (4,), (1,))}, data)
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    with pytest.raises(ValueError, match="209715200 bytes"):
        load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 << 20


def test_functions_keep_their_state(tmp_path: Path) -> None:
    # BUILD sets what the dictionary before it holds: {"__defaults__": ()}.
    pickled = b"ctorch._utils\n_rebuild_tensor_v2\n}U\x0c__defaults__)sb."
    with zipfile.ZipFile(tmp_path / "f.pth", "w") as archive:
        archive.writestr("f/data.pkl", pickled)
    with pytest.raises(ValueError, match="changes a _Name"):
        load(tmp_path / "f.pth")


def test_other_archives_and_numbers_are_named_as_what_they_are(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "f.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ValueError, match=r"not of torch\.save"):
        load(tmp_path / "f.pth")
    path = save({"a": torch.zeros(3, dtype=torch.complex64)}, tmp_path / "g.pth", True)
    with pytest.raises(ValueError, match="ComplexFloatStorage, whose numbers"):
        load(path)


@BOTH
def test_damaged_files_are_refused(tmp_path: Path, zipped: bool) -> None:
    path = save({"a": torch.arange(100.0)}, tmp_path / "f.pth", zipped)
    whole = path.read_bytes()
    for keep in (0, 1, 10, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:keep])
        with pytest.raises(ValueError):  # noqa: PT011  (many reasons)
            load(path)
    generator = np.random.default_rng(5)
    for _ in range(200):
        damaged = bytearray(whole)
        for place in generator.integers(0, len(whole), 3):
            damaged[place] = generator.integers(256)
        path.write_bytes(damaged)
        try:
            load(path)
        except ValueError:
            continue


def test_other_byte_orders_are_refused(tmp_path: Path) -> None:
    path = forge(tmp_path / "f.pth", 0, (4,), (1,))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("f/byteorder", "big")
    with pytest.raises(ValueError, match="endian"):
        load(path)
    with path.open("wb") as file:
        for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": False}):
            pickle.dump(value, file, 2)
    with pytest.raises(ValueError, match="endian"):
        load(path)


def test_a_storage_larger_than_the_file_is_refused_before_it_is_made(tmp_path: Path) -> None:
    path = save({"a": torch.zeros(3)}, tmp_path / "f.pth", False)
    data = path.read_bytes()
    # The count stands as a number of one byte in the storage's tuple: K\x03.
    forged = data.replace(b"K\x03N", b"\x8a\x06" + struct.pack("<q", 1 << 40)[:6] + b"N", 1)
    assert forged != data
    path.write_bytes(forged)
    with pytest.raises(ValueError, match="larger"):
        load(path)


def test_the_embedded_weights_load_where_torch_cannot_be_imported(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from nstx import load_weights\n"
        "print(load_weights(use_cache=False).kernels['conv5_4'].shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(512, 512, 3, 3)\n"


NESTED = b")" + b"\x85" * 100_000
PAIRS = b"](" + b"](U\x01aNe" * 30_000 + b"eq\x00ccollections\nOrderedDict\nq\x010"
AXES = b"(" + b"N" * 200_000 + b"tq\x00ctorch._utils\n_rebuild_tensor\nq\x010"


@pytest.mark.parametrize(
    "program",
    [
        b"}r\x00\x00\x00\x20.",  # a place in the memo that a list would need gigabytes for
        b")q\x00" + b"h\x00h\x00\x86q\x00" * 100 + b"N}h\x00Ns.",  # a hash of 2^100 steps
        b"}" + NESTED + b"Ns.",
        NESTED + b".",
        b"]" + b"q\x00h\x00a" * 100_000 + b".",
        PAIRS + b"h\x01h\x00\x85R" * 20_000 + b".",
        AXES + b"h\x01h\x00R" * 100_000 + b".",
        b"(" * 500_000 + b".",
        b"X\xff\xff\xff\x7fa.",
        b"\x8b\xff\xff\xff\x7f\x01.",
        b"\x8a\xff" + b"\x7f" * 255 + b".",
        b"\x95" + b"\xff" * 8 + b"}" * 500_000 + b".",
        b"c" + b"a" * 900_000,
        b"I" + b"9" * 900_000 + b"\n.",
    ],
)
def test_what_exhausts_pythons_unpickler_takes_a_moment_here(program: bytes) -> None:
    began = time.process_time()
    tracemalloc.start()
    with contextlib.suppress(PickleError):
        read_pickle(io.BytesIO(program[:MOST_PICKLED]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150 << 20
    assert time.process_time() - began < 10  # tracing included


def test_a_dictionary_that_holds_itself_ends(tmp_path: Path) -> None:
    wide = (
        b"}q\x00(" + b"".join(b"M" + struct.pack("<H", n) + b"h\x00" for n in range(20_000)) + b"u."
    )
    for program in (wide, b"}q\x00U\x01ah\x00s."):
        with zipfile.ZipFile(tmp_path / "f.pth", "w") as archive:
            archive.writestr("f/data.pkl", program)
        with contextlib.suppress(ValueError):
            assert load(tmp_path / "f.pth") == {}


@pytest.mark.parametrize("name", ["f/byteorder", "f/data.pkl"])
def test_entries_that_unpack_to_gigabytes_are_not_unpacked(tmp_path: Path, name: str) -> None:
    path = write_forged(tmp_path / "f.pth", {"a": Tensor(Stored(), 0, (4,), (1,))})
    with zipfile.ZipFile(path) as archive:
        entries = {entry: archive.read(entry) for entry in archive.namelist()}
    entries[name] = bytes(100 << 20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for entry, data in entries.items():
            archive.writestr(entry, data)
    tracemalloc.start()
    with pytest.raises(ValueError, match="unpacks to 104857600 bytes"):
        load(path)
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


def test_programs_of_any_opcodes_end_in_one_error(tmp_path: Path) -> None:
    for index in range(300):
        path = make_pickle(Random(index)).write(tmp_path)
        with contextlib.suppress(WeightsError):
            read_program(path)
