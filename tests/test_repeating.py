"""``nstx optimize --from OUT.png``: a run again, from what its picture says of it."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import random_pixels
from PIL import Image

import nstx
from nstx.engine.manifests import places
from nstx.engine.manifests.lookup import ROLES
from nstx.engine.manifests.pictures import describe_picture
from nstx.engine.manifests.reading import read_manifest
from nstx.engine.pictures.picture import Picture
from nstx.engine.pictures.writing import write_image
from nstx.engine.settings import OF_THIS_MACHINE
from nstx.models.objective import objective_to_json
from nstx.models.presets import PRESETS
from nstx.models.version import __version__

Nstx = Callable[..., tuple[int, str, str]]
TINY = (
    "--size", 32, "--steps", 2, "--style-layers", "conv1_1", "--content-layers", "conv1_2", "--seed", 3,
    "--scales", 1,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NSTX_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def made(nstx: Nstx, save_picture: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Return a function that makes a picture beside its content and styles."""
    content, style = save_picture("content.png", 33, 40), save_picture("style.png", 30, 40, seed=1)
    other = save_picture("other.png", 30, 30, seed=2)

    def make(name: str, *more: object) -> Path:
        pictures = (content, f"{style}:2", other)
        code, _, err = nstx("optimize", *pictures, "-o", tmp_path / name, *TINY, *more)
        assert code == 0, err
        return tmp_path / name

    return make


@pytest.fixture
def manifest() -> dict[str, Any]:
    """Return a manifest of a run without a run."""
    settings = {
        field.name: getattr(nstx.choose_settings(), field.name)
        for field in dataclasses.fields(nstx.Settings)
        if field.name not in OF_THIS_MACHINE
    }
    settings["objective"] = objective_to_json(settings["objective"])
    return {
        "format": "nstx-picture-1", "version": __version__, "complete": True,
        "inputs": [{"role": "content", "path": "a.png", "sha256": "0" * 64, "weight": None}],
        "settings": settings, "weights_sha256": "0" * 64, "sizes": [[24, 32]],
        "backend": {"backend": "onnx", "device": "cpu", "precision": "fp32", "checked": False},
        "machine": {"processor": "one"},
    }  # fmt: skip


def save(path: Path, manifest: Any) -> Path:
    """Write a picture that carries a manifest."""
    write_image(path, Picture(random_pixels(16, 16, 0), None, manifest=manifest))
    return path


