"""``nstx compare``: what is run, what is kept, what is drawn."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparisons import draw_little
from networks import needs_bf16
from numpy.typing import NDArray
from pictures import random_pixels
from PIL import Image
from processes import PATIENCE, spawn

from nstx.engine.comparison.make import make_comparison
from nstx.engine.comparison.plan import DEFAULT_LAYERS, ComparisonPlan, plan_comparison
from nstx.engine.comparison.runs import ComparisonJobs
from nstx.engine.devices.machine import Processor
from nstx.engine.features.activations import FeatureExtractor, Features
from nstx.engine.features.extraction import Extraction, OpenedExtractor, open_extractor
from nstx.engine.gradients.choice import PrecisionPolicy
from nstx.engine.pictures.picture import Pixels
from nstx.engine.pictures.reading import read_image
from nstx.engine.targets.store import TargetKey, TargetMemory
from nstx.models.errors import UsageError
from nstx.models.layers import LayerWeight
from nstx.models.storage.locks import locked
from nstx.models.storage.seals import digest_file

Nstx = Callable[..., tuple[int, str, str]]
Compare = Callable[..., dict[str, Any]]

# Two costs that need the first two blocks of VGG-19 only.
FAST = ["--size", "48", "--style-layers", "conv1_1,conv2_1", "--steps", "3"]
LAYERS = ["--content-layers", "conv1_2,conv2_2"]
LAYER = ["--content-layers", "conv2_2"]


def test_the_plan_is_the_product_of_the_values() -> None:
    plan = plan_comparison(
        "coursera",
        {"style_weight": (0.3, 1.0), "init": ("content", "noise", "blend"), "steps": (5,)},
        size=64,
    )
    assert [run.name for run in plan.runs] == [
        f"init-{init}_style-weight-{weight}"
        for init in ("content", "noise", "blend")
        for weight in ("0.3", "1")
    ]
    assert (plan.is_table, plan.columns) == (True, 2)
    last = plan.runs[-1]
    assert last.label == "init blend, style weight 1"
    assert (last.settings.init, last.settings.objective.style_weight) == ("blend", 1.0)
    assert {run.settings.steps for run in plan.runs} == {5}
    assert {run.settings.preset for run in plan.runs} == {"coursera"}


def test_without_several_values_content_layers_are_compared() -> None:
    plan = plan_comparison("default", {"style_weight": (3.0,), "init": ()})
    assert tuple(run.name for run in plan.runs) == DEFAULT_LAYERS
    assert plan.runs[0].label == "conv3_2"
    assert {run.settings.objective.style_weight for run in plan.runs} == {3.0}
    assert (plan.is_table, plan.columns) == (False, 3)
    (only,) = plan_comparison("default", {"content_layers": ("conv2_2",)}).runs
    assert only.name == "conv2_2"


def test_joined_layers_are_used_together_and_odd_names_become_file_names() -> None:
    plan = plan_comparison("default", {"content_layers": ("conv3_2:1+conv4_2:3", "relu4_2")})
    both, single = plan.runs
    assert both.settings.objective.content_layers == (
        LayerWeight("conv3_2", 1.0),
        LayerWeight("conv4_2", 3.0),
    )
    assert [both.name, single.name] == ["conv3_2-1+conv4_2-3", "relu4_2"]
    assert both.label == "conv3_2:1+conv4_2:3"
    inits = plan_comparison("default", {"init": ("a/x.png", "b/x.png", "ä b.png", "noise")})
    assert [run.name for run in inits.runs] == ["init-x", "init-x-2", "init-ä-b", "init-noise"]
    assert inits.runs[1].label == "init b/x.png"
    assert inits.runs[1].settings.init == "b/x.png"


@pytest.mark.parametrize(
    ("compared", "message"),
    [
        ({"steps": tuple(range(1, 66))}, "64 runs"),
        ({"steps": tuple(range(1, 10)), "style_weight": tuple(range(1, 10))}, "got 81"),
        ({"content_layers": ("conv4_2", "relu4_2")}, "each value once"),
        ({"style_weight": (1.0, 1.0)}, "each value once"),
        ({"content_layers": ("conv4_2", "conv9_2")}, "conv9_2"),
        ({"steps": (5, 0)}, "steps"),
        ({"blend": (0.5, 1.5)}, "0 … 1 of the second style"),
        ({"blend": (0, 0.0)}, "each value once"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(
    compared: dict[str, tuple[Any, ...]], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        plan_comparison("default", compared)


@pytest.fixture
def pictures(save_picture: Callable[..., Path]) -> list[Path]:
    return [save_picture("content.png", 60, 80, 1), save_picture("style.jpg", 70, 50, 2)]


@pytest.fixture
def compare(nstx: Nstx, pictures: list[Path], tmp_path: Path) -> Compare:
    """Return a function that compares into a folder and returns the JSON."""

    def run(*options: object, folder: str = "d") -> dict[str, Any]:
        command = ["compare", *pictures, "-o", tmp_path / folder, *FAST, *options, "--json"]
        code, out, err = nstx(*command)
        assert code == 0, err
        data: dict[str, Any] = json.loads(out)
        return data

    return run


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw little for the time of a test."""
    draw_little(monkeypatch)


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.usefixtures("quick")
def test_everything_is_written_and_a_run_is_what_optimize_makes(
    nstx: Nstx, compare: Compare, pictures: list[Path], tmp_path: Path
) -> None:
    data = compare(*LAYERS)
    folder = tmp_path / "d"
    assert (data["made"], data["kept"], data["complete"]) == (["conv1_2", "conv2_2"], [], True)
    assert data["axes"] == [{"option": "content-layers", "values": ["conv1_2", "conv2_2"]}]
    assert data["styles"] == [{"path": str(pictures[1]), "weight": 1.0}]
    read = [(item["role"], item["sha256"]) for item in data["inputs"]]
    assert read == [("content", digest_file(pictures[0])), ("style", digest_file(pictures[1]))]
    names = {path.name for path in folder.iterdir()}
    assert {"conv1_2.png", "conv2_2.png", "sheet.png", "index.html", "compare.json"} < names
    assert {"animation.gif", "animation.webp", "runs"} < names
    assert not [name for name in names if name.endswith(".part")]
    for run in data["runs"]:
        assert (run["width"], run["height"], run["steps"]) == (48, 36, 3)
        assert 0 < run["cost"]["total"] < run["initial_cost"]
        assert run["seconds"]["optimize"] > 0
        lines = (folder / run["trace"]).read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]
        assert json.loads(lines[-1])["total"] == run["cost_before_rounding"]
    layer = ["--content-layers", "conv2_2"]
    assert nstx("optimize", *pictures, "-o", tmp_path / "o.png", *FAST, *layer)[0] == 0
    assert (tmp_path / "o.png").read_bytes() == (folder / "conv2_2.png").read_bytes()
    summary = json.loads((folder / "compare.json").read_text())
    assert summary["runs"] == data["runs"]


