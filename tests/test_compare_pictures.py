"""What a comparison draws: contact sheets, films, animations, cost curves, and the page."""

import json
import math
import re
import shutil
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import random_pixels
from PIL import Image, ImageDraw, ImageFont
from processes import PATIENCE

from nstx.engine.choices import choose_settings
from nstx.engine.comparison.digests import Inputs
from nstx.engine.comparison.drawing import content_as_seen, draw_comparison_sheet
from nstx.engine.comparison.page import make_page
from nstx.engine.comparison.plan import plan_comparison
from nstx.engine.drawing.contact_sheet import (
    Grid,
    Tile,
    draw_gallery,
    draw_grid,
    fit_tile,
    plain,
)
from nstx.engine.drawing.cost_curves import draw_cost_curves
from nstx.engine.drawing.feature_sheets import draw_sheet
from nstx.engine.drawing.film_strip import Film, animate_runs, pack_film, unpack_film
from nstx.engine.features.activations import summarise_layer

ROOT = Path(__file__).parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def one_colour(colour: tuple[int, int, int], height: int = 30, width: int = 40) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def ink(image: Image.Image, box: tuple[int, int, int, int]) -> int:
    """Return how many pixels in a box are not the paper's white."""
    return int((np.asarray(image.crop(box)).min(axis=2) < 250).sum())


def test_a_grid_has_each_picture_and_its_label_in_its_cell() -> None:
    grid = Grid(
        (240, 180),
        2,
        2,
        title="title",
        column_labels=("left", "right"),
        row_labels=("up", "a long way down"),
    )
    red, blue = one_colour((200, 0, 0)), one_colour((0, 0, 200), 60, 30)
    sheet = draw_grid(grid, [[Tile(red, "a label", "a detail"), None], [Tile(blue)]])
    assert sheet.size == grid.size
    left, top = grid.corner(0, 0)
    assert (np.asarray(sheet)[top : top + 180, left : left + 240] == (200, 0, 0)).all()
    assert ink(sheet, (left, top + 182, left + 240, top + 204)) > 50
    assert ink(sheet, (left, top + 206, left + 240, top + 226)) > 50
    # A picture of another shape keeps its proportions, and stands on the line of the labels.
    left, top = grid.corner(1, 0)
    assert sheet.getpixel((left + 89, top + 179)) == (0, 0, 200)
    assert sheet.getpixel((left + 91, top + 179)) == (255, 255, 255)
    assert ink(sheet, (left, top + 181, left + 240, top + 230)) == 0
    left, top = grid.corner(0, 1)
    assert ink(sheet, (left, top, left + 240, top + 230)) == 0
    assert ink(sheet, (left, top - 24, left + 240, top)) > 30
    assert ink(sheet, (24, 0, 60, 60)) > 50


@pytest.mark.parametrize("shape", [(300, 400), (400, 100), (30, 900), (1000, 30)])
@pytest.mark.parametrize("columns", [1, 4, 12])
def test_labels_stay_within_their_cells_whatever_the_shape(
    shape: tuple[int, int], columns: int
) -> None:
    tile = fit_tile(shape, columns)
    assert max(tile) <= 320
    grid = Grid(tile, 1, columns)
    label = "content weight 0.000001, init something_very_long_and_longer.png"
    sheet = draw_grid(grid, [[Tile(np.zeros((*shape, 3), np.uint8), label)] * columns])
    for column in range(columns):
        left, top = grid.corner(0, column)
        assert ink(sheet, (left, top + tile[1] + 4, left + grid.cell[0], sheet.height)) > 100
        assert (
            ink(sheet, (left + grid.cell[0] + 1, top, left + grid.cell[0] + 15, sheet.height)) == 0
        )


def test_labels_keep_to_the_characters_that_the_font_has() -> None:
    assert plain("Café × Łódź – Größe 猫") == "Cafe x Lodz - Grosse ?"


