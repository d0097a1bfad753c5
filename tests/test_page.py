"""The page of ``nstx serve``, without a browser: what it says of nstx is so, and nothing in it can be turned."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image

from nstx.models.presets import PRESETS
from nstx.models.statistics import Statistic

PAGE = Path(__file__).parents[1] / "cli" / "serve" / "page"
SCRIPTS = sorted(PAGE.glob("*.js"))
TEXTS = [*SCRIPTS, *sorted(PAGE.glob("*.css")), PAGE / "index.html"]
MARKUP = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|javascript:"


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))


def elements() -> list[tuple[str, dict[str, str | None]]]:
    parser = _Elements()
    parser.feed((PAGE / "index.html").read_text())
    return parser.all


def test_presets_are_as_the_page_shows_them() -> None:
    shown = json.loads((PAGE / "presets.json").read_text())
    assert set(shown) == set(PRESETS)
    for name, values in shown.items():
        preset = PRESETS[name]
        for option, value in values.items():
            holder = preset if hasattr(preset, option) else preset.objective
            assert getattr(holder, option) == value, (name, option)


def test_every_control_is_an_option_of_a_job() -> None:
    from nstx.engine.service.options import FIELDS

    names = set(re.findall(r'\bname: "(\w+)"', (PAGE / "fields.js").read_text()))
    assert names <= {"init", *FIELDS}
    assert {"preset", "size", "style_weight", "style_scale", "colors", "steps", "format"} <= names


def test_statistics_and_presets_have_names_on_the_page() -> None:
    text = (PAGE / "fields.js").read_text()
    for name in (*PRESETS, *get_args(Statistic)):
        assert f'["{name}", ' in text


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_what_the_page_names_is_there_and_its_own(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 300
    assert not re.search(MARKUP, text)
    without_names = text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|//[a-z]+\.[a-z]+/", without_names)
    if path.suffix == ".js":
        for name in re.findall(r'from "\./([\w.]+)"', text):
            assert (PAGE / name).is_file()
    for name in re.findall(r"/page/([\w./-]+\.\w+)", text):
        assert (PAGE / name).is_file(), name


def test_pictures_of_the_controls_and_the_shelf_are_there_and_small() -> None:
    text = (PAGE / "fields.js").read_text()
    ends = {
        name
        for pair in re.findall(r"ends: \[(.*?)\]", text)
        for name in re.findall(r'"([\w-]+)"', pair)
    }
    looks = ends | set(PRESETS) | {"luminance", "matched", "histogram", "only"}
    assert {path.stem for path in (PAGE / "looks").iterdir()} == looks
    shelf = set(re.findall(r'\["(\w+)", "\w+"\]', (PAGE / "pictures.js").read_text()))
    assert {path.stem for path in (PAGE / "shelf").iterdir()} == shelf
    assert len(shelf) == 6
    for path in (*(PAGE / "looks").iterdir(), *(PAGE / "shelf").iterdir()):
        assert path.stat().st_size <= 60_000
        with Image.open(path, formats=["JPEG"]) as image:
            image.load()


def test_icons_that_are_used_are_drawn() -> None:
    drawn = set(re.findall(r'<symbol id="([\w-]+)"', (PAGE / "icons.svg").read_text()))
    used = set(re.findall(r"icons\.svg#([\w-]+)", (PAGE / "index.html").read_text()))
    pattern = r'(?:icon\(|symbol: )"([\w-]+)"'
    used |= {name for path in SCRIPTS for name in re.findall(pattern, path.read_text())}
    assert used <= drawn


def test_the_markup_has_no_script_or_style_of_its_own_and_names_what_it_labels() -> None:
    parsed = elements()
    ids = [attributes["id"] for _, attributes in parsed if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in parsed:
        assert not {name for name in attributes if name == "style" or name.startswith("on")}
        assert tag != "style"
        assert tag != "script" or attributes.get("src")
        for name in ("aria-labelledby", "aria-describedby", "for"):
            assert set((attributes.get(name) or "").split()) <= set(ids)


def test_nothing_is_kept_but_theme_and_token() -> None:
    text = "".join(path.read_text() for path in SCRIPTS)
    assert re.findall(r"localStorage\.setItem\((\w+)", text) == ["KEY"]
    assert re.findall(r"sessionStorage\.setItem\((\w+)", text) == ["KEY"]
    assert not re.search(r"indexedDB|document\.cookie|caches\.", text)