@pytest.mark.usefixtures("quick")
def test_blends_of_two_styles_are_an_axis(
    nstx: Nstx, pictures: list[Path], save_picture: Callable[..., Path], tmp_path: Path
) -> None:
    other = save_picture("other.png", 66, 58, 3)
    folder, layer = tmp_path / "d", ["--content-layers", "conv1_2"]
    named = ["compare", *pictures, other, "-o", folder, *FAST, *layer, "--json"]
    code, out, err = nstx(*named, "--blend", "0,0.25")
    assert code == 0, err
    runs = json.loads(out)["runs"]
    assert [run["label"] for run in runs] == ["blend 0", "blend 0.25"]
    assert [run["blend"] for run in runs] == [0.0, 0.25]
    one = ["optimize", pictures[0], f"{pictures[1]}:3", other, "-o", tmp_path / "o.png"]
    assert nstx(*one, *FAST, *layer)[0] == 0
    ours, theirs = (
        read_image(path).pixels for path in (tmp_path / "o.png", folder / runs[1]["picture"])
    )
    assert np.array_equal(ours, theirs)
    code, out, _ = nstx(*named, "--blend", "0,0.25,1")
    assert (code, json.loads(out)["made"]) == (0, ["blend-1"])
    code, _, err = nstx(*named[:3], "-o", tmp_path / "e", "--blend", "0,1")
    assert code == 2
    assert "two styles without weights" in err
    assert not (tmp_path / "e").exists()


