"""Masks of styles: what of a painting counts, by a file, as by the painting's own transparency."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparisons import draw_little
from devices import ACCELERATED
from networks import needs_bf16
from PIL import Image

from nstx import choose_settings, evaluate_picture, prepare_job, read_image, resume, run_job
from nstx.engine.batches.asked import AskedJob, read_asked
from nstx.engine.batches.folder import BatchFolder
from nstx.engine.batches.heart import Heart
from nstx.engine.batches.making import Maker
from nstx.engine.batches.names import style_name
from nstx.engine.batches.planning import Planner
from nstx.engine.batches.run import plan_batch
from nstx.engine.jobs.ledger import Ledger
from nstx.engine.jobs.records import NewJob
from nstx.engine.targets.paintings import PaintingPath, absolute_painting, split_painting
from nstx.models.errors import UsageError

Nstx = Callable[..., tuple[int, str, str]]

LAYERS = ["--style-layers", "conv1_1,conv2_1", "--content-layers", "conv1_2", "--size", "40"]
SETTINGS = choose_settings(
    size=40, steps=2, clean=False, style_layers="conv1_1,conv2_1", content_layers="conv1_2"
)


@pytest.fixture
def folder(
    save_picture: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder to work in, with a painting, a mask of it, and the painting with that mask as its alpha."""
    monkeypatch.chdir(tmp_path)
    save_picture("photo.png", 40, 36, 1)
    save_picture("a.png", 50, 44, 2)
    save_picture("b.png", 42, 57, 3)
    painting = Image.open("a.png").convert("RGB")
    mask = Image.new("L", painting.size, 0)
    mask.paste(255, (10, 5, 30, 40))
    mask.save("mask.png")
    painting.putalpha(mask)
    painting.save("cut.png")
    return tmp_path


def test_a_mask_is_as_the_paintings_own_alpha(folder: Path) -> None:
    masked, cut = (
        prepare_job("photo.png", name, SETTINGS) for name in ("a.png@mask.png", "cut.png")
    )
    whole = prepare_job("photo.png", "a.png", SETTINGS)
    for name, gram in cut.targets[-1].style.items():
        assert np.array_equal(gram, masked.targets[-1].style[name])
        assert not np.array_equal(gram, whole.targets[-1].style[name])
    assert [(item.path, item.mask) for item in masked.inputs[1:]] == [("a.png", "mask.png")]
    photo = read_image("photo.png")
    costs = [
        evaluate_picture(photo, photo, name, SETTINGS) for name in ("a.png@mask.png", "cut.png")
    ]
    assert costs[0] == costs[1]


@pytest.mark.parametrize(
    "choices",
    [
        {"backend": "torch", "extractor": "torch", "precision": "fp32"},
        pytest.param({"backend": "torch", "precision": "bf16"}, marks=needs_bf16),
        *ACCELERATED,
    ],
    ids=("autograd", "written-out", None, None),
)
def test_backends_give_the_bytes_of_the_alpha(folder: Path, choices: dict[str, Any]) -> None:
    settings = replace(SETTINGS, **{"device": "cpu", **choices})
    masked, cut, whole = (
        run_job(prepare_job("photo.png", [(name, 2), "b.png"], settings))
        for name in ("a.png@mask.png", "cut.png", "a.png")
    )
    assert (masked.cost, masked.pixels.tobytes()) == (cut.cost, cut.pixels.tobytes())
    assert masked.cost != whole.cost
    costs = [
        evaluate_picture(masked.pixels, "photo.png", [(name, 2), "b.png"], settings)
        for name in ("a.png@mask.png", "cut.png", "a.png")
    ]
    assert costs[0] == costs[1] != costs[2]
    assert costs[0].total == pytest.approx(masked.cost.total, rel=0.02)


@pytest.mark.parametrize("place", [{}, *ACCELERATED], ids=str)
def test_a_run_with_a_mask_goes_on_from_its_checkpoint(folder: Path, place: dict[str, Any]) -> None:
    settings = replace(SETTINGS, steps=6, **place)
    job = prepare_job("photo.png", "a.png@mask.png", settings)
    evaluations = iter(range(3))
    run_job(job, should_stop=lambda: next(evaluations, None) is None, checkpoint=folder / "k")
    result = resume(folder / "k")
    assert result.steps == 6
    alpha = run_job(prepare_job("photo.png", "cut.png", settings))
    assert (result.cost, result.pixels.tobytes()) == (alpha.cost, alpha.pixels.tobytes())
    run_job(job, should_stop=lambda: True, checkpoint=folder / "k")
    with pytest.raises(UsageError, match="expected a checkpoint of this run"):
        run_job(prepare_job("photo.png", "a.png", settings), checkpoint=folder / "k")


