"""The cache from the command line: hits and misses, ``precompute``, ``nstx cache``."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import random_pixels
from PIL import Image
from processes import PATIENCE, wait_for

from nstx import prepare_job
from nstx.models.storage.seals import digest_file

Nstx = Callable[..., tuple[int, str, str]]
"""Runs the command line and returns its exit code, stdout and stderr."""

TINY = ["--size", "48", "--content-layers", "conv2_1", "--style-layers", "conv1_1,conv2_1"]
FAST = [*TINY, "--steps", "3"]


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("NSTX_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with the weights, and with what it takes to compute targets and gradients."""
    folder = tmp_path_factory.mktemp("prepared")
    picture = random_pixels(48, 48, 0).astype(np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NSTX_CACHE_DIR", str(folder))
        layers: Any = {"content_layers": TINY[3], "style_layers": TINY[5]}
        prepare_job(picture, picture, size=48, device="cpu", **layers)
    shutil.rmtree(folder / "targets")
    return folder


@pytest.fixture
def known_graphs(prepared: Path, cache_folder: Path) -> None:
    """A cache folder without targets alone: to make the rest is most of a small run's work."""
    shutil.copytree(prepared, cache_folder)


@pytest.fixture
def pictures(save_picture: Callable[..., Path]) -> tuple[Path, Path]:
    return save_picture("content.png", 60, 80, 1), save_picture("style.png", 70, 50, 2)


def run_json(nstx: Nstx, *arguments: object) -> dict[str, Any]:
    code, out, err = nstx(*arguments, "--json")
    assert code == 0, err
    data: dict[str, Any] = json.loads(out)
    return data


@pytest.mark.usefixtures("known_graphs")
@pytest.mark.parametrize("preset", ["default", "coursera"])
def test_a_second_run_hits_and_writes_the_same_bytes(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path, preset: str
) -> None:
    outputs = [tmp_path / f"{name}.png" for name in "abc"]
    common = ["optimize", *pictures, *FAST, "--preset", preset]
    first, second = (run_json(nstx, *common, "-o", output) for output in outputs[:2])
    without = run_json(nstx, *common, "-o", outputs[2], "--no-cache")
    assert first["targets"] == without["targets"] == {"content": "miss", "style": ["miss"]}
    assert second["targets"] == {"content": "hit", "style": ["hit"]}
    assert first["extractor"] == {"name": "onnx", "runs_on": "CPUExecutionProvider"}
    assert second["extractor"] is None
    assert len({output.read_bytes() for output in outputs}) == 1
    seconds = second["seconds"]
    parts = seconds["start"] + seconds["load"] + seconds["targets"]
    assert parts <= seconds["until_first_step"] <= seconds["start"] + seconds["total"]


@pytest.mark.usefixtures("known_graphs")
def test_a_person_reads_where_the_targets_came_from(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    common = ["optimize", *pictures, "-o", tmp_path / "o.png", *FAST]
    assert "targets by onnx on CPUExecutionProvider\n" in nstx(*common)[1]
    assert "targets from the cache\n" in nstx(*common)[1]
    more = [*common[:-3], "conv1_1,conv2_2", "--steps", "1"]
    assert "targets by onnx on CPUExecutionProvider, some from the cache" in nstx(*more)[1]


@pytest.mark.usefixtures("known_graphs")
def test_precomputed_pictures_are_hits(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    content, style = pictures
    data = run_json(nstx, "precompute", "--content", content, "--style", style, *TINY)
    assert [(entry["role"], entry["targets"]) for entry in data["pictures"]] == [
        ("content", "miss"),
        ("style", "miss"),
    ]
    assert data["pictures"][0]["sizes"] == [{"width": 48, "height": 36}]
    assert data["extractor"]["name"] == "onnx"
    read = [(entry["role"], entry["sha256"]) for entry in data["inputs"]]
    assert read == [("content", digest_file(content)), ("style", digest_file(style))]
    again = run_json(nstx, "precompute", "--content", content, "--style", style, *TINY)
    assert [entry["targets"] for entry in again["pictures"]] == ["hit", "hit"]
    assert again["extractor"] is None
    done = run_json(nstx, "optimize", content, style, "-o", tmp_path / "o.png", *FAST)
    assert done["targets"] == {"content": "hit", "style": ["hit"]}


@pytest.mark.usefixtures("known_graphs")
def test_precompute_takes_several_values_and_folders(
    nstx: Nstx, save_picture: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "paintings"
    folder.mkdir()
    contents = [save_picture(f"c{n}.png", seed=n) for n in range(2)]
    for number in range(3):
        save_picture(f"s{number}.png", seed=5 + number).rename(folder / f"s{number}.png")
    code, out, err = nstx(
        "precompute", f"--content={contents[0]}", contents[1], "--style", folder, *TINY
    )
    assert (code, err) == (0, "")
    assert "targets of 5 pictures: 5 computed, by onnx" in out
    repeated = [option for path in contents for option in ("--content", path)]
    code, out, _ = nstx("precompute", "--style", folder, *repeated, *TINY)
    assert "targets of 5 pictures: 0 computed, 5 already in the cache, in" in out


@pytest.mark.usefixtures("known_graphs")
def test_precompute_goes_on_after_a_broken_picture_and_says_so(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    content, style = pictures
    broken = tmp_path / "broken.png"
    broken.write_bytes(content.read_bytes()[:200])
    code, out, err = nstx("precompute", "--content", broken, content, "--style", style, *TINY)
    assert code == 3
    assert "3 pictures: 2 computed" in out
    assert f"{broken} was left out" in err
    assert "1 of 3" in err


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        ([], 2, "got none"),
        (["--style", "S", "--no-cache"], 2, "got neither"),
        (["--style", "S", "-o", "t.safetensors"], 2, "got 0 contents"),
        (["--content", "S", "S2", "--style", "S", "-o", "t.safetensors"], 2, "got 2 contents"),
        (["--content", "missing.png"], 3, "No such file"),
        (["--style", "S", "--device", "toaster"], 2, "toaster"),
        (["--style", "S", "--width", "100"], 2, "--size"),
        (["--style", "S", "--size", "0"], 2, "16 … 65535"),
        (["--content", "S", "--size", "64", "--width", "80"], 2, "both"),
        (["--content", ""], 2, "empty name"),
        (["--content", "S", "--style", "S", "-o", "S"], 7, ".safetensors"),
    ],
)
def test_what_cannot_be_precomputed_is_told(
    nstx: Nstx,
    save_picture: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"S": save_picture("a.png"), "S2": save_picture("b.png", seed=1)}
    exit_code, _, err = nstx("precompute", *(names.get(name, name) for name in arguments))
    assert (exit_code, err.count("\n")) == (code, 1)
    assert expected in err


@pytest.mark.usefixtures("known_graphs")
def test_a_targets_file_is_enough_on_another_machine(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, style = pictures
    with Image.open(content) as image:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        image.save(content)
    targets, outputs = tmp_path / "t.safetensors", [tmp_path / "a.png", tmp_path / "b.png"]
    assert nstx("precompute", "--content", content, "--style", style, *TINY, "-o", targets)[0] == 0
    bare = [*FAST, "--no-manifest"]
    assert nstx("optimize", content, style, *bare, "-o", outputs[0])[0] == 0
    monkeypatch.setenv("NSTX_CACHE_DIR", str(tmp_path / "elsewhere"))
    content.unlink()
    style.unlink()
    data = run_json(nstx, "optimize", "--targets", targets, *bare[2:], "-o", outputs[1])
    assert data["targets"] == {"content": "file", "style": ["file"]}
    assert outputs[0].read_bytes() == outputs[1].read_bytes()


@pytest.mark.usefixtures("known_graphs")
def test_a_content_of_unrounded_numbers_stays_so_in_a_targets_file(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    exact = tmp_path / "exact.npy"
    np.save(exact, np.random.default_rng(1).uniform(0, 255, (36, 48, 3)).astype(np.float32))
    targets, outputs = tmp_path / "t.safetensors", [tmp_path / "a.npy", tmp_path / "b.npy"]
    common = ["--content", exact, "--style", pictures[1], *TINY]
    assert nstx("precompute", *common, "-o", targets)[0] == 0
    assert nstx("optimize", exact, pictures[1], *FAST, "-o", outputs[0])[0] == 0
    assert nstx("optimize", "--targets", targets, *FAST[2:], "-o", outputs[1])[0] == 0
    assert outputs[0].read_bytes() == outputs[1].read_bytes()


@pytest.mark.usefixtures("known_graphs")
def test_a_targets_file_brings_its_objective_and_preset(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    content, style = pictures
    targets, outputs = tmp_path / "t.safetensors", [tmp_path / "a.png", tmp_path / "b.png"]
    chosen = [*TINY, "--preset", "gatys"]
    assert (
        nstx("precompute", "--content", content, "--style", style, *chosen, "-o", targets)[0] == 0
    )
    steps = ["--steps", "3", "--no-manifest"]
    assert nstx("optimize", content, style, *chosen, *steps, "-o", outputs[0])[0] == 0
    data = run_json(nstx, "optimize", "--targets", targets, *steps, "-o", outputs[1])
    assert (data["preset"], data["objective"]["pooling"]) == ("gatys", "max")
    assert outputs[0].read_bytes() == outputs[1].read_bytes()


def test_a_pipe_is_no_targets_file(nstx: Nstx, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    code, _, err = nstx("optimize", "--targets", tmp_path / "pipe", "-o", tmp_path / "o.png")
    assert (code, "got a FIFO" in err) == (2, True)


@pytest.mark.usefixtures("known_graphs")
def test_any_change_of_a_targets_file_is_found(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    targets = tmp_path / "t.safetensors"
    common = ["--content", pictures[0], "--style", pictures[1], *TINY]
    assert nstx("precompute", *common, "-o", targets)[0] == 0
    whole = targets.read_bytes()
    for place in (3, 40, 300, len(whole) // 2, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        targets.write_bytes(damaged)
        code, _, err = nstx("optimize", "--targets", targets, *FAST[2:], "-o", tmp_path / "o.png")
        assert code == 2
        assert "cannot be used" in err


@pytest.mark.usefixtures("known_graphs")
def test_targets_of_other_weights_name_the_difference(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    from safetensors.numpy import save_file

    from nstx import load_weights

    ours = load_weights()
    tensors = {f"{name}.weight": array * 1.001 for name, array in ours.kernels.items()}
    tensors |= {f"{name}.bias": array for name, array in ours.biases.items()}
    save_file(tensors, tmp_path / "other.safetensors")
    targets = tmp_path / "t.safetensors"
    common = ["--content", pictures[0], "--style", pictures[1], *TINY]
    assert nstx("precompute", *common, "-o", targets)[0] == 0
    given = ["optimize", "--targets", targets, "-o", tmp_path / "o.png", *FAST[2:]]
    code, _, err = nstx(*given, "--weights", tmp_path / "other.safetensors")
    assert code == 2
    assert f"weights_sha256 {ours.sha256} instead of" in err


@pytest.mark.usefixtures("known_graphs")
@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (["--pooling", "max"], "pooling avg instead of max"),
        (["--style-layers", "conv1_1"], "style_layers"),
        (["--content-layers", "conv4_2"], "content_layers"),
        (["--preset", "gatys"], "pool_rounding ceil instead of floor"),
    ],
)
def test_targets_of_another_objective_name_the_difference(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path, options: list[str], difference: str
) -> None:
    targets = tmp_path / "t.safetensors"
    common = ["--content", pictures[0], "--style", pictures[1], *TINY]
    assert nstx("precompute", *common, "-o", targets)[0] == 0
    given = ["optimize", "--targets", targets, "-o", tmp_path / "o.png", *FAST[2:], *options]
    code, _, err = nstx(*given)
    assert code == 2
    assert difference in err


def test_the_cache_is_listed_verified_pruned_and_cleared(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path, cache_folder: Path
) -> None:
    content, style = pictures
    assert nstx("cache", "ls")[1].endswith("nothing is kept\n")
    nstx("precompute", "--content", content, "--style", style, *TINY)
    _, out, _ = nstx("cache", "ls")
    assert f"{content} 48×36 conv2_1 (avg, onnx cpu fp32, weights c34748d2…)" in out
    assert f"{style} 34×48 Gram conv1_1, conv2_1 (avg" in out
    assert "s ago" in out
    listed = run_json(nstx, "cache", "ls")
    targets = [entry for entry in listed["entries"] if entry["kind"] == "targets"]
    assert {entry["of"]["layer"] for entry in targets} == {"conv1_1", "conv2_1"}
    assert all(entry["size_bytes"] > 0 and entry["age_seconds"] < 60 for entry in targets)
    sessions = run_json(nstx, "cache", "ls", "--kind", "sessions")["entries"]
    assert {entry["of"]["grams"] for entry in sessions} == {"", "conv1_1,conv2_1"}

    verified = run_json(nstx, "cache", "verify")
    assert (verified["checked"], verified["damaged"]) == (len(listed["entries"]), [])
    victim = Path(targets[0]["path"])
    os.utime(victim, (1000, 1000))
    pruned = run_json(nstx, "cache", "prune", "--older-than", "1h")
    assert pruned["removed"] == [str(victim)]
    assert len(run_json(nstx, "cache", "prune", "--max-size", "0")["removed"]) >= 4
    assert run_json(nstx, "cache", "ls")["entries"] == []
    assert run_json(nstx, "cache", "clear")["removed"] == []


def test_every_kind_of_damage_is_found(
    nstx: Nstx, pictures: tuple[Path, Path], cache_folder: Path
) -> None:
    nstx("precompute", "--content", pictures[0], *TINY)
    for path in cache_folder.rglob("*.*"):
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    code, out, _ = nstx("cache", "verify")
    assert code == 1
    assert out.count("DAMAGED") == 3
    assert "3 entries checked, 3 damaged; try --remove" in out
    code, out, _ = nstx("cache", "verify", "--remove")
    assert (code, "removed" in out) == (1, True)
    assert nstx("cache", "verify")[:2] == (0, "0 entries checked, 0 damaged\n")


def test_nothing_that_is_not_ours_is_seen_or_removed(
    nstx: Nstx, pictures: tuple[Path, Path], cache_folder: Path
) -> None:
    nstx("precompute", "--content", pictures[0], *TINY)
    theirs = [
        cache_folder / name
        for name in ("mine.txt", "targets/thesis.safetensors", "sessions/model.onnx")
    ]
    for path in theirs:
        path.write_bytes(b"precious")
    assert nstx("cache", "verify")[0] == 0
    nstx("cache", "prune", "--max-size", "0", "--older-than", "0h")
    nstx("cache", "clear")
    assert all(path.exists() for path in theirs)
    assert sorted(path for path in cache_folder.rglob("*.*") if path.is_file()) == sorted(theirs)


def test_verifying_and_listing_are_no_use(
    nstx: Nstx, pictures: tuple[Path, Path], cache_folder: Path
) -> None:
    nstx("optimize", *pictures, "-o", cache_folder.with_name("o.png"), *FAST)
    for path in cache_folder.rglob("*.*"):
        os.utime(path, (1000, 1000))
    nstx("cache", "verify")
    nstx("cache", "ls")
    assert {path.stat().st_mtime for path in cache_folder.rglob("*.*")} == {1000}
    (cache_folder / "targets" / ".nstx-left.part").write_bytes(b"half")
    os.utime(cache_folder / "targets" / ".nstx-left.part", (1000, 1000))
    pruned = run_json(nstx, "cache", "prune")
    assert [Path(path).name for path in pruned["removed"]] == [".nstx-left.part"]


def test_what_is_no_file_is_no_entry(
    nstx: Nstx, pictures: tuple[Path, Path], cache_folder: Path
) -> None:
    folder = cache_folder / "targets" / f"{'0' * 64}.safetensors"
    folder.mkdir(parents=True)
    (folder / "precious.txt").touch()
    assert nstx("cache", "verify")[0] == 0
    nstx("cache", "clear")
    assert (folder / "precious.txt").exists()


def test_a_folder_of_the_cache_that_cannot_be_entered_costs_a_warning(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path, cache_folder: Path
) -> None:
    cache_folder.mkdir()
    for kind in ("targets", "weights", "sessions"):
        (cache_folder / kind).touch()
    code, _, err = nstx("optimize", *pictures, "-o", tmp_path / "o.png", *FAST)
    assert code == 0
    lines = err.splitlines()
    assert len(lines) == 1
    assert all("cannot be written (" in line for line in lines)


@pytest.mark.usefixtures("known_graphs")
def test_litter_in_every_folder_is_swept_by_a_run_that_hits(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path, cache_folder: Path
) -> None:
    common = ["optimize", *pictures, "-o", tmp_path / "o.png", *FAST]
    nstx(*common)
    litter = [cache_folder / kind / ".nstx-x.part" for kind in ("targets", "weights", "sessions")]
    for path in litter:
        path.write_bytes(b"half")
        os.utime(path, (1000, 1000))
    assert run_json(nstx, *common)["targets"]["content"] == "hit"
    assert not any(path.exists() for path in litter)


def test_a_damaged_copy_of_the_weights_is_told(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path, cache_folder: Path
) -> None:
    common = ["optimize", *pictures, "-o", tmp_path / "o.png", *FAST, "--backend", "torch"]
    nstx(*common)
    (copy,) = (cache_folder / "weights").iterdir()
    copy.write_bytes(copy.read_bytes()[:-1] + b"x")
    assert "is damaged" in nstx(*common)[2]
    assert nstx(*common)[2] == ""


@pytest.mark.usefixtures("known_graphs")
def test_odd_characters_in_a_name_stay_on_one_line(
    nstx: Nstx, tmp_path: Path, save_picture: Callable[..., Path]
) -> None:
    odd = save_picture("a.png").rename(tmp_path / "odd\n\x1b[31mname.png")
    assert nstx("precompute", "--content", odd, *TINY)[0] == 0
    _, out, _ = nstx("cache", "ls")
    (line,) = (line for line in out.splitlines() if "name.png" in line)
    assert "\x1b" not in line
    assert "48×36 conv2_1" in line


def test_paths_of_entries_are_absolute_and_plain(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    monkeypatch.setenv("NSTX_CACHE_DIR", ".././sub/..//kept")
    odd = f"../sub/../{pictures[0].relative_to(tmp_path)}"
    assert nstx("precompute", "--content", odd, *TINY)[0] == 0
    folder, _, *lines = nstx("cache", "ls")[1].splitlines()
    assert folder == str(tmp_path / "kept")
    assert any(f"  {pictures[0]} " in line for line in lines)
    entries = run_json(nstx, "cache", "ls")["entries"]
    assert all(Path(entry["path"]).parents[1] == tmp_path / "kept" for entry in entries)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["prune", "--max-size", "much"], "500MB"),
        (["prune", "--older-than", "1y"], "30d"),
        (["ls", "--kind", "pictures"], "targets"),
        (["clear", "--kind", "all"], "targets"),
    ],
)
def test_wrong_options_of_the_cache_are_told(
    nstx: Nstx, arguments: list[str], expected: str
) -> None:
    code, _, err = nstx("cache", *arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert expected in err


def test_a_read_only_or_damaged_place_costs_a_warning_only(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NSTX_CACHE_DIR", str(tmp_path / "file"))
    code, _, err = nstx("optimize", *pictures, "-o", tmp_path / "o.png", *FAST)
    assert code == 0
    assert err.count("warning") == 1
    assert f"the cache {tmp_path / 'file'} cannot be written (Not a directory)" in err
    code, _, err = nstx("cache", "ls")
    assert (code, "Not a directory" in err) == (7, True)
    code, out, err = nstx("precompute", "--style", pictures[0], *TINY)
    assert (code, "1 computed" in out) == (7, True)
    assert "expected to keep the targets" in err
    monkeypatch.setenv("NSTX_CACHE_DIR", str(tmp_path / "absent"))
    assert nstx("cache", "ls")[0] == 0
    (tmp_path / "absent").symlink_to(tmp_path / "nowhere")
    assert nstx("cache", "ls")[0] == 7


def test_processes_precompute_the_same_pictures_at_once(
    save_picture: Callable[..., Path], tmp_path: Path
) -> None:
    """From an empty cache, so that they race for the weights and the graphs as well."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(8):
        save_picture(f"{number}.png", seed=number).rename(folder / f"{number}.png")
    environment = {**os.environ, "NSTX_CACHE_DIR": str(tmp_path / "shared")}
    options = ["--json", "-q", "--style", str(folder), *TINY]
    command = [sys.executable, "-m", "nstx", "precompute", *options]
    processes = [
        subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, err) == (0, "")
        assert json.loads(out)["warnings"] == []
    verify = [sys.executable, "-m", "nstx", "cache", "verify", "--json"]
    done = subprocess.run(verify, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert len(list((tmp_path / "shared" / "targets").iterdir())) == 16
    assert json.loads(done.stdout)["checked"] >= 18


def test_precompute_killed_leaves_a_store_that_verifies(
    save_picture: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(20):
        save_picture(f"{number}.png", seed=number).rename(folder / f"{number}.png")
    environment = {**os.environ, "NSTX_CACHE_DIR": str(tmp_path / "shared")}
    command = [sys.executable, "-m", "nstx", "precompute", "--style", str(folder), *TINY]
    process = subprocess.Popen(command, env=environment)
    stored = tmp_path / "shared" / "targets"
    wait_for(lambda: stored.is_dir() and bool(list(stored.glob("*.safetensors"))))
    process.kill()
    process.wait()
    verify = [sys.executable, "-m", "nstx", "cache", "verify"]
    done = subprocess.run(verify, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert len(list(stored.glob("*.safetensors"))) == 40
