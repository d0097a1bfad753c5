"""Outputs: refused before the work where they cannot be, and where a picture goes that cannot be written."""

import errno
import os
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import random_pixels
from PIL import Image

from nstx.engine.pictures.picture import Picture
from nstx.engine.pictures.reading import read_image
from nstx.engine.pictures.rescue import write_or_rescue
from nstx.engine.pictures.writing import SUFFIXES, write_image
from nstx.models.errors import OutputError
from nstx.models.storage import files
from nstx.models.storage.files import check_distinct, check_file, check_new_files, check_output
from nstx.models.storage.leftovers import remove_leftovers, removed_at_exit, removed_if_empty
from nstx.models.storage.locks import locked

Nstx = Callable[..., tuple[int, str, str]]

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX's kinds of files")
PICTURE = Picture(random_pixels(12, 12, 0), None)


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    # Its name may be a hundred bytes long; a test's folder is more.
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(here)


def make_link_to_device(path: Path) -> None:
    path.symlink_to("/dev/null")


def make_loop(path: Path) -> None:
    path.symlink_to(path)


def make_link_into_nowhere(path: Path) -> None:
    path.symlink_to(path.parent / "missing" / "out.png")


@posix
def test_a_folder_that_can_be_written_and_not_read_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out.png").write_bytes(b"before")
    opened = os.open

    def refuse(path: str | Path, flags: int, *rest: int) -> int:
        if Path(path).is_dir() and not flags & (os.O_RDWR | getattr(os, "O_PATH", 0)):
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, flags, *rest)

    monkeypatch.setattr(os, "open", refuse)
    write_image(tmp_path / "out.png", PICTURE)
    assert (tmp_path / "out.png").read_bytes() != b"before"


@posix
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_fifo, "a FIFO"),
        (make_socket, "a socket"),
        (make_link_to_device, "a device"),
        (make_loop, "can be replaced"),
        (make_link_into_nowhere, "existing folder"),
    ],
)
def test_what_is_no_plain_file_is_refused_at_once(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "out.png"
    make(path)
    kind = path.lstat().st_mode
    with pytest.raises(OutputError, match=message):
        check_output(path, SUFFIXES)
    assert path.lstat().st_mode == kind


@pytest.mark.parametrize("code", [errno.EPERM, errno.EACCES, errno.EROFS, errno.ETXTBSY])
def test_a_file_that_cannot_be_replaced_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    path = tmp_path / "out.png"
    path.write_bytes(b"old")
    really = os.open

    def refuse(name: object, *arguments: object, **options: object) -> int:
        if str(name) == str(path):
            raise OSError(code, os.strerror(code))
        return really(name, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OutputError, match="can be replaced"):
        check_output(path, SUFFIXES)


def test_a_mount_point_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.png"
    path.write_bytes(b"old")
    monkeypatch.setattr(files, "_mount", lambda handle: f"mnt_id: {os.fstat(handle).st_ino}")
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(OutputError, match="mount point"):
        check_output(path, SUFFIXES)


@posix
@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_followed(tmp_path: Path, exists: bool) -> None:
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "real.png", tmp_path / "link.png"
    if exists:
        target.write_bytes(b"old")
    link.symlink_to(Path("there") / "real.png")
    write_image(link, PICTURE)
    assert link.is_symlink()
    np.testing.assert_array_equal(read_image(target).pixels, np.rint(PICTURE.pixels))
    assert [path.name for path in target.parent.iterdir()] == ["real.png"]


def test_a_name_that_is_too_long_is_named(tmp_path: Path) -> None:
    name = "n" * 252 + ".png"
    with pytest.raises(OutputError, match=f"255 bytes, got 256 in {name}"):
        check_file(tmp_path / name)


def test_a_folder_that_cannot_be_made_is_refused_before_the_work(tmp_path: Path) -> None:
    check_new_files(tmp_path / "new" / "folders")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    for name, message in (
        ("file", "the file"),
        ("x" * 256, "at most 255 bytes"),
        ("file/x", "the file"),
    ):
        with pytest.raises(OutputError, match=message):
            check_new_files(tmp_path / name)


def test_snapshots_of_too_long_names_are_refused_before_the_work(
    nstx: Nstx, save_picture: Callable[..., Path], tmp_path: Path
) -> None:
    picture, output = save_picture("p.png"), tmp_path / ("m" * 249 + ".png")
    arguments = ["optimize", picture, picture, "-o", output, "--size", 32, "--steps", 3]
    code, _, err = nstx(*arguments, "--save-every", 2)
    assert (code, output.stem + "_0002.png" in err) == (7, True)
    assert not output.exists()


@pytest.mark.parametrize("suffix", [".npy", ".jpg"])
def test_a_rescued_picture_keeps_its_name_and_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = tmp_path / "gone" / f"out{suffix}"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(OutputError, match="was saved as") as failure:
        write_or_rescue(path, PICTURE)
    (rescued,) = tmp_path.glob(f"nstx-rescued-*/out{suffix}")
    assert str(path.parent) in str(failure.value)
    assert str(rescued) in str(failure.value)
    if suffix == ".npy":
        np.testing.assert_array_equal(np.load(rescued), PICTURE.pixels)


def test_a_rescue_goes_on_where_the_folder_for_temporary_files_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, home = tmp_path / "full", tmp_path / "home"
    full.mkdir()
    home.mkdir()
    really = files.write_atomically

    def write(path: Path, data: bytes) -> None:
        if home not in path.parents:
            raise OSError(errno.ENOSPC, "No space left on device")
        really(path, data)

    monkeypatch.setattr(files, "write_atomically", write)
    monkeypatch.setattr(tempfile, "tempdir", str(full))
    monkeypatch.setattr(Path, "home", lambda: home)
    monkeypatch.chdir(full)
    with pytest.raises(OutputError, match=r"out\.png.*No space left.*was saved as"):
        write_or_rescue(tmp_path / "out.png", PICTURE)
    assert len(list(home.glob("nstx-rescued-*/out.png"))) == 1
    assert not list(full.iterdir())
    monkeypatch.setattr(Path, "home", lambda: full)
    with pytest.raises(OutputError, match=r"out\.png.*it is lost"):
        write_or_rescue(tmp_path / "out.png", PICTURE)
    assert not list(full.iterdir())


def test_an_output_is_one_runs_at_a_time(tmp_path: Path) -> None:
    paths = [tmp_path / "out.png", tmp_path / "t.jsonl"]
    with locked(paths):
        with pytest.raises(OutputError, match="another run"), locked([paths[1]]):
            pass
        with locked([tmp_path / "other.png"]):
            pass
    assert not list(tmp_path.iterdir())
    with locked(paths):
        (stale, *_) = tmp_path.iterdir()
        name = stale.name
    stale.with_name(name).touch()  # as a process leaves it that is killed
    with locked(paths):
        pass
    assert not list(tmp_path.iterdir())


@posix
@pytest.mark.parametrize("is_readable", [True, False])
def test_the_lock_file_of_another_users_killed_process(
    is_readable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.png"
    with locked([output]):
        (left,) = tmp_path.glob(".nstx-*.lock")
    left.touch()
    really = os.open

    def refuse(path: Path, flags: int, mode: int = 0o777) -> int:
        if path == left and (flags & os.O_RDWR or not is_readable):
            raise PermissionError(errno.EACCES, "Permission denied")
        return really(path, flags, mode)

    monkeypatch.setattr(os, "open", refuse)
    if is_readable:
        with (
            locked([output]),
            pytest.raises(OutputError, match="another run"),
            locked([output]),
        ):
            pytest.fail("it is locked")
        return
    with pytest.raises(OutputError, match=r"Permission denied; try .*, or remove '.*\.lock' if"):
        locked([output]).__enter__()


@posix
def test_no_file_is_made_where_a_link_in_a_locks_place_leads(tmp_path: Path) -> None:
    output = tmp_path / "out.png"
    with locked([output]):
        (lock,) = tmp_path.glob(".nstx-*.lock")
    lock.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match=r"expected to lock .*, or remove '.*\.lock' if"):
        locked([output]).__enter__()
    assert not (tmp_path / "elsewhere").exists()


def test_an_input_of_no_name_that_can_be_is_no_output(tmp_path: Path) -> None:
    check_distinct([tmp_path / "out.png"], [Path("a\0b")])
    with pytest.raises(OutputError, match="neither an input nor another output"):
        check_distinct([tmp_path / "out.png"], [Path("a\0b"), tmp_path / "." / "out.png"])


@posix
def test_a_folder_that_takes_no_lock_is_named_by_its_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, flags: int, mode: int = 0o777) -> int:
        kind = PermissionError if flags & os.O_CREAT else FileNotFoundError
        raise kind(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OutputError, match="Permission denied; try another folder"):
        locked([tmp_path / "out.png"]).__enter__()


