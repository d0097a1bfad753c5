"""Headers of safetensors files, and what they may claim."""

import io
import json
import struct
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from nstx.models.weights.safetensors_files import read_safetensors


def file_of(header: Any, data: bytes = bytes(16), length: int | None = None) -> io.BytesIO:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return io.BytesIO(struct.pack("<Q", len(text) if length is None else length) + text + data)


def tensor(shape: Any, places: Any, dtype: Any = "F32") -> dict[str, Any]:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": places}}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_tensors_are_those_that_the_library_writes(dtype: torch.dtype) -> None:
    tensors = {"a": torch.randn(3, 4).to(dtype), "b": torch.zeros(0, 2, dtype=dtype)}
    tensors["n"] = torch.ones(2, dtype=torch.int64)
    entries, metadata = read_safetensors(io.BytesIO(save(tensors, {"key": "value"})))
    assert metadata == {"key": "value"}
    assert set(entries) == {"a", "b"}
    for name, entry in entries.items():
        assert entry.shape == tuple(tensors[name].shape)
        np.testing.assert_array_equal(entry.read(), tensors[name].double().numpy())


@pytest.mark.parametrize(
    "file",
    [
        io.BytesIO(b""),
        file_of({}, length=2**63),
        file_of({}, length=2**40),
        file_of(b"{" + b" " * (2 << 20)),
        file_of(b"[" * 200_000),
        file_of(b'{"a":' * 200_000),
        file_of(b"\xff\xfe{}"),
        file_of(b'{"a": ' + b"9" * 5000 + b"}"),
        file_of([]),
        file_of({"__metadata__": {"format": 3}}),
        file_of({"a": 3}),
        file_of(tensor([4], [0, 16], ["F32"])),
        file_of(tensor([2**62], [0, 16])),
        file_of(tensor([4], [0, 2**62])),
        file_of(tensor([4], [16, 32])),
        file_of(tensor([4], [-16, 0])),
        file_of(tensor([4.0], [0, 16])),
        file_of(tensor([True], [0, 4])),
        file_of(tensor([1] * 100_000, [0, 4])),
        file_of(tensor("4", [0, 16])),
        file_of(tensor([4], [0, 16, 32])),
    ],
)
def test_headers_that_claim_what_is_not_there_are_refused(file: io.BytesIO) -> None:
    file.seek(0)
    with pytest.raises(ValueError):  # noqa: PT011  (many reasons)
        read_safetensors(file)
