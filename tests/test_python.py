"""The library from Python: what a call takes, what it returns, and every block of docs/python.md."""

import io
import logging
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import random_pixels
from PIL import Image

import nstx
from nstx.engine.pictures.reading import as_picture
from nstx.engine.preparation.inputs import take_styles
from nstx.models.errors import ImageError, UsageError
from nstx.models.layers import LayerWeight
from nstx.models.presets import PRESETS

GUIDE = Path(__file__).parents[1] / "docs" / "python.md"
BLOCKS = re.findall(
    r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
)
LAYERS: dict[str, Any] = {"content_layers": "conv2_2", "style_layers": "conv1_1,conv2_1"}
TINY: dict[str, Any] = {"size": 32, "steps": 1, "device": "cpu", **LAYERS}


@pytest.fixture
def paths(save_picture: Callable[..., Path]) -> tuple[Path, Path]:
    return save_picture("photo.png"), save_picture("painting.png", 40, 60, seed=1)


def test_paths_arrays_and_pillows_images_give_the_same_picture(paths: tuple[Path, Path]) -> None:
    photo, painting = paths
    pixels = np.asarray(Image.open(photo))
    expected = nstx.stylize(str(photo), [str(painting)], **TINY).pixels
    settings = nstx.choose_settings(**TINY)
    content: nstx.Picture | Path | Any
    styles: Any
    for content, styles in (
        (photo, painting),
        (pixels, [(painting, np.float32(2))]),
        (pixels[None], (painting,)),
        (Image.open(photo), [nstx.read_image(painting)]),
        (nstx.read_image(photo), np.asarray(Image.open(painting))),
        (photo, deque([painting])),
    ):
        result = nstx.stylize(content, styles, settings)
        np.testing.assert_array_equal(result.pixels, expected)


def test_arrays_are_taken_as_files_of_them_are(logged_warnings: list[str]) -> None:
    pixels = random_pixels(20, 24, 0).astype(np.uint8)
    grey, cover = pixels[..., 0], np.full((20, 24, 1), 128, np.uint8)
    np.testing.assert_array_equal(as_picture(grey).pixels, np.repeat(grey[..., None], 3, axis=2))
    clear = as_picture(np.concatenate([pixels, cover], axis=2))
    assert clear.alpha is not None
    assert (clear.alpha == 128).all()
    assert as_picture(pixels).alpha is None
    assert as_picture(pixels.astype(np.int64)).pixels.dtype == np.float32
    assert not logged_warnings
    unit = as_picture((pixels / 255).astype(np.float64))
    np.testing.assert_allclose(unit.pixels, pixels, atol=1e-4)
    assert "0–1" in logged_warnings[0]


@pytest.mark.parametrize(
    ("dtype", "white"),
    [("f4", 1), ("f4", 255), ("i4", 255), ("i4", 65535), ("u2", 65535)],
)
def test_greys_of_pillow_are_scaled_as_arrays_are(
    dtype: str, white: int, logged_warnings: list[str]
) -> None:
    grey = np.arange(256).reshape(16, 16)
    image = Image.fromarray((grey * (white / 255)).round(7).astype(dtype))
    pixels = as_picture(image).pixels
    np.testing.assert_allclose(
        pixels, np.repeat(grey[..., None], 3, axis=2).astype(float), atol=0.01
    )
    assert len(logged_warnings) == ((dtype, white) in (("f4", 1), ("i4", 65535)))


@pytest.mark.parametrize(
    "source",
    [
        None, 3, b"photo.jpg", object(), [], {"a": 1}, "none.jpg", "a\0b", "", ".",
        np.zeros((4, 4, 3), np.uint8), np.zeros((9, 9, 2), np.uint8), np.zeros(9, np.uint8),
        np.zeros((0, 9, 3), np.uint8), np.array(3, np.uint8), np.full((9, 9, 3), np.nan),
        np.zeros((9, 9, 3), complex), np.array([["a"]]), np.zeros((2, 9, 9, 3)),
        Image.new("RGB", (3, 3)), Image.new("F", (9, 9), float("nan")), Image.new("I", (9, 9), 10**6),
    ],
    ids=lambda source: repr(source)[:20],
)  # fmt: skip
def test_what_is_no_picture_is_an_error_of_nstx(source: Any) -> None:
    with pytest.raises((UsageError, ImageError)) as caught:
        as_picture(source)
    assert str(caught.value).startswith("expected")


@pytest.mark.parametrize(
    ("styles", "message"),
    [
        ([], "one or more styles"),
        (3, "a picture as a path"),
        (b"s.png", "got a value of type bytes"),
        (("s.png", 2), "got 2 beside them; try .*, 2"),
        (("s.png", 2, 3), "got 2 beside them"),
        (("s.png", np.float32(0.5)), "got 0.5 beside them"),
        (["s.png", "t.png", 10**400], "a finite number"),
        ([["s.png", 2]], "got a list of 2"),
        ([("{style}", 0)], "weights above 0"),
        ([("{style}", -1.0)], "weights above 0"),
        ([("{style}", float("nan"))], "finite number"),
        ([("{style}", True)], "finite number"),
        ([("{style}", "2")], "finite number"),
        ([("{style}", 1, 2)], "got a tuple of 3"),
    ],
)
def test_styles_that_cannot_be_are_refused(
    paths: tuple[Path, Path], styles: Any, message: str
) -> None:
    if isinstance(styles, list) and styles and isinstance(styles[0], tuple):
        styles = [tuple(str(paths[1]) if part == "{style}" else part for part in styles[0])]
    with pytest.raises(UsageError, match=message):
        take_styles(styles)


