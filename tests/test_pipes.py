"""``-``: pictures from standard input and to standard output; and the latest picture, to watch."""

import errno
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Unpack

import pytest
from PIL import Image

from nstx.cli.optimize import pipes as piping
from nstx.cli.optimize import recorder
from nstx.cli.optimize.pipes import pipes, send
from nstx.engine.pictures.picture import Picture
from nstx.engine.pictures.writing import Saving, write_image
from nstx.models.errors import ImageError, NstxError, OutputError, UsageError
from nstx.models.storage.leftovers import remove_leftovers

Nstx = Callable[..., tuple[int, str, str]]

FAST = ("--size", "32", "--steps", "2")


@pytest.fixture
def pictures(save_picture: Callable[..., Path]) -> tuple[Path, Path]:
    return save_picture("content.png", 32, 32, 1), save_picture("style.png", 32, 32, 2)


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"picture")))


def test_a_pipe_gives_the_bytes_of_files(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    content, style = pictures
    output, watched = tmp_path / "out.png", tmp_path / "watched.png"
    fast = [*FAST, "--no-manifest"]
    assert nstx("optimize", content, style, "-o", output, *fast, "--watch", watched)[0] == 0
    assert watched.read_bytes() == output.read_bytes()
    command = [sys.executable, "-m", "nstx", "optimize", "-", str(style), "-o", "-", *fast]
    done = subprocess.run(command, input=content.read_bytes(), capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, output.read_bytes())
    assert done.stderr.startswith(b"saved -  32")


@pytest.mark.usefixtures("stdin")
def test_a_weight_stays_with_its_style() -> None:
    with pipes(Path("photo.jpg"), ("a.jpg:2", "-:0.5"), Path("-")) as files:
        assert files.content == Path("photo.jpg")
        other, piped = files.styles
        assert other == "a.jpg:2"
        assert piped.endswith(":0.5")
        assert Path(piped.removesuffix(":0.5")).read_bytes() == b"picture"
        files.output.write_bytes(b"result")
    assert not files.output.parent.exists()


@pytest.mark.usefixtures("stdin")
def test_what_is_piped_is_removed_where_the_process_ends_at_once() -> None:
    with pipes(Path("-"), ("a.jpg",), Path("-")) as files:
        assert files.content == files.stdin
        remove_leftovers()
        assert not files.output.parent.exists()


def test_what_standard_input_has_is_called_so(
    pictures: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    nstx: Nstx,
) -> None:
    content, style = pictures
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.read_bytes())))
    code, out, _ = nstx("optimize", "-", style, "-o", tmp_path / "out.png", *FAST, "--json")
    data = json.loads(out)
    assert code == 0
    assert [item["path"] for item in data["inputs"]] == ["-", str(style)]


def test_a_result_that_cannot_be_written_to_standard_output_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(Full()))
    (tmp_path / "stdout.png").write_bytes(b"result")
    with pytest.raises(OutputError, match=r"No space left on device.*was saved as"):
        send(tmp_path / "stdout.png")
    (kept,) = tmp_path.glob("nstx-rescued-*/stdout.png")
    assert kept.read_bytes() == b"result"


def test_a_stream_that_takes_little_at_a_time_gets_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = bytearray()

    class Slow(io.RawIOBase):  # as sys.stdout.buffer is with PYTHONUNBUFFERED
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            taken.extend(data[:10])
            return min(len(data), 10)

    picture = bytes(range(256))
    (tmp_path / "stdout.png").write_bytes(picture)
    stdout = io.TextIOWrapper(Slow(), write_through=True)  # type: ignore[type-var]
    monkeypatch.setattr(sys, "stdout", stdout)
    send(tmp_path / "stdout.png")
    assert taken == picture


@pytest.mark.usefixtures("stdin")
@pytest.mark.parametrize(
    ("content", "styles", "stream", "error"),
    [
        ("-", ("-",), "", UsageError),
        ("a.jpg", ("-", "-:2"), "", UsageError),
        ("-", ("a.jpg",), "stdin", ImageError),
        ("-", ("a.jpg",), "large", ImageError),
        ("a.jpg", ("a.jpg",), "stdout", OutputError),
    ],
)
def test_what_cannot_be_piped_is_told(
    content: str,
    styles: Sequence[str],
    stream: str,
    error: type[NstxError],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if stream == "large":
        monkeypatch.setattr(piping, "_MOST_BYTES", 3)
    elif stream:
        monkeypatch.setattr(sys, stream, None)  # closed by whoever began the process
    with (
        pytest.raises(error, match=r"expected .*, got .*; try |expected .* for -o -; try "),
        pipes(Path(content), styles, Path("-") if stream == "stdout" else Path("out.png")),
    ):
        pytest.fail("nothing is wrong")


@pytest.mark.parametrize("stream", ["stdin", "stdout"])
@pytest.mark.parametrize("kind", ["a terminal", "one that is closed"])
def test_a_terminal_and_a_closed_stream_are_told_apart(
    stream: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, stream, Terminal() if kind == "a terminal" else None)
    content, output = ("-", "out.png") if stream == "stdin" else ("a.jpg", "-")
    with pytest.raises(NstxError, match=f"got {kind}; try "):
        pipes(Path(content), ("a.jpg",), Path(output)).__enter__()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected a picture from standard input, got nothing; try '- < photo.jpg'"),
        (b"no picture", "standard input"),
        (b"\x89PNG\r\n\x1a\n", "standard input"),
    ],
)
def test_what_is_wrong_with_standard_input_names_no_file_of_ours(
    data: bytes,
    message: str,
    nstx: Nstx,
    pictures: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    code, _, err = nstx("optimize", "-", pictures[1], "-o", tmp_path / "out.png", *FAST)
    assert code == 3
    assert message in err
    assert tempfile.gettempdir() not in err.replace(str(tmp_path), "")


@pytest.mark.parametrize(("every", "is_silent"), [(3, False), (2, True)])
def test_a_run_without_snapshots_says_so(
    every: int, is_silent: bool, nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    _, _, err = nstx(
        "optimize", *pictures, "-o", tmp_path / "out.png", *FAST, "--save-every", every
    )
    assert (
        "no snapshot falls in the run, of 2 steps: try --save-every below 3" in err
    ) != is_silent


@pytest.mark.parametrize("other", [("--json",), ("--save-every", "1")])
def test_standard_output_has_room_for_one_thing(
    other: Sequence[str], nstx: Nstx, pictures: tuple[Path, Path]
) -> None:
    code, out, err = nstx("optimize", *pictures, "-o", "-", *other)
    assert code == 2
    assert f"for {other[0]}, got -o -" in out + err


def test_the_latest_picture_grows_with_the_scales(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def write(path: Path, picture: Picture, **saving: Unpack[Saving]) -> None:
        write_image(path, picture, **saving)
        with Image.open(path) as image:
            sizes.append(image.width)

    monkeypatch.setattr(recorder, "write_image", write)
    monkeypatch.setattr(recorder, "_WATCH_SECONDS", 0.0)
    monkeypatch.setattr(recorder, "_WATCH_TIMES", 0.0)
    watched, output = tmp_path / "watched.jpg", tmp_path / "out.png"
    arguments = ("--size", 32, "--steps", 2, "--scales", 2, "--watch", watched)
    assert nstx("optimize", *pictures, "-o", output, *arguments)[0] == 0
    assert sizes == [16, 32, 32]
