"""Files that are read: regular and bounded; and names made printable."""

import os
import socket
import stat
import tracemalloc
from pathlib import Path

import pytest

from nstx.models.errors import ImageError
from nstx.models.printable import printable
from nstx.models.storage.inputs import read_input


def _read(path: Path, most_bytes: int = 10) -> bytes:
    return read_input(path, kind="a picture", most_bytes=most_bytes, error=ImageError)


def test_a_regular_file_is_read_to_its_last_byte(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"0123456789")
    (tmp_path / "link").symlink_to(file)
    assert _read(tmp_path / "link") == b"0123456789"
    with pytest.raises(ImageError, match="at most 9 bytes, got 10 bytes; try another file"):
        _read(file, 9)


def test_a_small_file_takes_little_memory_whatever_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    tracemalloc.start()
    try:
        assert _read(tmp_path / "a", 1 << 30) == b"0123456789"
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_file_that_grows_meanwhile_is_read_whole_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"0123456789")
    status = os.fstat

    def look(handle: int) -> os.stat_result:
        fields = list(status(handle))
        fields[stat.ST_SIZE] = 4
        return os.stat_result(fields)

    monkeypatch.setattr(os, "fstat", look)
    assert _read(file, 10) == b"0123456789"
    file.write_bytes(b"0123456789x")
    with pytest.raises(ImageError, match="at most 10 bytes, got more"):
        _read(file, 10)


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        kinds = {"fifo": "a FIFO", "s": "No such device", ".": "a folder", "no": "No such file"}
        for name, kind in kinds.items():
            with pytest.raises(ImageError, match=kind):
                _read(tmp_path / name)
    with pytest.raises(ImageError, match="a device"):
        _read(Path("/dev/zero"))
    with pytest.raises(ImageError, match="null"):
        _read(Path("a\0b"))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux")
@pytest.mark.parametrize("name", ["/proc/self/maps", "/proc/self/mem", "/proc/kmsg"])
def test_a_file_that_hides_its_size_is_refused(name: str) -> None:
    with pytest.raises(ImageError, match=r"a file of the system's|not permitted|Permission denied"):
        _read(Path(name))


def test_an_empty_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    assert _read(tmp_path / "a") == b""


def test_names_lose_what_a_terminal_takes_for_orders() -> None:
    assert printable("a\x1b[2J\nb\udc80ü.png") == "a�[2J�b�ü.png"