def test_the_sheet_of_two_axes_is_a_table() -> None:
    plan = plan_comparison("default", {"style_weight": (1, 2, 3), "init": ("content", "noise")})
    originals = [
        Tile(one_colour((9, 9, 9)), "c.png", "content"),
        Tile(one_colour((0, 99, 0)), "s.png"),
    ]
    colours = [(10 + 40 * n, 0, 200) for n in range(6)]
    tiles = [
        Tile(one_colour(colour), run.label, "cost 1")
        for colour, run in zip(colours, plan.runs, strict=True)
    ]
    pixels = np.asarray(draw_comparison_sheet(plan, originals, tiles, "title"))
    areas = [np.argwhere((pixels == colour).all(axis=2)) for colour in colours]
    assert [len(area) for area in areas] == [320 * 240] * 6
    corners = [tuple(area.min(axis=0)) for area in areas]
    rows, columns = {top for top, _ in corners}, {left for _, left in corners}
    assert (len(rows), len(columns)) == (2, 3)
    assert corners[1][0] == corners[0][0] < corners[3][0]
    assert corners[3][1] == corners[0][1] < corners[1][1]
    (green,) = {(pixels == (0, 99, 0)).all(axis=2).sum()}
    assert green == 320 * 240


def test_a_title_is_as_wide_as_the_table_below_it() -> None:
    plan = plan_comparison("default", {"style_weight": (1, 2, 3), "init": ("content", "noise")})
    tiles = [Tile(one_colour((9, 9, 9)), run.label) for run in plan.runs]
    sheet = draw_comparison_sheet(plan, tiles[:1], tiles, "a title of many words " * 9)
    assert ink(sheet, (sheet.width - 80, 20, sheet.width, 50)) > 50