def test_a_white_mask_is_none_and_an_own_alpha_stays(folder: Path) -> None:
    Image.new("1", (44, 50), 1).save("white.png")
    for masked, plain in (("a.png@white.png", "a.png"), ("cut.png@white.png", "cut.png")):
        jobs = [prepare_job("photo.png", name, SETTINGS) for name in (masked, plain)]
        for name, gram in jobs[0].targets[-1].style.items():
            assert np.array_equal(gram, jobs[1].targets[-1].style[name])


def test_masks_that_cannot_be_are_told(folder: Path) -> None:
    Image.new("L", (44, 50), 0).save("black.png")
    Image.new("L", (50, 44), 255).save("wide.png")
    for mask, words in (
        ("black.png", "leaves nothing"),
        ("wide.png", "style's proportions, 44×50"),
    ):
        with pytest.raises(UsageError, match=words):
            prepare_job("photo.png", f"a.png@{mask}", SETTINGS)
    Image.fromarray(255 - np.asarray(Image.open("mask.png"))).save("rest.png")
    with pytest.raises(UsageError, match="leaves nothing"):  # of what the painting shows itself
        prepare_job("photo.png", "cut.png@rest.png", SETTINGS)


def test_paths_with_masks_are_split_and_joined(folder: Path) -> None:
    layers = ("conv1_1", "conv2_1")
    for text, expected in (
        ("a.png@mask.png", PaintingPath("a.png", (), "mask.png")),
        ("a.png@conv1_1,conv2_1@mask.png", PaintingPath("a.png", layers, "mask.png")),
        ("a.png@m@2x.png", PaintingPath("a.png", (), "m@2x.png")),
        ("-@mask.png", PaintingPath("-", (), "mask.png")),
        ("none.png@mask.png", PaintingPath("none.png@mask.png")),
    ):
        assert split_painting(text) == expected
        assert expected.join() == text
    assert (
        absolute_painting("a.png@conv1_1@mask.png") == f"{folder}/a.png@conv1_1@{folder}/mask.png"
    )
    for text in ("a.png@conv1_1@", "a.png@", "a.png@conv9_9"):
        with pytest.raises(UsageError, match="layer"):
            split_painting(text)
    (folder / "me@work").mkdir()
    Image.open("a.png").save("me@work/a.png")
    assert split_painting("me@work/a.png@me@work/m.png") == PaintingPath(
        "me@work/a.png", (), "me@work/m.png"
    )


def test_commands_take_masks(nstx: Nstx, folder: Path) -> None:
    run = [*LAYERS, "--steps", "2", "--no-clean", "--json"]
    masked, cut = "a.png@mask.png:2", "cut.png:2"
    for style, out in ((masked, "1.png"), (cut, "2.png")):
        code, _, err = nstx("optimize", "photo.png", style, "b.png", "-o", out, *run)
        assert code == 0, err
    assert np.array_equal(read_image("1.png").pixels, read_image("2.png").pixels)
    code, _, err = nstx("optimize", "--from", "1.png", "-o", "again.png")
    assert code == 0, err
    assert np.array_equal(read_image("1.png").pixels, read_image("again.png").pixels)
    Path("mask.png").rename("other.png")
    code, _, err = nstx("optimize", "--from", "1.png", "-o", "again.png", "--no-cache")
    assert (code, "mask mask.png" in err, "STYLE@MASK" in err) == (2, True, True)
    Path("other.png").rename("mask.png")
    named = ["--content", "photo.png", "--style", masked, "b.png"]
    code, _, err = nstx("precompute", *named, "-o", "t.safetensors", *LAYERS)
    assert code == 0, err
    code, _, err = nstx(
        "optimize",
        "--targets",
        "t.safetensors",
        "-o",
        "3.png",
        *run[:4],
        "--steps",
        "2",
        "--no-clean",
    )
    assert code == 0, err
    assert np.array_equal(read_image("1.png").pixels, read_image("3.png").pixels)
    code, _, err = nstx("optimize", "photo.png", masked, "-o", "mask.png", *run)
    assert code == 7  # it is read
    code, printed, err = nstx(
        "evaluate", "1.png", "--content", "photo.png", "--style", masked, *LAYERS[:4], "--json"
    )
    assert code == 0, err
    assert json.loads(printed)["inputs"][2]["mask"] == "mask.png"


