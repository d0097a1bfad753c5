"""ICC profiles: applied to 16 bits as Little CMS applies them to 8, and refused where they are nonsense."""

import io
import struct
from pathlib import Path

import numpy as np
import profiles
import pytest
import tifffile
from PIL import Image, ImageCms
from profiles import ADOBE, ADOBE_RGB, GREY, P3, by_little_cms, curve, parametric, rgb_profile

from nstx.engine.pictures.reading import read_image
from nstx.engine.profiles.conversion import from_srgb, to_srgb
from nstx.engine.profiles.icc import (
    NODES,
    UnusableProfileError,
    make_srgb_profile,
    parse_profile,
)

COLOURS = np.random.default_rng(5).integers(0, 256, (30, 41, 3), np.uint8)
GAMMAS = {
    "linear": curve(), "1.8": curve(461), "table": curve(*range(0, 65536, 257)),
    "para 0": parametric(0, 2.2), "para 1": parametric(1, 2.2, 0.9, 0.1),
    "para 2": parametric(2, 2.4, 0.95, 0.02, 0.01), "para 3": profiles.SRGB_CURVE,
    "para 4": parametric(4, 2.4, 0.9, 0.05, 0.1, 0.05, 0.02, 0.001),
}  # fmt: skip


@pytest.mark.parametrize("tone", GAMMAS.values(), ids=GAMMAS)
@pytest.mark.parametrize("primaries", [profiles.DISPLAY_P3, ADOBE_RGB], ids=["p3", "adobe"])
def test_colours_are_converted_as_by_little_cms(
    tone: bytes, primaries: tuple[tuple[float, ...], ...]
) -> None:
    data = rgb_profile(primaries, tone)
    ours = to_srgb(COLOURS.astype(np.float32), parse_profile(data))
    difference = np.abs(ours - by_little_cms(COLOURS, data))
    # Little CMS has 14 bits of light, or a table where black is not 0: little for what is near black.
    assert np.quantile(difference, 0.96) < 1.6
    assert difference.mean() < 0.5
    if tone not in (GAMMAS["para 1"], GAMMAS["para 2"], GAMMAS["para 4"]):
        assert difference.max() < 1.6


def test_greys_are_converted_as_by_little_cms() -> None:
    grey = COLOURS[..., 0]
    ours = to_srgb(grey[..., None].astype(np.float32), parse_profile(GREY))
    np.testing.assert_allclose(ours, by_little_cms(grey, GREY).astype(float), atol=1.6)


@pytest.mark.parametrize("data", [P3, ADOBE], ids=["p3", "adobe"])
def test_colours_come_back_within_a_step_of_16_bits(data: bytes) -> None:
    space, srgb = parse_profile(data), COLOURS.astype(np.float32)
    own = from_srgb(srgb, space)
    within = ((own > 0) & (own < 255)).all(2)
    assert within.mean() > 0.9
    np.testing.assert_allclose(to_srgb(own, space)[within], srgb[within], atol=0.5 / 257)


def test_neutral_colours_stay_neutral() -> None:
    grey = np.repeat(NODES[:, None] * 255, 3, 1).astype(np.float32)
    for data in (P3, ADOBE):
        assert np.ptp(to_srgb(grey, parse_profile(data)), axis=1).max() * 257 < 3