def test_the_original_of_stretched_runs_is_drawn_as_they_see_it(tmp_path: Path) -> None:
    image = Image.fromarray(random_pixels(30, 50, 1).astype(np.uint8))
    image.save(tmp_path / "p.png")
    inputs, result = Inputs(tmp_path / "p.png", ()), {"width": 32, "height": 32}
    seen = content_as_seen(inputs, choose_settings("coursera-tf2", size=32), result)
    stretched = image.resize((32, 32), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(seen.pixels, np.asarray(stretched))
    whole = content_as_seen(inputs, choose_settings(size=32), result)
    np.testing.assert_array_equal(whole.pixels, np.asarray(image))


def test_a_gallery_has_originals_in_its_margins() -> None:
    contents = [Tile(one_colour((255, 0, 0)), "c"), Tile(one_colour((0, 255, 0)), "d")]
    styles = [Tile(one_colour((0, 0, n)), f"s{n}") for n in (100, 150, 200)]
    results = [
        [Tile(one_colour((row * 50 + 20, column * 50 + 20, 9))) for column in range(3)]
        for row in range(2)
    ]
    pixels = np.asarray(draw_gallery(contents, styles, results))

    def corner(colour: tuple[int, int, int]) -> tuple[int, int]:
        return tuple(np.argwhere((pixels == colour).all(axis=2)).min(axis=0).tolist())

    assert corner((0, 0, 150))[1] == corner((20, 70, 9))[1] == corner((70, 70, 9))[1]
    assert corner((0, 255, 0))[0] == corner((70, 20, 9))[0] == corner((70, 120, 9))[0]
    assert corner((255, 0, 0))[1] < corner((20, 20, 9))[1]
    assert corner((0, 0, 100))[0] < corner((20, 20, 9))[0]


def film(colour: int, steps: tuple[int, ...]) -> Film:
    """Return a film whose frames are darker the later they are."""
    frames = [one_colour((colour, 255 - 20 * n, 255), 24, 32) for n in range(len(steps))]
    return Film(tuple(frames), steps)


@pytest.mark.parametrize("count", [1, 3, 8, 9, 20])
def test_a_film_comes_back_from_its_jpeg(tmp_path: Path, count: int) -> None:
    frames = tuple(random_pixels(33, 47, seed).astype(np.uint8) for seed in range(count))
    steps = tuple(range(1, count + 1))
    (tmp_path / "f.jpg").write_bytes(pack_film(Film(frames, steps)))
    back = unpack_film(tmp_path / "f.jpg", steps)
    assert back.steps == steps
    assert len(back.frames) == count
    for ours, theirs in zip(frames, back.frames, strict=True):
        assert theirs.shape == (33, 47, 3)
        assert np.abs(ours.astype(int) - theirs).mean() < 6


def test_a_film_shows_the_last_frame_that_is_not_later() -> None:
    ours = film(0, (1, 4, 8, 8))
    greens = [int(ours.at(step)[0, 0, 1]) for step in (0, 1, 3, 4, 7, 8, 99)]
    assert greens == [255, 255, 255, 235, 235, 195, 195]


def test_runs_are_animated_in_step_and_a_short_one_waits_at_its_end() -> None:
    frames = animate_runs([film(10, (1, 2)), film(90, (1, 2, 3, 4, 5))], ["a", "b"], 2)
    assert len(frames) == 5
    assert len({frame.shape for frame in frames}) == 1

    def green(frame: np.ndarray, red: int) -> int:
        (value,) = {tuple(v) for v in frame[(frame[..., 0] == red) & (frame[..., 2] == 255)]}
        return int(value[1])

    assert [green(frame, 10) for frame in frames] == [255, 235, 235, 235, 235]
    assert [green(frame, 90) for frame in frames] == [255, 235, 215, 195, 175]
    many = animate_runs([film(10, tuple(range(1, 11)))] * 6, list("abcdef"), 3)
    assert many[0].shape[0] * many[0].shape[1] < 700_000
    long = Film((one_colour((0, 0, 0)),) * 2, (1, 3000))
    assert len(animate_runs([long], ["a"], 1)) == 30


def trace(factor: float) -> list[dict[str, Any]]:
    return [{"step": n, "scale": 1 + n // 5, "total": factor / n} for n in range(1, 9)]


@pytest.mark.parametrize("count", [1, 3, 14])
def test_cost_curves_are_drawn(count: int) -> None:
    pytest.importorskip("matplotlib", reason="Matplotlib is not installed")
    labels = [f"_run {n} $x" for n in range(count)]
    data = draw_cost_curves({label: trace(10.0**n) for n, label in enumerate(labels)}, "a_b $")
    with Image.open(BytesIO(data)) as image:
        assert image.size == (1680 if count > 10 else 1200, 720)
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
    assert len(np.unique(pixels[np.ptp(pixels, axis=1) > 60], axis=0)) >= count
    assert draw_cost_curves({"zero": [{"step": 1, "scale": 1, "total": 0.0}]}).startswith(
        b"\x89PNG"
    )


class _Reader(HTMLParser):
    """Collects what a page refers to, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.values: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action", "data", "poster"):
                self.sources.append(value or "")
            if name == "value":
                self.values.append(value or "")


RESULT = {
    "width": 4800,
    "height": 3600,
    "cost": {"total": 1.0, "content": 0.5, "style": 0.25},
    "initial_cost": 4.0,
    "steps": 7,
    "seconds": {"optimize": 1.5},
}


def page(names: tuple[str, ...] = ("conv3_2", "conv4_2+conv5_2"), label: str = "{{sheet}}") -> str:
    tiles = {
        name: Tile(one_colour((n, 9, 9), 36 + n, 48), f"{label} {name}", "cost 1")
        for n, name in enumerate(names)
    }
    content, sheet = one_colour((9, 9, 9), 36, 48), Image.new("RGB", (300, 200))
    return make_page("a <b> & c", "init <i>", content, tiles, dict.fromkeys(names, RESULT), sheet)


def test_the_page_holds_everything_itself() -> None:
    text = page(label="<script>alert(1)</script>{{sheet}}")
    reader = _Reader()
    reader.feed(text)
    assert reader.sources
    assert all(source.startswith("data:image/webp;base64,") for source in reader.sources)
    assert len(reader.sources) == 2 + 2  # content and sheet, and each result once
    for word in ("http:", "https:", "//fonts", "url(", "@import", "<link", "<iframe"):
        assert word not in text
    assert reader.tags.count("script") == 1
    assert "a &lt;b&gt; &amp; c" in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;{{sheet}} conv3_2" in text
    assert "25.00%" in text
    assert "2 runs, 4800×3600; init &lt;i&gt;" in text
    for needed in ('lang="en"', 'name="viewport"', "aria-label", "<legend>", 'alt="the content"'):
        assert needed in text


def test_the_files_of_the_page_are_packaged() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = config["package-data"]["nstx.engine.comparison"]
    files = [path for path in (ROOT / "engine" / "comparison").iterdir() if path.suffix != ".py"]
    parts = [path for path in files if path.is_file()]
    assert sorted(path.name for path in parts) == ["page.css", "page.html", "page.js"]
    text = page()
    for path in parts:
        assert any(path.match(pattern) for pattern in patterns)
        # Each piece between the places to fill stands in the page as it does in its file.
        pieces = re.split(r"\{\{\w+\}\}", path.read_text(encoding="utf-8"))
        assert all(piece in text for piece in pieces)


def browse(tmp_path: Path, address: str, *more: str) -> str:
    """Return the page's DOM after its script has run, in headless Chromium."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("no Chromium is installed")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
        "--no-first-run", "--disable-background-networking", "--disable-component-update",
        "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=4000", *more, "--dump-dom", address,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_works_in_a_browser(tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    path.write_text(page(label="run"), encoding="utf-8")
    dom = browse(tmp_path, path.as_uri())
    # The script says so when the result's picture was decoded, at its own size.
    assert 'data-ready="2 runs"' in dom
    assert 'data-shown="conv3_2 48x36"' in dom
    assert 'aria-valuetext="50 % content, 50 % result"' in dom
    assert 'id="shown">run conv3_2<' in dom
    assert dom.count('<tr class="shown">') == 1
    dom = browse(tmp_path, f"{path.as_uri()}#conv4_2%2Bconv5_2")
    assert 'data-shown="conv4_2+conv5_2 48x37"' in dom
    assert 'id="shown">run conv4_2+conv5_2<' in dom


def test_the_pages_slider_and_choice_follow_keys(tmp_path: Path) -> None:
    """A script at the end of the page does what a key press does: changes and tells."""
    keys = """<script type="module">
    const range = document.querySelector(".stage input");
    range.value = 20; range.dispatchEvent(new Event("input"));
    const last = [...document.querySelectorAll(".choice input")].at(-1);
    last.checked = true; last.dispatchEvent(new Event("change"));
    </script></body>"""
    text = page(label="run").replace("</body>", keys)
    path = tmp_path / "index.html"
    path.write_text(text, encoding="utf-8")
    dom = browse(tmp_path, path.as_uri())
    assert "--at: 20%" in dom
    assert 'aria-valuetext="20 % content, 80 % result"' in dom
    assert 'id="shown">run conv4_2+conv5_2<' in dom


def test_the_gallery_script_makes_each_pair_once(tmp_path: Path) -> None:
    for folder, names in (("c", ("one", "two")), ("s", ("red",))):
        (tmp_path / folder).mkdir()
        for seed, name in enumerate(names):
            pixels = random_pixels(40, 50, seed).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{name}.png")
    options = ["--size", "40", "--steps", "2", "--style-layers", "conv1_1"]
    options += ["--content-layers", "conv1_2"]
    command = [sys.executable, ROOT / "scripts" / "gallery.py", *"cso", *options]
    written = []
    for _ in range(2):
        done = subprocess.run(
            list(map(str, command)), cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        written.append((tmp_path / "o" / "two_red.png").stat().st_mtime_ns)
    assert written[0] == written[1]
    result = json.loads((tmp_path / "o" / "one_red.json").read_text())
    assert math.isfinite(result["cost"]["total"])
    with Image.open(tmp_path / "o" / "gallery.jpg") as image:
        assert image.width > 2 * 300
        assert image.height > 3 * 200
    refused = subprocess.run(
        list(map(str, [*command, "--steps", "0"])), cwd=tmp_path, capture_output=True, check=False
    )
    assert refused.returncode == 2


def test_the_caption_of_a_feature_sheet_keeps_to_the_fonts_characters() -> None:
    activation = np.ones((3, 20, 30), np.float32)
    sheet = draw_sheet(activation, summarise_layer("conv1_1", activation, 3))
    expected = Image.new("RGB", (sheet.width, 22), (255, 255, 255))
    caption = "20 x 30, 3 channels   1 to 1, mean 1, 0% zero"
    ImageDraw.Draw(expected).text((8, 0), caption, (90, 90, 90), ImageFont.load_default(13))
    assert np.array_equal(np.asarray(sheet)[34:54], np.asarray(expected)[:20])