def test_jobs_of_batches_take_masks(folder: Path) -> None:
    """A job reads its mask, has its path from the root on, and is another one with another mask."""

    def plan(style: str) -> NewJob:
        asked = AskedJob(
            content=Path("photo.png"),
            styles=((Path(style), 2.0),),
            output="1.png",
            settings=SETTINGS,
        )
        (job,) = Planner().plan([asked])
        assert read_asked(json.loads(json.dumps(job.request)), "1.png") == asked.absolute()
        return job

    masked = plan("a.png@conv1_1@mask.png")
    assert masked.request["styles"] == [[f"{folder}/a.png@conv1_1@{folder}/mask.png", 2.0]]
    assert len(masked.request["files"]) == 3
    assert masked.fingerprint != plan("a.png@conv1_1").fingerprint
    Image.new("1", (44, 50), 1).save("mask.png")
    assert masked.fingerprint != plan("a.png@conv1_1@mask.png").fingerprint
    assert style_name([Path("a.png@conv1_1@mask.png"), Path("b.png")]) == "a+b"


def test_a_batch_makes_what_the_alpha_gives(folder: Path) -> None:
    place = BatchFolder(folder / "results")
    asked = [
        AskedJob(
            content=Path("photo.png"),
            styles=((Path(style), 2.0), (Path("b.png"), 1.0)),
            output=output,
            settings=SETTINGS,
        )
        for style, output in (("a.png@mask.png", "1.png"), ("cut.png", "2.png"), ("a.png", "3.png"))
    ]
    with place.alone(), Ledger(place.ledger) as ledger:
        batch, heart = plan_batch(place, asked), Heart(place.ledger)
        while claims := ledger.claim("w", 2):
            heart.hold(claims)
            Maker(place, ledger, heart, lambda *_, **__: None).make(claims)
            heart.release()
        assert [record.state for record in batch.records()] == ["succeeded"] * 3
    masked, cut, whole = (read_image(place.path / item.output).pixels for item in asked)
    assert np.array_equal(masked, cut)
    assert not np.array_equal(masked, whole)


def test_comparisons_take_masks_and_a_map(
    nstx: Nstx, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_little(monkeypatch)
    pixels = np.zeros((40, 36, 3), np.uint8)
    pixels[:, :12], pixels[:, 12:24] = (255, 0, 0), (0, 0, 255)
    Image.fromarray(pixels).save("map.png")
    command = ["compare", "photo.png", "-o", "c", "--size", "40", "--steps", "1", "--scales", "1"]
    command += ["--style-layers", "conv1_1", "--content-layers", "conv1_1", "--style-weight", "1,3"]
    command += ["--no-clean", "--json", "--regions", "map.png", "--style-for", "red=a.png@mask.png"]
    code, out, err = nstx(*command, "--style-for", "blue=b.png")
    assert code == 0, err
    data = json.loads(out)
    assert [(item["role"], item["colors"], item["mask"]) for item in data["inputs"]] == [
        ("content", None, None), ("style", "#ff0000", "mask.png"), ("style", "#0000ff", None),
        ("regions", None, None),
    ]  # fmt: skip
    assert len(data["made"]) == 2
    for run in data["runs"]:
        changed = read_image(f"c/{run['name']}.png").pixels != read_image("photo.png").pixels
        assert (changed[:, :24].any(), changed[:, 24:].any()) == (True, False)
    code, out, err = nstx(*command, "--style-for", "blue=b.png")
    assert (code, json.loads(out)["made"]) == (0, []), err
    code, _, err = nstx(*command, "--style-for", "blue=a.png")
    assert (code, "another" in err) == (7, True)
    code, _, err = nstx(*command, "--style-for", "blue=b.png", "--colors", "only", "--force")
    assert (code, "one region" in err) == (2, True)
    code, _, err = nstx(*command[:-4])
    assert (code, "got none" in err) == (2, True)