def test_a_run_whose_trace_is_another_runs_is_refused(
    nstx: Nstx, save_picture: Callable[..., Path], tmp_path: Path
) -> None:
    picture, trace = save_picture("p.png"), tmp_path / "t.jsonl"
    arguments = ["optimize", picture, picture, "-o", tmp_path / "out.png", "--trace", trace]
    with locked([trace]):
        code, _, err = nstx(*arguments, "--size", 32, "--steps", 1)
    assert code == 7
    assert "t.jsonl for this run alone" in err


def test_leftovers_are_removed_when_a_process_ends_at_once(tmp_path: Path) -> None:
    kept, left = tmp_path / "kept", tmp_path / "left"
    kept.touch()
    left.touch()
    with removed_at_exit(kept):
        pass
    with removed_at_exit(left):
        remove_leftovers()
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@posix
def test_names_are_printed_without_what_a_terminal_obeys(
    nstx: Nstx, save_picture: Callable[..., Path], tmp_path: Path
) -> None:
    picture = save_picture("p.png")
    output = tmp_path / "a\x1b[31mred\nnext.png"
    code, out, err = nstx("optimize", picture, picture, "-o", output, "--size", 32, "--steps", 1)
    assert code == 0
    assert output.exists()
    assert "\x1b" not in out + err
    with pytest.raises(OutputError) as failure:
        check_output(tmp_path / "no\x1b" / "x.png", SUFFIXES)
    assert "\x1b" not in str(failure.value)


def test_an_empty_folder_goes_with_a_process_that_ends_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with removed_if_empty(folder), removed_at_exit(folder / "lock"):
        folder.mkdir()
        (folder / "lock").write_bytes(b"")
        remove_leftovers()
        assert not folder.exists()


def test_noise_that_an_encoder_fails_at_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    write_image(tmp_path / "a.jpg", noise)
    difference = read_image(tmp_path / "a.jpg").pixels.astype(np.float32) - noise
    assert np.abs(difference).mean() < 8
    really = Image.Image.save

    def save(image: Image.Image, *args: Any, **options: Any) -> None:
        if not options.get("lossless"):
            raise ValueError("encoding error 6")  # as libwebp does of 16 megapixels of noise
        really(image, *args, **options)

    monkeypatch.setattr(Image.Image, "save", save)
    write_image(tmp_path / "a.webp", noise, in_haste=True)
    np.testing.assert_array_equal(read_image(tmp_path / "a.webp").pixels, noise)