class CountingExtractor:
    """An extractor that notes the sizes and layers that it computes."""

    def __init__(self, extractor: FeatureExtractor) -> None:
        self._extractor = extractor
        self.calls: list[tuple[tuple[int, ...], tuple[str, ...], tuple[str, ...]]] = []

    def extract(
        self,
        pixels: Pixels,
        activations: Sequence[str],
        grams: Sequence[str],
        moments: Sequence[str] = (),
    ) -> Features:
        self.calls.append((pixels.shape[:2], tuple(activations), tuple(grams)))
        return self._extractor.extract(pixels, activations, grams, moments)


class CountingStore(TargetMemory):
    """A store that notes which targets it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[TargetKey] = []

    def read(self, key: TargetKey) -> NDArray[np.float32] | None:
        self.reads.append(key)
        return super().read(key)


def plan_eight(use_cache: bool) -> ComparisonPlan:
    compared: dict[str, tuple[Any, ...]] = {
        "content_layers": ("conv1_2", "conv2_2"),
        "init": ("content", "noise"),
        "style_weight": (1.0, 2.0),
    }
    return plan_comparison(
        "default", compared, size=48, style_layers=FAST[3], steps=1, use_cache=use_cache
    )


@pytest.mark.parametrize("use_cache", [True, False])
def test_targets_are_computed_once_for_all_runs(
    pictures: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, use_cache: bool
) -> None:
    monkeypatch.setenv("NSTX_CACHE_DIR", str(tmp_path / "cache"))
    extractors: list[CountingExtractor] = []

    def open_counting(extraction: Extraction, layers: Sequence[str]) -> OpenedExtractor:
        opened = open_extractor(extraction, layers)
        extractors.append(CountingExtractor(opened.extractor))
        return replace(opened, extractor=extractors[-1])

    content, style = map(read_image, pictures)
    runs = plan_eight(use_cache).runs
    jobs = ComparisonJobs(content, [(style, 1.0)], runs, opener=open_counting)
    jobs.compute_targets()
    (extractor,) = extractors
    assert extractor.calls == [
        ((36, 48), ("conv1_2", "conv2_2"), ()),
        ((48, 34), (), ("conv1_1", "conv2_1")),
    ]
    for run in runs:
        job = jobs.prepare(run)
        assert (job.loaded.content, job.loaded.styles, job.extractor) == ("hit", ("hit",), None)
    assert (tmp_path / "cache" / "targets").exists() == use_cache


def test_each_target_is_looked_up_once_for_all_runs(pictures: list[Path]) -> None:
    content, style = map(read_image, pictures)
    store = CountingStore()
    jobs = ComparisonJobs(content, [(style, 1.0)], plan_eight(use_cache=True).runs, store=store)
    jobs.compute_targets()
    layers = sorted(key.layer for key in store.reads)
    assert layers == ["conv1_1", "conv1_2", "conv2_1", "conv2_2"]


def test_runs_that_differ_in_weights_share_a_backend(pictures: list[Path]) -> None:
    content, style = map(read_image, pictures)
    runs = plan_eight(use_cache=True).runs
    jobs = ComparisonJobs(content, [(style, 1.0)], runs)
    jobs.compute_targets()
    opened = [jobs.prepare(run).opened for run in runs]
    assert len(opened) == 8
    assert all(backend is opened[0] for backend in opened[:4])
    assert all(backend is opened[4] for backend in opened[4:])
    assert opened[0] is not opened[4]


@pytest.mark.usefixtures("quick")
def test_starts_may_be_words_and_pictures_together(
    compare: Compare, pictures: list[Path], tmp_path: Path
) -> None:
    options = (*LAYER, "--init", f"content,{pictures[1]}")
    first = compare(*options)
    assert len(first["made"]) == 2
    assert all((tmp_path / "d" / run["picture"]).exists() for run in first["runs"])
    assert compare(*options)["made"] == []
    assert len(compare(*LAYER, "--init", f"{pictures[1]},content,noise")["made"]) == 1


def test_the_second_call_does_no_work(
    nstx: Nstx,
    compare: Compare,
    pictures: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = compare(*LAYERS)
    before = snapshot(tmp_path / "d")
    script = (
        "import sys\nfrom nstx.cli.app import run\ncode = run()\n"
        "assert not {'torch', 'onnxruntime', 'onnx', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(code)"
    )
    command = ["compare", *map(str, pictures), "-o", str(tmp_path / "d"), *FAST, *LAYERS]
    done = subprocess.run(
        [sys.executable, "-c", script, *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "nothing was done" in done.stdout
    assert snapshot(tmp_path / "d") == before
    monkeypatch.chdir(tmp_path / "d")
    data = compare(*LAYERS)
    assert (data["made"], data["kept"], data["drawn"]) == ([], ["conv1_2", "conv2_2"], False)
    assert data["runs"] == first["runs"]
    assert snapshot(tmp_path / "d") == before


@pytest.mark.usefixtures("quick")
def test_what_has_changed_is_made_again_and_nothing_else(
    compare: Compare, pictures: list[Path], save_picture: Callable[..., Path], tmp_path: Path
) -> None:
    compare(*LAYER, "--style-weight", "1,2")
    assert compare(*LAYER, "--style-weight", "1,3")["made"] == ["style-weight-3"]
    assert compare(*LAYER, "--style-weight", "1,3", "--threads", "1")["drawn"] is False
    # The same settings under other names: a second axis costs the runs that it adds alone.
    picture = (tmp_path / "d" / "style-weight-3.png").read_bytes()
    data = compare(*LAYER, "--style-weight", "1,3", "--steps", "3,1")
    assert len(data["made"]) == 2
    assert (tmp_path / "d" / "style-weight-3_steps-3.png").read_bytes() == picture
    assert not (tmp_path / "d" / "style-weight-3.png").exists()
    data = compare(*LAYER, "--style-weight", "1,2,3")
    assert (data["made"], len(data["kept"])) == ([], 3)
    assert (tmp_path / "d" / "style-weight-3.png").read_bytes() == picture


@pytest.mark.usefixtures("quick")
def test_the_folder_of_another_comparison_is_left_alone_until_it_is_forced(
    nstx: Nstx,
    compare: Compare,
    finished: Path,
    pictures: list[Path],
    save_picture: Callable[..., Path],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "d"
    shutil.copytree(finished, folder)
    (folder / "notes.txt").write_text("mine")
    (folder / "conv3_2.jpg").write_text("mine")
    before = snapshot(folder)
    command = ["compare", *pictures, "-o", folder, *FAST]
    for more in (["--seed", 1], ["--size", 40], ["--steps", 2], ["--preset", "gatys"]):
        code, out, err = nstx(*command, *LAYERS, *more)
        assert (code, out, err.count("\n")) == (7, "", 1), err
        assert "--force" in err
        assert snapshot(folder) == before
    save_picture("style.jpg", 70, 50, 9)
    assert nstx(*command, *LAYERS)[0] == 7
    assert snapshot(folder) == before
    summary = json.loads((folder / "compare.json").read_text())
    for changed in ({"version": "0.2"}, {"comparison": None}):
        other = {name: value for name, value in (summary | changed).items() if value is not None}
        (folder / "compare.json").write_text(json.dumps(other))
        code, _, err = nstx(*command, *LAYERS)
        assert (code, "of other pictures" in err) == (7, False)
        assert f"that nstx {other['version']} made" in err
    (folder / "compare.json").unlink()
    assert nstx(*command, *LAYERS)[0] == 7
    data = compare("--content-layers", "conv1_1", "--size", 40, "--force")
    assert data["made"] == ["conv1_1"]
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    drawn = {"sheet.png", "animation.gif", "animation.webp", "index.html", "compare.json"}
    runs = {f"runs/conv1_1.{suffix}" for suffix in ("json", "jsonl", "jpg")}
    assert present == {"conv1_1.png", *runs, *drawn, "notes.txt", "conv3_2.jpg"}
    summary = json.loads((folder / "compare.json").read_text())
    assert set(summary["files"]) >= {"conv1_1.png", *runs, *drawn}
    assert "conv1_2.png" not in summary["files"]


@pytest.mark.usefixtures("quick")
def test_a_replacement_that_was_interrupted_goes_on_without_force(
    compare: Compare, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "d"
    shutil.copytree(finished, folder)
    with monkeypatch.context() as patch:

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr("nstx.engine.comparison.make.draw_comparison", interrupt)
        with pytest.raises(AssertionError):
            compare("--content-layers", "conv1_1", "--size", "40", "--force")
    assert (folder / "conv1_2.png").exists()
    data = compare("--content-layers", "conv1_1", "--size", "40")
    assert (data["made"], data["kept"]) == ([], ["conv1_1"])
    assert not (folder / "conv1_2.png").exists()


def test_a_folder_is_written_by_one_process_at_a_time(
    nstx: Nstx, pictures: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "new" / "d"
    folder.mkdir(parents=True)
    with locked([folder / "compare.json"]):
        code, _, err = nstx("compare", *pictures, "-o", folder, *FAST, *LAYERS)
    assert (code, err.count("\n")) == (7, 1)
    assert "another run" in err
    assert list(tmp_path.rglob("new/**/*")) == [folder]  # its parent need not be writable


@pytest.mark.usefixtures("quick")
def test_a_finished_folder_that_cannot_be_written_is_looked_at(
    compare: Compare, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path / "d")
    monkeypatch.setattr("os.access", lambda _, mode: mode != os.W_OK)
    with locked([tmp_path / "d" / "compare.json"]):  # which is not asked for
        assert compare(*LAYERS)["made"] == []


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("name", "made", "drawn"),
    [
        ("conv1_2.png", ["conv1_2"], True),
        ("runs/conv1_2.json", ["conv1_2"], True),
        ("runs/conv2_2.jpg", ["conv2_2"], True),
        ("sheet.png", [], True),
        ("animation.webp", [], True),
        ("compare.json", [], True),
    ],
)
@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_a_missing_or_damaged_file_is_made_again(
    compare: Compare,
    finished: Path,
    tmp_path: Path,
    name: str,
    made: list[str],
    drawn: bool,
    how: str,
) -> None:
    shutil.copytree(finished, tmp_path / "d")
    path = tmp_path / "d" / name
    whole = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(whole[: len(whole) // 2])
    data = compare(*LAYERS)
    assert (data["made"], data["drawn"]) == (made, drawn)
    if name.endswith(".png"):
        assert path.read_bytes() == whole
    assert compare(*LAYERS)["drawn"] is False


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is finished, of the same pictures that the tests make."""
    folder: Path = tmp_path_factory.mktemp("finished")
    content, style = folder / "content.png", folder / "style.jpg"
    for path, size, seed in zip((content, style), ((60, 80), (70, 50)), (1, 2), strict=True):
        Image.fromarray(random_pixels(*size, seed).astype(np.uint8)).save(path)
    plan = plan_comparison(
        "default",
        {"content_layers": ("conv1_2", "conv2_2"), "steps": (3,)},
        size=48,
        style_layers=FAST[3],
    )
    with pytest.MonkeyPatch.context() as patch:
        draw_little(patch)
        make_comparison(content, [(style, 1.0)], plan, folder / "d")
    return folder / "d"


