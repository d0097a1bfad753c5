"""The faults that were met with in the world, by kind: what shows the right result, and others of a kind.

Each kind is a file, a machine or a command that something went wrong with: silently, by a traceback or
by lost work. `PROOFS` documents which test has its right result. Here it is tried only that such a test is
there, that it asserts something, and that it is not left out everywhere; that its result is the right one
stands in the test alone. Below stand further members of kinds, which are read as they are meant.
"""

import ast
import functools
import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from test_picture_damage import (
    IMAGE,
    LARGE_TEXT,
    PIXELS,
    chunk,
    encode,
    exif,
    jpeg,
    png,
    raw_png,
    riff,
    segment,
    webp,
)
from test_tiff import ALPHA, GREY, RGB, THUMBNAIL, WHOLE, pages, tiff, widen

from nstx.engine.pictures.reading import read_image
from nstx.models.errors import ImageError
from nstx.models.weights.pickles import PickleError, read_pickle

TESTS = Path(__file__).parent

PROOFS = {
    # Pictures.
    "eps_runs_ghostscript": "images:postscript_starts_no_process",
    "exif_damage": "picture_damage:odd_exif_keeps_its_orientation",
    "exif_damage, segments": "picture_damage:a_jpeg_with_damaged_segments_is_read",
    "folder_other_suffixes": "images:a_folders_pictures_are_all_that_can_be_read",
    "heic": "picture_damage:heic_is_read_upright_where_its_library_is",
    "heic, no library": "picture_damage:heic_without_its_library_is_told_by_name",
    "jpeg_without_eoi": "picture_damage:a_jpeg_that_lacks_only_its_end_is_read_with_a_warning",
    "npy_0_to_1": "picture_damage:npy_on_the_scale_0_to_1_is_recognised",
    "npy_0_to_1, too large": "picture_damage:npy_on_a_scale_that_cannot_be_told_is_refused",
    "png_grey16_trns": "picture_damage:a_grey_pngs_clear_shade_is_that_of_its_own_depth",
    "png_metadata": "picture_damage:a_png_with_damaged_or_large_chunks_is_read_with_a_warning",
    "tiff_planar16": "tiff:samples_are_read_however_they_lie",
    "tiff_thumbnail_first": "tiff:the_picture_is_not_a_thumbnail_of_it",
    "tiff_unknown_kinds": "tiff:samples_are_read_however_they_lie",
    "tiff_unknown_kinds, grey with alpha": "tiff:grey_with_alpha_and_premultiplied_alpha",
    "tiff_white_is_zero16": "tiff:greys_and_their_negatives",
    # Weights.
    "weights_of_others": "weight_conventions:any_name_gives_the_network_that_its_filters_show",
    "weights_of_others, saved anew": "weights:a_file_saved_anew_under_a_published_name_is_read_with_one_warning",
    "zipped_weights": "weights:the_embedded_weights_are_read_from_a_zip_archive",
    # Machines, names, settings and outputs.
    "deleted_folder": "odd_machines:a_working_folder_that_is_gone_leaves_absolute_paths",
    "diverges": "interrupts:a_run_that_diverges_saves_its_last_finite_picture",
    "env_not_named": "cli_errors:a_wrong_value_is_named_with_its_place",
    "names_on_stdout": "cli_errors:no_name_gives_a_terminal_orders",
    "no_home": "odd_machines:without_a_home_nothing_is_kept_and_all_works",
    "no_home, of nobody": "odd_machines:a_cache_in_the_home_of_nobody_is_a_mistake",
    "output_not_a_plain_file": "outputs:what_is_no_plain_file_is_refused_at_once",
    "output_not_a_plain_file, link": "outputs:a_link_is_followed",
    "output_not_a_plain_file, mount point": "outputs:a_mount_point_is_refused_at_once",
    "output_not_a_plain_file, immutable": "outputs:a_file_that_cannot_be_replaced_is_refused_at_once",
    "save_every_long_name": "outputs:snapshots_of_too_long_names_are_refused_before_the_work",
    "threads_above_cores": "odd_machines:more_threads_than_processors_are_a_warning",
    "toml_bom": "cli_configuration:a_configuration_is_taken_as_editors_save_it",
    "toml_list": "cli_configuration:a_list_in_a_configuration_is_what_commas_separate",
    # Hostile files.
    "hostile/bomb2.h5": "keras_files:arrays_that_are_not_plain_numbers_in_the_file_are_refused",
    "hostile/cache_40": "hostile_targets:an_entry_with_an_odd_key_is_damaged",
    "hostile/hash_bomb.pth": "torch_files:what_exhausts_pythons_unpickler_takes_a_moment_here",
    "hostile/img_1025, 1063, 1291 and npy_zip0": "images:what_is_no_picture_is_refused",
    "hostile/innocent.jpg": "images:postscript_starts_no_process",
    "hostile/model_122": "hostile_models:metadata_that_are_no_utf8_are_refused",
    "hostile/npy_nest.npy": "picture_damage:npy_that_says_what_cannot_be_is_refused_in_a_line",
    "hostile/record_*": "hostile_comparisons:a_record_that_does_not_fit_is_none",
    "hostile/segv.pth": "faults:nothing_that_a_pickle_makes_has_a_state_to_set",
    "hostile/stride_bomb.pth": "torch_files:a_tensor_stays_within_its_storage",
    "hostile/targets_wrong_types": "hostile_targets:a_targets_file_that_misdescribes_itself_is_refused",
    "hostile/toml_*": "cli_configuration:a_wrong_configuration_is_one_line",
}