def test_our_profile_of_srgb_is_that_of_little_cms() -> None:
    data = make_srgb_profile()
    opened = ImageCms.ImageCmsProfile(io.BytesIO(data))
    assert ImageCms.getProfileDescription(opened).strip() == "sRGB"
    np.testing.assert_allclose(by_little_cms(COLOURS, data).astype(int), COLOURS, atol=1)
    ours = parse_profile(data)
    theirs = parse_profile(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    assert ours.to_xyz is not None
    assert theirs.to_xyz is not None
    assert np.abs(ours.to_xyz - theirs.to_xyz).max() <= 2 / 65536
    assert np.abs(ours.curves - theirs.curves).max() < 1e-6


def patched(data: bytes, at: int, change: bytes) -> bytes:
    return data[:at] + change + data[at + len(change) :]


BAD = {
    "empty": b"", "short": P3[:60], "no tags": P3[:130], "cut": P3[:-30],
    "magic": patched(P3, 36, b"none"), "class": patched(P3, 12, b"link"),
    "cmyk": patched(P3, 16, b"CMYK"), "lab": patched(P3, 20, b"Lab "),
    "many tags": patched(P3, 128, b"\xff\xff\xff\xff"), "tag far away": patched(P3, 172, b"\xff\xff\xff\xf0"),
    "tables": rgb_profile(A2B0=b"mft2" + bytes(60)), "no curves": profiles.profile({}),
    "no colours": profiles.profile({name + b"TRC": profiles.SRGB_CURVE for name in (b"r", b"g", b"b")}),
    "one colour": rgb_profile(((0.3, 0.3, 0.3),) * 3), "falling": rgb_profile(tone=curve(65535, 0)),
    "flat": rgb_profile(tone=curve(9, 9, 9)), "curve of a text": rgb_profile(tone=b"text" + bytes(20)),
    "long curve": rgb_profile(tone=b"curv" + struct.pack(">II", 0, 2**31) + bytes(8)),
    "curve ends": rgb_profile(tone=b"curv" + struct.pack(">II", 0, 500) + bytes(8)),
    "kind 9": rgb_profile(tone=parametric(9, 1.0)), "falling power": rgb_profile(tone=parametric(0, -2.0)),
    "no slope": rgb_profile(tone=parametric(1, 2.2, 0.0, 0.5)),
    "negative power": rgb_profile(tone=parametric(3, -2.0, 1.0, 0.0, 0.0, 0.0)),
    "huge": P3 + bytes(2**22),
}  # fmt: skip


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_nonsense_is_refused(data: bytes) -> None:
    with pytest.raises(UnusableProfileError):
        parse_profile(data)


def test_random_damage_is_refused_or_read() -> None:
    generator = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(P3)
        for at in generator.integers(0, len(data), 4):
            data[at] = generator.integers(256)
        try:
            space = parse_profile(bytes(data))
        except UnusableProfileError:
            continue
        colours = to_srgb(COLOURS[:2].astype(np.float32), space)
        assert np.isfinite(colours).all()
        assert colours.min() >= 0
        assert colours.max() <= 255


SIXTEEN = np.random.default_rng(1).integers(0, 65536, (20, 30, 3), np.uint16)


def read(tmp_path: Path, samples: np.ndarray, data: bytes) -> np.ndarray:
    path = tmp_path / "p.tif"
    kind = "rgb" if samples.ndim == 3 else "minisblack"
    tifffile.imwrite(path, samples, photometric=kind, iccprofile=data)
    return read_image(path).pixels


def test_a_profile_is_applied_to_16_bits(tmp_path: Path) -> None:
    pixels = read(tmp_path, SIXTEEN, P3)
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(
        pixels, to_srgb((SIXTEEN / 257).astype(np.float32), parse_profile(P3))
    )
    grey = read(tmp_path, SIXTEEN[..., 0], GREY)
    np.testing.assert_array_equal(grey[..., 0], grey[..., 2])
    srgb = read(tmp_path, SIXTEEN, make_srgb_profile())
    np.testing.assert_array_equal(srgb, (SIXTEEN / 257).astype(np.float32))


def test_a_profile_of_tables_is_applied_in_8_bits(
    tmp_path: Path, logged_warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(data: bytes) -> None:
        raise UnusableProfileError("it has tables")

    monkeypatch.setattr("nstx.engine.pictures.srgb.parse_profile", refuse)
    pixels = read(tmp_path, SIXTEEN, ADOBE)
    eight = np.rint(SIXTEEN / 257).astype(np.uint8)
    np.testing.assert_array_equal(pixels, by_little_cms(eight, ADOBE))
    assert logged_warnings[0].endswith("its profile is applied in 8 bits (it has tables)")


@pytest.mark.parametrize("data", [b"nonsense" * 40, GREY, profiles.profile({}, b"CMYK")])
def test_a_profile_that_does_not_fit_is_told_and_left_out(
    tmp_path: Path, logged_warnings: list[str], data: bytes
) -> None:
    pixels = read(tmp_path, SIXTEEN, data)
    np.testing.assert_array_equal(pixels, (SIXTEEN / 257).astype(np.float32))
    assert "cannot be used" in logged_warnings[0]


def test_png_of_16_bits_has_its_profile_applied(tmp_path: Path) -> None:
    grey = Image.fromarray(SIXTEEN[..., 0])
    grey.save(tmp_path / "p.png", icc_profile=GREY)
    expected = to_srgb((SIXTEEN[..., :1] / 257).astype(np.float32), parse_profile(GREY))
    np.testing.assert_allclose(read_image(tmp_path / "p.png").pixels, expected)