@pytest.mark.usefixtures("quick")
def test_files_of_others_stay_and_are_never_overwritten(
    nstx: Nstx, compare: Compare, pictures: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    compare(*LAYERS)
    assert (folder / "notes.txt").read_text() == "mine"
    (folder / "conv3_2.png").write_text("mine too")
    before = snapshot(folder)
    more = ["--content-layers", "conv1_2,conv3_2"]
    code, out, err = nstx("compare", *pictures, "-o", folder, *FAST, *more)
    assert (code, out) == (7, "")
    assert "conv3_2.png" in err
    assert err.count("\n") == 1
    assert snapshot(folder) == before
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "sheet.png").write_text("mine")
    code, _, err = nstx("compare", *pictures, "-o", tmp_path / "e", *FAST, *LAYERS)
    assert code == 7
    assert [path.name for path in (tmp_path / "e").iterdir()] == ["sheet.png"]


@pytest.mark.usefixtures("quick")
def test_a_result_in_the_folder_is_not_overwritten_while_it_is_read(
    nstx: Nstx, compare: Compare, pictures: list[Path], tmp_path: Path
) -> None:
    compare(*LAYERS)
    content = tmp_path / "d" / "conv1_2.png"
    code, _, err = nstx("compare", content, pictures[1], "-o", tmp_path / "d", *FAST, *LAYERS)
    assert code == 7
    assert "neither an input" in err