@pytest.mark.parametrize("name", ["noise", "matched", "start"])
def test_a_start_is_no_setting(
    paths: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(paths[1].parent)
    paths[1].rename(name)
    start = nstx.read_image(name)
    job = nstx.prepare_job(paths[0], paths[0], **TINY, init=start)
    assert job.init is start
    assert job.settings == nstx.choose_settings(**TINY, scales=1)
    assert [(item.role, item.path) for item in job.inputs][2:] == [("init", name)]
    again = nstx.prepare_job(paths[0], paths[0], job.settings, init=start.pixels)
    np.testing.assert_array_equal(again.start(0), job.start(0))
    assert nstx.prepare_job(paths[0], paths[0], job.settings).init is None
    assert nstx.prepare_job(paths[0], paths[0], **TINY, init=f"./{name}").settings.scales == 1


def test_settings_and_single_choices_exclude_each_other(paths: tuple[Path, Path]) -> None:
    settings = nstx.choose_settings(**TINY)
    with pytest.raises(UsageError, match="settings or size, got both"):
        nstx.stylize(*paths, settings, size=64)
    with pytest.raises(UsageError, match="got both"):
        nstx.stylize(*paths, settings, preset="coursera")
    with pytest.raises(UsageError, match="try size"):
        nstx.stylize(*paths, siez=64)  # type: ignore[call-arg]
    wrong: Any = 512
    with pytest.raises(UsageError, match="Settings"):
        nstx.prepare_job(*paths, wrong)


def test_the_guide_keeps_any_picture_of_a_run_that_fails(
    paths: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nearly black, beyond 0–255, transparent in part, and of a coarse scale."""
    (block,) = (block for block in BLOCKS if "so_far.png" in block)
    cover = np.full((64, 80), 128, np.uint8)
    photo = nstx.Picture(np.zeros((64, 80, 3), np.uint8), cover)
    stylize = nstx.stylize

    def fail(*_: object, on_step: Callable[[nstx.Step], None], **__: object) -> None:
        def follow(step: nstx.Step) -> None:
            pixels = step.pixels.clip(0, 0.7)
            pixels[0, 0] = 9999, -9999, 0
            on_step(replace(step, picture=pixels))
            raise nstx.DeviceError("no memory")

        small: dict[str, Any] = {**TINY, "size": 80, "scales": 2, "steps": 2}
        stylize(photo, paths[1], **small, on_step=follow)

    monkeypatch.setattr(nstx, "stylize", fail)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(nstx.DeviceError, match="no memory"):
        exec(block, {"nstx": nstx})  # noqa: S102
    saved = np.asarray(Image.open("so_far.png"))
    assert saved.shape == (32, 40, 4)
    assert (saved[..., 3] == 128).all()
    assert (saved[0, 0, :3] == (255, 0, 0)).all()
    assert saved[1:, :, :3].max() <= 1


def test_a_result_tells_and_shows_itself(paths: tuple[Path, Path], tmp_path: Path) -> None:
    result = nstx.stylize(*paths, **TINY)
    text = str(result)
    assert text.startswith("<Result 32×24 after 1 step in ")
    assert f"cost {result.cost.total:.6g}, " in text
    assert "array(" not in repr(replace(result, steps=2))
    result.save(tmp_path / "out.png")
    shown = np.asarray(Image.open(io.BytesIO(result._repr_png_())))
    np.testing.assert_array_equal(shown, np.asarray(Image.open(tmp_path / "out.png")))


def test_arrays_are_never_dumped(paths: tuple[Path, Path]) -> None:
    job = nstx.prepare_job(*paths, nstx.choose_settings(**TINY))
    steps: list[nstx.Step] = []
    nstx.run_job(job, on_step=steps.append)
    for value in (job, steps[0], nstx.read_image(paths[0]), nstx.load_weights()):
        assert "array(" not in repr(value)
        assert len(repr(value)) < 2500


@pytest.fixture
def unchanged_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave logging as it was, whatever a block does to it."""
    logger = logging.getLogger("nstx")
    level = logger.level
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    yield
    logger.setLevel(level)


@pytest.mark.usefixtures("unchanged_logging")
def test_every_block_of_the_guide_runs(
    save_picture: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, name in enumerate(("photo.jpg", "painting.jpg", "other.jpg")):
        save_picture(name, 48, 64, seed)
    monkeypatch.chdir(tmp_path)
    shown = PRESETS["default"]
    objective = shown.objective
    few = replace(
        objective,
        content_layers=(LayerWeight("conv2_2", 1.0),),
        style_layers=objective.style_layers[:3],
    )
    monkeypatch.setitem(PRESETS, "default", replace(shown, objective=few))
    names: dict[str, Any] = {"__name__": "guide"}
    for number, block in enumerate(BLOCKS):
        # Small, short and of few layers: what is shown is the calls.
        small = re.sub(r"\b(size|width|height)=\d+", r"\1=32", block)
        small = re.sub(r"\bsteps=\d+", "steps=1", small).replace(
            "should_stop=", "steps=1, should_stop="
        )
        exec(compile(small, f"{GUIDE.name}, block {number}", "exec"), names)  # noqa: S102
    assert len(BLOCKS) > 12
    written = {path.name for path in tmp_path.iterdir()}
    assert {"out.png", "out.webp", "style_weight_3.0.png", "batch_1.png"} <= written
    assert names["result"].picture.size == (32, 32)
