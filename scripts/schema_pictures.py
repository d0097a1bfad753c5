"""Has schemathesis send pictures, and targets, in most forms, which it cannot make up (SCHEMATHESIS_HOOKS of scripts/schema)."""

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import schemathesis


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png(side: int) -> bytes:
    rows = b"".join(b"\0" + bytes([row * 5 % 256, 90, 200]) * side for row in range(side))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = (("IHDR", head), ("IDAT", zlib.compress(rows)), ("IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name.encode(), data) for name, data in chunks)


_OPTIONS = '{"size": 32, "steps": 2, "content_layers": "conv1_2", "style_layers": "conv1_1"}'
_TARGETS = Path(os.environ["SCHEMA_TARGETS"]).read_bytes()


def map_body(context: Any, body: Any) -> Any:
    """Put pictures, or targets, in place of most files, and options that can be in place of half."""
    if not isinstance(body, dict) or not ("targets" in body or {"content", "style"} <= body.keys()):
        return body
    choice = zlib.crc32(repr(sorted(body.items(), key=str)).encode())
    if choice % 4 == 0:
        return body
    picture = _png(32)
    kept: dict[str, Any] = {"content": picture, "style": [picture]}
    options = _OPTIONS
    if "targets" in body:
        kept, options = {"targets": _TARGETS}, '{"steps": 2}'
    return {**kept, "options": options} if choice % 4 > 1 else {**body, **kept}


schemathesis.hook(map_body)