@functools.cache
def functions_in(module: str) -> dict[str, ast.FunctionDef]:
    tree = ast.parse((TESTS / f"test_{module}.py").read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def asserts(function: ast.FunctionDef) -> bool:
    """Whether a test can fail by its own words: by an assertion, or by an error that does not come."""
    checks = ("pytest.raises(", "np.testing.assert_")
    return any(
        isinstance(node, ast.Assert)
        or (isinstance(node, ast.Call) and ast.unparse(node).startswith(checks))
        for statement in function.body
        for node in ast.walk(statement)
    )


def is_left_out(function: ast.FunctionDef) -> bool:
    """Whether a test is skipped, or may fail, on every machine."""
    marks = [ast.unparse(mark).removeprefix("pytest.mark.") for mark in function.decorator_list]
    leaves = isinstance(function.body[0], ast.Expr | ast.Return | ast.Raise) and any(
        word in ast.unparse(function.body[0]) for word in ("return", "pytest.skip", "pytest.xfail")
    )
    return leaves or any(mark.partition("(")[0] in ("skip", "xfail") for mark in marks)


@pytest.mark.parametrize("kind", PROOFS)
def test_each_kind_has_a_test_that_can_fail(kind: str) -> None:
    module, _, name = PROOFS[kind].partition(":")
    function = functions_in(module)[f"test_{name}"]
    assert asserts(function)
    assert not is_left_out(function)


@pytest.mark.parametrize(
    ("text", "can_fail"),
    [
        ("def test_a(): assert b", True),
        ("def test_a():\n with pytest.raises(E): b()", True),
        ("@pytest.mark.skipif(c, reason='')\ndef test_a(): assert b", True),
        ("def test_a(): pass", False),
        ("def test_a(): b()", False),
        ("def test_a():\n return\n assert b", False),
        ("def test_a():\n pytest.skip('')\n assert b", False),
        ("@pytest.mark.skip\ndef test_a(): assert b", False),
        ("@pytest.mark.xfail(reason='')\ndef test_a(): assert b", False),
    ],
)
def test_an_empty_test_or_one_that_is_left_out_is_no_proof(text: str, can_fail: bool) -> None:
    (function,) = ast.parse(text).body
    assert isinstance(function, ast.FunctionDef)
    assert (asserts(function) and not is_left_out(function)) == can_fail


def patched(data: bytes, code: int, value: int) -> bytes:
    """Return a TIFF whose first page has another value in a tag of one number."""
    changed = bytearray(data)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tag = file.pages.first.tags[code]
        size = {3: 2, 4: 4}[tag.dtype]
        changed[tag.valueoffset : tag.valueoffset + size] = value.to_bytes(size, "little")
    return bytes(changed)


def planes(samples: Any, **options: Any) -> bytes:
    return tiff(np.moveaxis(samples, 2, 0), planarconfig="separate", **options)


WIDE, GREY_16 = widen(RGB, "u2"), widen(RGB[..., 0], "u2")
MASK = (ALPHA, {"photometric": "minisblack", "subfiletype": 1})
HALF = (RGB[::2, ::2], {"photometric": "rgb", "subfiletype": 1})

TIFFS: dict[str, tuple[bytes, Any]] = {
    "tiff_planar16, in tiles, big-endian": (
        planes(WIDE, photometric="rgb", tile=(16, 16), byteorder=">"), RGB
    ),
    "tiff_planar16, with a channel that means nothing": (
        planes(np.dstack([WIDE, GREY_16]), photometric="rgb", extrasamples=["unspecified"]), RGB
    ),
    "tiff_planar16, of CMYK": (
        planes(np.dstack([65535 - WIDE, 0 * GREY_16]), photometric="separated"), RGB
    ),
    "tiff_thumbnail_first, two of them": (pages(THUMBNAIL, HALF, WHOLE), RGB),
    "tiff_thumbnail_first, a mask": (patched(patched(pages(MASK, WHOLE), 254, 4), 262, 4), RGB),
    "tiff_thumbnail_first, a DNG's other preview": (patched(pages(THUMBNAIL, WHOLE), 254, 65537), RGB),
    "tiff_thumbnail_first, before floats": (
        pages(THUMBNAIL, (widen(RGB, "f4"), {"photometric": "rgb"})), RGB
    ),
    "tiff_white_is_zero16, packed": (
        tiff(65535 - GREY_16, photometric="miniswhite", compression="zlib", tile=(16, 16)), GREY
    ),
    "tiff_white_is_zero16, with alpha": (
        tiff(np.dstack([65535 - GREY_16, GREY_16 * 0 + 65535]), photometric="miniswhite",
             extrasamples=["unassalpha"]), GREY
    ),
    "tiff_white_is_zero16, of one bit": (
        tiff(RGB[..., 0] > 100, photometric="miniswhite"), np.where(GREY > 100, 0, 255)
    ),
    "tiff_unknown_kinds, half": (tiff(widen(RGB[..., 0], "f2"), photometric="minisblack"), GREY),
    "tiff_unknown_kinds, signed RGB": (tiff(widen(RGB, "i2"), photometric="rgb"), RGB),
    "tiff_unknown_kinds, a stack": (
        tiff(np.stack([RGB[..., 0], 255 - RGB[..., 0]]), photometric="minisblack"), GREY
    ),
}  # fmt: skip

WHOLE_PNG = encode(IMAGE, "PNG")
END = 12  # bytes of a PNG's last chunk
PNGS = {
    "sBIT": chunk(b"sBIT", b"\1"), "hIST": chunk(b"hIST", b"\1\2"), "bKGD": chunk(b"bKGD", b""),
    "tIME": chunk(b"tIME", b"\0"), "sRGB": chunk(b"sRGB", b""), "cICP": chunk(b"cICP", b"\1"),
    "acTL": chunk(b"acTL", bytes(8)), "fcTL": chunk(b"fcTL", bytes(5)),
    "zTXt": chunk(b"zTXt", b"a\0\0garbage"), "iTXt": chunk(b"iTXt", b"a\0\2\3\0\0x"),
    "many texts": chunk(b"zTXt", b"a\0\0" + LARGE_TEXT) * 40,
    "unknown": chunk(b"abCd", b"x", damaged=True), "large": chunk(b"prVt", bytes(2**22)),
    "gAMA of 0": chunk(b"gAMA", bytes(4)), "gAMA": chunk(b"gAMA", b"\0\0\xb1\x8f", damaged=True),
    "cHRM of 0": chunk(b"cHRM", bytes(32)), "tRNS": chunk(b"tRNS", bytes(6), damaged=True),
    "iCCP": chunk(b"iCCP", b"p\0\1xx"), "iCCP without an end": chunk(b"iCCP", b"ppppp"),
}  # fmt: skip

WHOLE_JPEG = jpeg(b"")
JPEG_PIXELS = np.asarray(Image.open(io.BytesIO(WHOLE_JPEG)))
TURNED = np.rot90(JPEG_PIXELS, 3)
ORIENTATION = b"Exif\0\0MM\0*\0\0\0\x08%b\x01\x12\0%b\0\0\0\x01%b\0\0\0\0"
LOOP = struct.pack("<HHII", 0x8769, 4, 1, 8)
FAR = struct.pack("<HHII", 0x8825, 4, 1, 10**8)
CLEAR_16 = np.arange(256).reshape(16, 16, 1) * 257

JPEGS = {
    "jpeg_without_eoi, zeros there": (WHOLE_JPEG[:-2] + bytes(2), JPEG_PIXELS),
    "jpeg_without_eoi, half of it": (WHOLE_JPEG[:-1] + bytes(100), JPEG_PIXELS),
    "jpeg_without_eoi, with more behind it": (WHOLE_JPEG + b"more" * 9, JPEG_PIXELS),
    "exif_damage, an empty segment": (jpeg(b"\xff\xee\0\x02"), JPEG_PIXELS),
    "exif_damage, a part of a profile": (
        jpeg(segment(0xE2, b"ICC_PROFILE\0\x01\x02abc")), JPEG_PIXELS
    ),
    "exif_damage, an orientation that is none": (
        jpeg(segment(0xE1, ORIENTATION % (b"\0\1", b"\3", b"\0\x09\0\0"))), JPEG_PIXELS
    ),
    "exif_damage, an orientation of 32 bits": (
        jpeg(segment(0xE1, ORIENTATION % (b"\0\1", b"\4", b"\0\0\0\6"))), TURNED
    ),
    "exif_damage, more entries than there are": (
        jpeg(segment(0xE1, ORIENTATION % (b"\xff\xff", b"\3", b"\0\6\0\0"))), TURNED
    ),
    "exif_damage, that holds itself": (jpeg(segment(0xE1, b"Exif\0\0" + exif(LOOP))), TURNED),
}  # fmt: skip

OTHERS: dict[str, tuple[bytes, Any]] = {
    **TIFFS,
    **JPEGS,
    **{f"png_metadata, {name}": (png(extra), PIXELS) for name, extra in PNGS.items()},
    "png_metadata, no end": (WHOLE_PNG[:-END], PIXELS),
    "png_metadata, behind the pixels": (
        WHOLE_PNG[:-END] + chunk(b"tEXt", b"a\0b", damaged=True) + WHOLE_PNG[-END:],
        PIXELS,
    ),
    "png_grey16_trns, a shade that is nowhere": (
        raw_png(CLEAR_16, 0, 16, chunk(b"tRNS", b"\x01\x02")),
        np.repeat(CLEAR_16 // 257, 3, 2),
    ),
    "exif_damage, of PNG": (png(chunk(b"eXIf", exif(FAR))), np.rot90(PIXELS, 3)),
    "exif_damage, of WebP": (webp(riff(b"EXIF", exif(LOOP))), np.rot90(PIXELS, 3)),
    "exif_damage, of WebP as JPEG has it": (
        webp(riff(b"EXIF", b"Exif\0\0" + exif(FAR))),
        np.rot90(PIXELS, 3),
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_others_of_a_kind_are_read_as_they_are_meant(tmp_path: Path, name: str) -> None:
    data, right = OTHERS[name]
    (tmp_path / "picture").write_bytes(data)
    picture = read_image(tmp_path / "picture")
    np.testing.assert_allclose(picture.pixels, right, atol=1)
    assert picture.alpha is None or (picture.alpha == 255).all()


@pytest.mark.parametrize("data", [
    b"\xc5\xd0\xd3\xc6\x1e\0\0\0\x20\0\0\0%!PS-Adobe", b"\xef\xbb\xbf%!PS", b"\n\n\0%!PS",
    b"%PDF-1.4\n", b"\xd7\xcd\xc6\x9a\0\0", b"P7\nWIDTH 9\n", zlib.compress(b"picture"),
], ids=repr)  # fmt: skip
def test_what_a_program_would_have_to_draw_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "talks.jpg").write_bytes(data)
    with pytest.raises(ImageError, match=r"^expected a picture"):
        read_image(tmp_path / "talks.jpg")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs in folders")
@pytest.mark.parametrize("name", ["conv1_1.png", "conv1_1/channel_003.png"])
def test_no_command_puts_a_file_in_the_place_of_a_fifo(
    nstx: Callable[..., tuple[int, str, str]],
    save_picture: Callable[..., Path],
    tmp_path: Path,
    name: str,
) -> None:
    fifo = tmp_path / "sheets" / name
    fifo.parent.mkdir(parents=True)
    os.mkfifo(fifo)
    options = ["--layers", "conv1_1", "--channels", "--size", 32, "-o", tmp_path / "sheets"]
    code, out, err = nstx("features", save_picture("p.png"), *options)
    assert (code, out, err.count("\n")) == (7, "", 1)
    assert "got a FIFO" in err
    assert fifo.is_fifo()


STORAGE = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\1\0\0\x000X\3\0\0\0cpuK\x04tQ"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\0(K\x04t(K\x01t\x89NtR"


STATES = [b"K\1", b"}X\1\0\0\0aK\1s", b"(K\1K\2t", b"N}X\1\0\0\0aK\1s\x86"]


@pytest.mark.parametrize("state", STATES)
def test_nothing_that_a_pickle_makes_has_a_state_to_set(state: bytes) -> None:
    plain = read_pickle(io.BytesIO(b"\x80\x02" + TENSOR + b"."))
    assert read_pickle(io.BytesIO(b"\x80\x02" + TENSOR + state + b"b.")) == plain
    for made in (STORAGE, b"ctorch\nFloatStorage\n", b"X\1\0\0\0a"):
        with pytest.raises(PickleError, match="it changes a "):
            read_pickle(io.BytesIO(b"\x80\x02" + made + state + b"b."))