@pytest.mark.usefixtures("quick")
@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_comparison_is_taken_up_again(
    compare: Compare, pictures: list[Path], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    folder = tmp_path / "d"
    adam = [*LAYER, "--preset", "coursera", "--solver", "adam"]
    endless = [*FAST[:4], *adam, "--steps", "3,900000"]
    process = spawn("compare", *pictures, "-o", folder, *endless)
    # It says so when the first run is kept; the second never ends, as the preset has no early stop.
    assert process.stderr is not None
    first = process.stderr.readline()
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, err
    assert out == ""
    assert "1 new run kept" in err
    assert "run 1 of 2: steps 3, cost" in first
    summary = json.loads((folder / "compare.json").read_text())
    assert (summary["complete"], [run["name"] for run in summary["runs"]]) == (False, ["steps-3"])
    assert not list(folder.rglob("*.part"))
    picture = (folder / "steps-3.png").stat().st_mtime_ns
    data = compare(*adam, "--steps", "3,5")
    assert (data["made"], data["kept"]) == (["steps-5"], ["steps-3"])
    assert (folder / "steps-3.png").stat().st_mtime_ns == picture
    assert json.loads((folder / "compare.json").read_text())["complete"] is True


@pytest.mark.usefixtures("quick")
def test_a_person_reads_how_it_goes_and_quiet_says_nothing(
    nstx: Nstx, pictures: list[Path], tmp_path: Path
) -> None:
    command = ["compare", *pictures, *FAST, *LAYERS, "-o"]
    code, out, err = nstx(*command, tmp_path / "d")
    assert code == 0
    assert f"saved {tmp_path / 'd'}  2 runs" in out
    assert "run 2 of 2: conv2_2, cost " in err
    assert str(tmp_path / "d" / "index.html") in out
    assert nstx(*command, tmp_path / "e", "--quiet")[:2] == (0, "")


@pytest.mark.usefixtures("quick")
def test_without_matplotlib_it_says_so_and_does_the_rest(compare: Compare, tmp_path: Path) -> None:
    data = compare(*LAYERS)
    assert data["files"]["costs"] is None
    assert "plots" in data["warnings"][0]
    assert not (tmp_path / "d" / "costs.png").exists()
    assert (tmp_path / "d" / "index.html").exists()


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"content": "missing.png"}, 3, "No such file"),
        ({"style": "missing.jpg:2"}, 3, "No such file"),
        ({"style": "style.jpg:-1"}, 2, "style weight"),
        ({"content": "/dev/zero"}, 3, "device"),
        ({"style": "."}, 3, "a folder"),
        ({"-o": "new/er/d", "--size": "60000"}, 4, "memory"),
        ({"-o": "style.jpg"}, 7, "folder"),
        ({"--style-weight": "1,x"}, 2, "numbers separated by commas"),
        ({"--style-weight": ","}, 2, "--style-weight"),
        ({"--style-weight": "1,-1"}, 2, "style weight"),
        ({"--style-scale": "1,0"}, 2, "style scale"),
        ({"--steps": "5,1e3"}, 2, "whole numbers"),
        ({"--steps": ",".join(map(str, range(1, 66)))}, 2, "64 runs"),
        ({"--init": "content,nothing.png"}, 3, "nothing.png"),
        ({"--content-layers": "conv4_2,conv7_1"}, 2, "conv7_1"),
        ({"--content-layers": "conv4_2,conv4_2"}, 2, "each value once"),
        ({"--style-scale": "1,0.01"}, 2, "style-scale"),
        ({"--size": "60000"}, 4, "memory"),
        ({"--weights": "nothing.pth"}, 6, "nothing.pth"),
        ({"--device": "cuda:97"}, 4, "CUDA"),
        ({"--scales": "some"}, 2, "some"),
    ],
)
def test_a_mistake_gets_one_line_its_code_and_leaves_nothing(
    nstx: Nstx,
    pictures: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    options = {"content": "content.png", "style": "style.jpg", "-o": "d", "--size": "48", **changes}
    arguments = [options.pop("content"), options.pop("style")]
    arguments += [part for pair in options.items() for part in pair]
    got, out, err = nstx("compare", *arguments)
    assert (got, out) == (code, ""), err
    assert err.startswith("nstx: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.usefixtures("quick")
def test_compared_options_may_stand_in_a_configuration(
    nstx: Nstx, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nstx.toml").write_text(
        'style-weight = 2.0\n[compare]\nsize = 48\nsteps = "1,2"\nstyle-layers = "conv1_1"\n'
        'content-layers = "conv1_2"\n'
    )
    code, out, _ = nstx("compare", *pictures, "-o", "d", "--json")
    assert code == 0
    data = json.loads(out)
    assert data["made"] == ["steps-1", "steps-2"]
    assert {run["settings"]["objective"]["style_weight"] for run in data["runs"]} == {2.0}


@pytest.mark.usefixtures("quick")
def test_runs_that_make_no_step_are_no_trouble(compare: Compare) -> None:
    # From the content there is nothing to gain where the content alone counts.
    data = compare("--style-weight", "0", "--content-layers", "conv1_2,conv2_2")
    assert [run["steps"] for run in data["runs"]] == [0, 0]


@pytest.mark.usefixtures("quick")
def test_names_that_are_not_utf8_are_no_trouble(
    nstx: Nstx, pictures: list[Path], tmp_path: Path
) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9.png")
    try:
        odd.write_bytes(pictures[0].read_bytes())
    except OSError:
        pytest.skip("this file system wants UTF-8")
    code, _, err = nstx("compare", odd, pictures[1], "-o", tmp_path / "d", *LAYERS, *FAST)
    assert code == 0, err


@pytest.mark.usefixtures("quick")
def test_a_mistake_leaves_a_finished_folder_as_it_is(
    nstx: Nstx, compare: Compare, pictures: list[Path], tmp_path: Path
) -> None:
    compare(*LAYERS)
    before = snapshot(tmp_path / "d")
    more = [*LAYERS, *FAST, "--seed", 7, "--extractor", "tensorrt", "--no-cache", "--force"]
    code, _, _ = nstx("compare", *pictures, "-o", tmp_path / "d", *more)
    assert code == 4
    assert snapshot(tmp_path / "d") == before


@needs_bf16
@pytest.mark.usefixtures("quick")
def test_a_fallback_to_fp32_is_told(
    nstx: Nstx, compare: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = PrecisionPolicy(
        processor=Processor(bf16_units=True, bf16="packed"), least_bf16_work=0, largest_error=1e-9
    )
    monkeypatch.setattr("nstx.engine.gradients.choice.PrecisionPolicy", lambda: policy)
    data = compare("--content-layers", "conv2_2", "--steps", "8")
    (run,) = data["runs"]
    assert run["precision"] == "fp32"
    assert any("fp32 took over" in text for text in data["warnings"])