@pytest.mark.parametrize(
    ("suffix", "more"),
    [
        (".png", ()), (".png", ("--depth", 16)), (".tif", ()), (".tif", ("--depth", 16)),
        (".jpg", ("--keep-profile",)), (".webp", ()), (".avif", ("--precision", "fp32")),
    ],
)  # fmt: skip
def test_a_run_again_gives_the_same_bytes(
    nstx: Nstx, made: Callable[..., Path], tmp_path: Path, suffix: str, more: tuple[object, ...]
) -> None:
    picture, again = made(f"out{suffix}", *more), tmp_path / f"again{suffix}"
    code, out, err = nstx("optimize", "--from", picture, "-o", again, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["from"] == str(picture)
    assert again.read_bytes() == picture.read_bytes()


def test_a_start_and_a_mask_are_found_too(
    nstx: Nstx, made: Callable[..., Path], save_picture: Callable[..., Path], tmp_path: Path
) -> None:
    start, mask = (
        save_picture("start.png", 26, 32, seed=4),
        save_picture("mask.png", 33, 40, seed=5),
    )
    picture = made("out.png", "--init", start, "--mask", mask)
    assert {item.role for item in read_manifest(picture).run.inputs} == {*ROLES} - {
        "targets",
        "regions",
    }
    assert nstx("optimize", "--from", picture, "-o", tmp_path / "again.png")[0] == 0
    assert (tmp_path / "again.png").read_bytes() == picture.read_bytes()
    code, _, err = nstx("optimize", "--from", picture, "-o", tmp_path / "b.png", "--mask", start)
    assert (code, err.splitlines()[0]) == (0, f"another mask than that of {picture}: {start}")


def test_targets_are_found_too(nstx: Nstx, made: Callable[..., Path], tmp_path: Path) -> None:
    made("out.png")
    named = ("--content", tmp_path / "content.png", "--style", tmp_path / "style.png")
    layers, targets = TINY[4:8], tmp_path / "t.safetensors"
    assert nstx("precompute", *named, *layers, "--size", 32, "-o", targets)[0] == 0
    run = ("--steps", 2, *layers)
    assert nstx("optimize", "--targets", targets, "-o", tmp_path / "a.png", *run)[0] == 0
    assert nstx("optimize", "--from", tmp_path / "a.png", "-o", tmp_path / "b.png")[0] == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_only_the_command_line_goes_before_a_manifest(
    nstx: Nstx, made: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = made("out.png")
    Path("nstx.toml").write_text('size = 48\ndepth = "16"\nmask = "none.png"\ntargets = "none"\n')
    monkeypatch.setenv("NSTX_SEED", "8")
    monkeypatch.setenv("NSTX_PRESET", "gatys")
    run = ("optimize", "--from", picture, "--json", "-o")
    assert nstx(*run, tmp_path / "same.png")[0] == 0
    assert (tmp_path / "same.png").read_bytes() == picture.read_bytes()
    code, out, _ = nstx(*run, tmp_path / "b.png", "--steps", 1, "--width", 24, "--style-weight", 2)
    data = json.loads(out)
    assert (code, data["steps"], data["seed"], data["preset"]) == (0, 1, 3, "default")
    assert (data["width"], data["objective"]["style_weight"]) == (24, 2)
    assert data["objective"]["style_layers"] == [{"layer": "conv1_1", "weight": 1.0}]
    code, out, _ = nstx(
        *run, tmp_path / "c.png", "--preset", "coursera", "--size", 32, "--steps", 1
    )
    data = json.loads(out)
    assert (code, data["preset"], data["seed"]) == (0, "coursera", 8)
    assert [item["weight"] for item in data["inputs"]] == [None, 2, 1]


def test_inputs_are_looked_for_by_name_and_checksum(
    nstx: Nstx, made: Callable[..., Path], tmp_path: Path, own_cache: Path
) -> None:
    picture = made("out.png")
    shutil.copy(picture, "out.png")
    run = ("optimize", "--from", "out.png", "--steps", 1, "-o", tmp_path / "again.png")
    # Where they were read last; nothing of the name, or something else, lies beside the picture.
    Path("style.png").write_bytes(b"another")
    assert nstx(*run)[0] == 0
    code, _, err = nstx(*run, "--no-cache")
    assert code == 2
    assert err.startswith(
        "nstx: error: expected the content content.png beside out.png or in the working folder"
    )
    assert err.endswith("try 'nstx optimize CONTENT --from out.png'\n")
    for name in ("content.png", "style.png", "other.png"):
        (tmp_path / name).rename(tmp_path / f"moved-{name}")
    shutil.copy(tmp_path / "moved-content.png", "content.png")
    code, _, err = nstx(*run)
    assert (code, "expected the style style.png" in err) == (2, True)
    named = [tmp_path / f"moved-{name}" for name in ("content.png", "style.png", "other.png")]
    code, _, err = nstx(*run, *named)
    assert (code, err) == (0, "")
    weights = [item.weight for item in read_manifest(tmp_path / "again.png").run.inputs]
    assert weights == [None, 2, 1]
    code, _, err = nstx(*run, named[0], named[2])
    assert (code, err.count("\n")) == (0, 1)
    assert "another style than that of out.png" in err


def test_what_differs_is_told(
    nstx: Nstx, made: Callable[..., Path], manifest: dict[str, Any], tmp_path: Path
) -> None:
    inputs = json.loads(json.dumps(read_manifest(made("out.png")).run.to_json()["inputs"]))
    manifest |= {"inputs": inputs, "complete": False, "version": "0.0.1", "extra": 1}
    picture = save(tmp_path / "old.png", manifest)
    del manifest["settings"]["seed"]
    more = [str(item) for item in TINY[:8]]
    code, _, err = nstx("optimize", "--from", picture, "-o", tmp_path / "b.png", *more)
    assert code == 0
    lines = err.splitlines()
    assert lines[0] == f"nstx: warning: {picture} is unfinished: its whole run is made"
    assert lines[1] == f"other weights of the network than those of {picture}"
    assert f"may differ from those of {picture}: nstx {__version__} instead of 0.0.1;" in lines[2]
    assert "instead of one" in lines[2]


@pytest.mark.parametrize("preset", PRESETS)
def test_settings_come_back_whole(tmp_path: Path, preset: str) -> None:
    settings = nstx.choose_settings(
        PRESETS[preset], threads=2, style_scale=0.3, seed=2**60, height=33, large=False
    )
    tiny = nstx.choose_settings(size=32, style_layers="conv1_1", content_layers="conv1_2")
    job = nstx.prepare_job(random_pixels(32, 32, 0), random_pixels(32, 32, 1), tiny)
    plain = describe_picture(dataclasses.replace(job, settings=settings), is_complete=True)
    names = {field.name for field in dataclasses.fields(nstx.Settings)}
    assert plain["settings"].keys() == names - {*OF_THIS_MACHINE}
    assert read_manifest(save(tmp_path / "a.png", plain)).run.settings == settings
    assert nstx.choose_settings(settings) == settings
    wider = nstx.choose_settings(settings, width=40, large=False)
    assert (wider.size, wider.width, wider.height) == (None, 40, None)
    assert dataclasses.replace(wider, width=None, height=33) == settings


def _named(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["inputs"][0].update(path=name)


def _styled(**fields: str) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["inputs"].append({**data["inputs"][0], "role": "style", **fields})


def _preset(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["settings"].update(preset=name)


HOSTILE: dict[str, Callable[[dict[str, Any]], Any]] = {
    **{
        name: _named(name)
        for name in ("../a.png", "/a.png", "b/a.png", "b\\a.png", "C:a.png", "..", ".", "", "a\0", "a" * 256)
    },
    "two contents": lambda data: data["inputs"].append(data["inputs"][0]),
    "targets": lambda data: data["inputs"].append({**data["inputs"][0], "role": "targets"}),
    "placed": lambda data: data["inputs"][0].update(colors="#ff0000"),
    "masked": _styled(mask="../m.png", mask_sha256="0" * 64),
    "unsealed": _styled(mask="m.png"),
    **{
        f"preset {name!a:.9}": _preset(name)
        for name in ("", "\x1b[2J", "a\nb", "a" * 256)
    },
    "start": lambda data: data["settings"].update(init="../a.png"),
    "weights": lambda data: data["settings"].update(weights="caffe:/a.pth"),
    "unknown": lambda data: data["settings"].update(tomorrow=1),
    "missing": lambda data: data["settings"].pop("steps"),
    "range": lambda data: data["settings"].update(steps=0),
    "type": lambda data: data["settings"].update(size="32"),
    "objective": lambda data: data["settings"].update(objective={}),
    "checksum": lambda data: data["inputs"][0].update(sha256="0"),
    "format": lambda data: data.update(format="nstx-picture-9"),
    "complete": lambda data: data.update(complete=1),
}  # fmt: skip


@pytest.mark.parametrize("change", HOSTILE.values(), ids=[ascii(name)[:20] for name in HOSTILE])
def test_a_manifest_that_cannot_be_is_refused(
    tmp_path: Path, manifest: dict[str, Any], change: Callable[[dict[str, Any]], Any]
) -> None:
    assert read_manifest(save(tmp_path / "a.png", manifest)).is_complete
    change(manifest)
    with pytest.raises(nstx.UsageError, match="expected a manifest that can be used"):
        read_manifest(save(tmp_path / "a.png", manifest))


def test_what_has_no_manifest_is_told(
    nstx: Nstx, save_picture: Callable[..., Path], tmp_path: Path, manifest: dict[str, Any]
) -> None:
    plain = save_picture("plain.png", 16, 16)
    numbers = save(tmp_path / "a.npy", manifest)
    for path, reason in ((plain, "got one without"), (numbers, "got .npy, which has no place")):
        code, _, err = nstx("optimize", "--from", path, "-o", tmp_path / "b.png")
        assert (code, reason in err, err.count("\n")) == (2, True, 1)
    manifest["inputs"][0]["role"] = "soul"
    picture = save(tmp_path / "soul.png", manifest)
    code, _, err = nstx("optimize", "--from", picture, "-o", tmp_path / "b.png")
    assert (code, "got soul, which this version does not know" in err) == (2, True)
    manifest["inputs"][0] |= {"role": "content", "sha256": None}
    picture = save(tmp_path / "array.png", manifest)
    code, _, err = nstx("optimize", "--from", picture, "-o", tmp_path / "b.png")
    assert (code, "got one that came from none" in err) == (2, True)


def test_places_are_kept_within_bounds_and_cleared(
    nstx: Nstx, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "_MOST_PLACES", 2)
    for number in range(4):
        places.note_place(str(number) * 64, tmp_path / "naïve \udcff.png")
    assert len([*(own_cache / "places").iterdir()]) == 2
    assert places.find_place("3" * 64) == tmp_path / "naïve \udcff.png"
    assert places.find_place("0" * 64) is None
    code, out, _ = nstx("cache", "ls", "--kind", "places", "--json")
    assert (code, {entry["kind"] for entry in json.loads(out)["entries"]}) == (0, {"places"})
    (own_cache / "places" / ("3" * 64 + ".txt")).write_bytes(b"relative")
    assert places.find_place("3" * 64) is None
    assert nstx("cache", "verify")[0] == 1
    assert nstx("cache", "clear", "--kind", "places")[0] == 0
    assert not [*(own_cache / "places").iterdir()]


def test_a_style_for_one_colour_leaves_those_of_others(
    nstx: Nstx, save_picture: Callable[..., Path], tmp_path: Path
) -> None:
    pixels = np.zeros((33, 40, 3), np.uint8)
    pixels[:, :20], pixels[:, 20:] = (255, 0, 0), (0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "map.png")
    content, *styles = (
        save_picture(f"{name}.png", 33, 40, seed) for seed, name in enumerate("cabd")
    )
    regions = ["--regions", tmp_path / "map.png", "--style-for", f"red={styles[0]}"]
    first = ["optimize", content, "-o", tmp_path / "1.png", *TINY, *regions]
    assert nstx(*first, "--style-for", f"blue={styles[1]}")[0] == 0
    again = ["optimize", "--from", tmp_path / "1.png", "-o", tmp_path / "2.png"]
    code, _, err = nstx(*again, "--style-for", f"#f00={styles[2]}")
    assert code == 0, err
    inputs = read_manifest(tmp_path / "2.png").run.inputs
    assert {item.colors: item.path for item in inputs if item.role == "style"} == {
        "#ff0000": "d.png", "#0000ff": "b.png",
    }  # fmt: skip
