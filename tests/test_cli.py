"""The command line: what it prints, where, with which exit code, and what it leaves on the disk."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from processes import PATIENCE, run_signalled, spawn, wait_for

from nstx.cli.choices import split_style
from nstx.cli.errors.exits import run_app
from nstx.cli.optimize.interrupt import Interrupt
from nstx.models.errors import DeviceError, UsageError
from nstx.models.storage.seals import digest_file
from nstx.models.version import __version__

Nstx = Callable[..., tuple[int, str, str]]
"""Runs the command line and returns its exit code, stdout and stderr."""

LAYERS = ["--content-layers", "conv2_2", "--style-layers", "conv1_1,conv2_1"]
FAST = ["--size", "48", "--steps", "3"]
LIGHT = [*FAST, *LAYERS]
FEW = dict(zip(LAYERS[::2], LAYERS[1::2], strict=True))


@pytest.fixture
def pictures(save_picture: Callable[..., Path]) -> tuple[Path, Path]:
    return save_picture("content.png", 60, 80, 1), save_picture("style.jpg", 70, 50, 2)


def test_optimize_reports_every_field_and_evaluate_agrees(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A cache that no other test has filled.
    monkeypatch.setenv("NSTX_CACHE_DIR", str(tmp_path / "cache"))
    content, style = pictures
    output = tmp_path / "out.png"
    code, out, err = nstx("optimize", content, style, "-o", output, *LIGHT, "--json")
    assert code == 0
    assert err == ""
    data = json.loads(out)
    assert (data["width"], data["height"], data["steps"]) == (48, 36, 3)
    assert data["evaluations"] >= 3
    assert set(data["cost"]) >= {"total", "content", "style", "style_layers"}
    assert data["cost"]["total"] < data["initial_cost"]
    parts = {"load", "targets", "optimize", "save"}
    assert set(data["seconds"]) == {"total", "start", "until_first_step", *parts}
    assert data["seconds"]["total"] >= data["seconds"]["optimize"] > 0
    assert (data["device"], data["precision"], data["backend"]) == ("cpu", "fp32", "onnx")
    assert (data["solver"], data["seed"]) == ("lbfgs", 0)
    assert data["weights"]["source"] == "embedded"
    assert len(data["weights"]["sha256"]) == 64
    assert data["targets"] == {"content": "miss", "style": ["miss"]}
    assert data["inputs"] == [_input("content", content), _input("style", style, 1.0)]
    assert data["command"][:2] == ["nstx", "optimize"]
    assert data["command"][-1] == "--json"
    assert data["version"] == __version__
    assert data["peak_memory_bytes"] > 100 << 20
    with Image.open(output) as image:
        assert image.size == (48, 36)
    measured = ["evaluate", output, "--content", content, "--style", style, *LAYERS, "--json"]
    code, out, _ = nstx(*measured)
    assert code == 0
    assert [item["role"] for item in json.loads(out)["inputs"]] == ["image", "content", "style"]
    report = json.loads(out)
    assert report["artefacts"] is None
    evaluated = report["cost"]
    assert evaluated["total"] == pytest.approx(data["cost"]["total"], rel=1e-3)


def _input(role: str, path: Path, weight: float | None = None) -> dict[str, object]:
    digest = digest_file(path)
    of_style = {"weight": weight, "colors": None, "layers": None, "mask": None, "mask_sha256": None}
    return {"role": role, "path": str(path), "sha256": digest, **of_style}


def test_unrounded_pixels_have_the_cost_before_rounding(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    content, style = pictures
    output = tmp_path / "out.npy"
    _, out, _ = nstx("optimize", content, style, "-o", output, *LIGHT, "--json")
    data = json.loads(out)
    assert data["cost"]["total"] == pytest.approx(data["cost_before_rounding"]["total"], rel=1e-6)
    measured = ["evaluate", output, "--content", content, "--style", style, *LAYERS, "--json"]
    _, out, _ = nstx(*measured)
    expected = data["cost_before_rounding"]["total"]
    assert json.loads(out)["cost"]["total"] == pytest.approx(expected, rel=1e-3)


def test_the_same_command_gives_the_same_bytes(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for file in files:
        assert nstx("optimize", *pictures, "-o", file, *LIGHT, "--init", "blend")[0] == 0
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_person_reads_where_the_picture_is_and_quiet_says_nothing(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    code, out, err = nstx("optimize", *pictures, "-o", tmp_path / "out.png", *LIGHT)
    assert code == 0
    assert f"saved {tmp_path / 'out.png'}" in out
    assert "3 steps" in out
    assert err == ""
    assert nstx("optimize", *pictures, "-o", tmp_path / "o.png", *LIGHT, "--quiet") == (0, "", "")


def test_trace_snapshots_and_animation_are_written(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    arguments = ["--size", "48", "--steps", "4", "--save-every", "2", *LAYERS]
    trace, animation = tmp_path / "t.jsonl", tmp_path / "a.gif"
    files = ["--trace", trace, "--animate", animation]
    code, out, _ = nstx(
        "optimize", *pictures, "-o", tmp_path / "out.png", *arguments, *files, "--json"
    )
    assert code == 0
    lines = [json.loads(line) for line in trace.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert all({"total", "content", "style", "seconds"} <= set(line) for line in lines)
    data = json.loads(out)
    assert data["cost_before_rounding"]["total"] == lines[-1]["total"]
    assert sorted(path.name for path in tmp_path.glob("out*")) == [
        "out.png", "out_0002.png", "out_0004.png",
    ]  # fmt: skip
    assert set(data["files"]) == {"snapshots", "trace", "animation"}
    with Image.open(animation) as image:
        image.seek(1)  # there are two frames or more


def test_precomputed_targets_give_the_same_picture(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    content, style = pictures
    targets = tmp_path / "t.safetensors"
    few = ["--size", "48", *LAYERS]
    arguments = ["--content", content, "--style", f"{style}:2", "-o", targets, *few, "--json"]
    code, out, _ = nstx("precompute", *arguments)
    assert code == 0
    assert json.loads(out)["inputs"] == [_input("content", content), _input("style", style, 2.0)]
    bare = "--no-manifest"
    assert nstx("optimize", content, style, "-o", tmp_path / "a.png", *LIGHT, bare)[0] == 0
    code, out, _ = nstx(
        "optimize", "--targets", targets, "-o", tmp_path / "b.png", "--steps", 3, "--json", bare
    )
    assert code == 0
    assert json.loads(out)["targets"] == {"content": "file", "style": ["file"]}
    assert json.loads(out)["inputs"] == [_input("targets", targets)]
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    code, _, err = nstx("optimize", "--targets", targets, "-o", tmp_path / "c.png", "--size", 64)
    assert code == 2
    assert "--size" in err


def test_alpha_of_the_content_comes_back(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    with Image.open(pictures[0]) as image:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        image.save(tmp_path / "alpha.png")
    code, _, _ = nstx(
        "optimize", tmp_path / "alpha.png", pictures[1], "-o", tmp_path / "o.png", *LIGHT
    )
    assert code == 0
    with Image.open(tmp_path / "o.png") as image:
        assert image.mode == "RGBA"
        assert np.asarray(image.getchannel("A")).min() < 20


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"content": "missing.png"}, 3, "No such file"),
        ({"content": "."}, 3, "a folder"),
        ({"style": "missing.jpg:2"}, 3, "No such file"),
        ({"style": "style.jpg:-1"}, 2, "style weight"),
        ({"-o": "out"}, 7, "ends in"),
        ({"-o": "no/such/folder/out.png"}, 7, "existing folder"),
        ({"-o": "content.png"}, 7, "neither an input"),
        ({"-o": "a.webp", "--animate": "a.webp"}, 7, "another output"),
        ({"-o": "a.png", "--weights": "caffe:./a.png"}, 7, "neither an input"),
        ({"content": "x" * 300 + ".png"}, 3, "too long"),
        ({"-o": "y" * 300 + ".png"}, 7, "shorter"),
        ({"--size": "3000000000"}, 2, "65535"),
        ({"--scales": "1000000000"}, 2, "scales"),
        ({"--style-scale": "1e9"}, 2, "style-scale"),
        ({"--size": "60000"}, 4, "memory"),
        ({"--steps": "0"}, 2, "steps"),
        ({"--steps": "99999999999999999999"}, 2, "steps"),
        ({"--threads": "10000000"}, 2, "threads"),
        ({"content": "/dev/null"}, 3, "device"),
        ({"--steps": "many"}, 2, "--steps"),
        ({"--style-weight": "-1"}, 2, "style weight"),
        ({"--content-layers": "conv7_1"}, 2, "conv7_1"),
        ({"--preset": "monet"}, 2, "monet"),
        ({"--device": "cuda:97"}, 4, "CUDA"),
        ({"--device": "gpu"}, 2, "gpu"),
        ({"--precision": "fp16"}, 4, "fp16"),
        ({"--backend": "onnx", "--precision": "bf16"}, 4, "bf16"),
        ({"--weights": "nothing.pth"}, 6, "nothing.pth"),
        ({"--weights": "style.jpg"}, 6, "style.jpg"),
        ({"--size": "3"}, 2, "16 … 65535"),
        ({"--width": "64", "--size": "64"}, 2, "got both"),
        ({"--init": "nothing.png", **FEW}, 3, "nothing.png"),
        ({"--scales": "some"}, 2, "some"),
        ({"--scales": "9"}, 2, "scales"),
        ({"--save-every": "0"}, 2, "save-every"),
        ({"--save-every": "1", "--steps": "1000000"}, 2, "--save-every 100"),
        ({"--animate": "a.avi"}, 7, ".gif"),
        ({"--trace": "t.csv"}, 7, ".jsonl"),
        ({"--targets": "t.safetensors"}, 2, "--targets"),
        ({"--nonsense": "1"}, 2, "nonsense"),
    ],
)
def test_a_mistake_gets_one_line_its_code_and_leaves_nothing(
    nstx: Nstx,
    pictures: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    options = {"content": "content.png", "style": "style.jpg", "-o": "out.png", "--size": "48"}
    if "--width" not in changes:
        options["--steps"] = "3"
    options |= changes
    arguments = [options.pop("content"), options.pop("style")]
    arguments += [part for pair in options.items() for part in pair]
    got, out, err = nstx("optimize", *arguments)
    assert got == code
    assert out == ""
    assert err.startswith("nstx: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_missing_arguments_are_one_line(nstx: Nstx, pictures: tuple[Path, Path]) -> None:
    for arguments in (["optimize"], ["optimize", *pictures], ["evaluate"], ["paint"]):
        code, out, err = nstx(*arguments)
        assert (code, out) == (2, "")
        assert err.startswith("nstx: error: ")
        assert err.count("\n") == 1


def test_model_prints_the_listing_of_the_assignment(nstx: Nstx) -> None:
    code, out, _ = nstx("model")
    assert code == 0
    assert "conv4_2    (1, 38, 50, 512)" in out
    assert "avgpool5   (1, 10, 13, 512)" in out
    code, out, _ = nstx("model", "--size", 512, "--until", "relu2_1", "--json")
    layers = json.loads(out)["layers"]
    assert layers[0]["shape"] == [1, 384, 512, 3]
    assert layers[-1]["name"] == "conv2_1"


@pytest.mark.parametrize(
    "arguments",
    [["--until", "fc6"], ["--rounding", "up"], ["--pooling", "l2"], ["--size", "1"]],
)
def test_model_refuses_what_it_does_not_know(nstx: Nstx, arguments: list[str]) -> None:
    code, _, err = nstx("model", *arguments)
    assert code == 2
    assert err.count("\n") == 1


def test_doctor_tries_providers_and_finds_the_weights(nstx: Nstx) -> None:
    code, out, _ = nstx("doctor", "--json")
    data = json.loads(out)
    assert code == (1 if data["problems"] else 0)
    assert {"name": "CPUExecutionProvider", "loads": True} in data["providers"]
    assert data["devices"][0]["name"] == "cpu"
    assert data["weights"]["sha256"].startswith("c34748d2")
    assert nstx("doctor")[1].count("\n") > 5


def test_configuration_is_below_environment_is_below_flags(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nstx.toml").write_text("size = 32\n[optimize]\nsteps = 2\nstyle-weight = 7.5\n")

    def run(*arguments: object) -> dict[str, Any]:
        command = ["optimize", *pictures, "-o", "out.png", "--json", *LAYERS]
        code, out, _ = nstx(*command, *arguments)
        assert code == 0
        fields: dict[str, Any] = json.loads(out)
        return fields

    data = run()
    assert (data["width"], data["steps"], data["objective"]["style_weight"]) == (32, 2, 7.5)
    monkeypatch.setenv("NSTX_SIZE", "40")
    assert run()["width"] == 40
    data = run("--width", 48, "--height", 32)
    assert (data["width"], data["height"]) == (48, 32)
    assert run("--size", 48)["width"] == 48


def test_style_weights_are_split_off_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("odd:2").touch()
    assert split_style("a.jpg") == (Path("a.jpg"), 1.0)
    assert split_style("a.jpg:0.25") == (Path("a.jpg"), 0.25)
    assert split_style("odd:2") == (Path("odd:2"), 1.0)
    assert split_style(r"C:\a.jpg") == (Path(r"C:\a.jpg"), 1.0)


@pytest.mark.parametrize("style", ["nope.jpg:", "nope.jpg:abc", "odd:", "a.jpg:2,5", "a.jpg:0"])
def test_what_stands_for_a_styles_weight_and_is_none_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, style: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("odd").touch()
    with pytest.raises(UsageError, match=r"PATH:weight.*; try '\S+:1'$"):
        split_style(style)


def test_a_full_disk_at_the_end_saves_the_picture_elsewhere(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nstx.models.storage import files

    real = files.write_atomically

    def full(path: Path, data: bytes) -> None:
        if path.name == "out.png" and "rescued" not in str(path):
            raise OSError(28, "No space left on device")
        real(path, data)

    monkeypatch.setattr("nstx.models.storage.files.write_atomically", full)
    code, _, err = nstx("optimize", *pictures, "-o", tmp_path / "out.png", *LIGHT)
    assert code == 7
    assert "No space left" in err
    rescued = Path(err.split("saved as ")[1].split(" instead")[0])
    with Image.open(rescued) as image:
        assert image.size == (48, 36)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_the_current_picture(
    pictures: tuple[Path, Path], tmp_path: Path, number: int, code: int
) -> None:
    trace, output = tmp_path / "t.jsonl", tmp_path / "out.png"
    process = spawn(
        "optimize", *pictures, "-o", output, "--size", 128, "--steps", 5000, "--trace", trace,
        "--solver", "adam", "--scales", 1, "--json", *LAYERS,
    )  # fmt: skip
    wait_for(trace.exists)
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, err
    data = json.loads(out)
    assert data["stopped"] == "interrupted"
    assert 1 <= data["steps"] < 5000
    assert np.asarray(Image.open(output).convert("RGB")).shape == (96, 128, 3)
    assert "stopping" in err


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_a_signal_that_is_ignored_as_under_nohup_stays_ignored(
    pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    trace = tmp_path / "t.jsonl"
    command = [sys.executable, "-m", "nstx", "optimize", *map(str, pictures), "--size", "48"]
    command += ["-o", str(tmp_path / "out.png"), "--steps", "40", "--trace", str(trace), "-q"]
    process = subprocess.Popen(["bash", "-c", 'trap "" HUP; exec "$@"', "bash", *command])
    wait_for(trace.exists)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=PATIENCE) == 0
    assert len(trace.read_text().splitlines()) > 20


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize("phase", ["nstx.engine.settings", "onnxruntime", "onnx"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_first_step_leaves_nothing(
    pictures: tuple[Path, Path], tmp_path: Path, number: int, phase: str
) -> None:
    cache = tmp_path / "cache"  # an empty one, so that graphs are built and onnx is imported
    done = run_signalled(
        "import", phase, number, "optimize", *pictures, "-o", tmp_path / "out.png",
        "--size", 48, "--backend", "onnx", cache=cache,
    )  # fmt: skip
    assert done.returncode == 128 + number, done.stderr
    assert not (tmp_path / "out.png").exists()
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize(
    ("event", "phase"), [("import", "onnx"), ("import", "onnxruntime"), ("tempfile.mkstemp", "out")]
)
def test_a_terminated_export_leaves_nothing(tmp_path: Path, event: str, phase: str) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    layers = ["--content-layers", "conv1_1", "--style-layers", "conv1_1"]
    arguments = ["export", "gradient", "-o", folder / "g.onnx", *layers]
    done = run_signalled(event, phase, signal.SIGTERM, *arguments)
    assert (done.returncode, "Traceback" in done.stderr) == (143, False)
    assert not list(folder.iterdir())


def test_the_runtimes_telemetry_stays_off(pictures: tuple[Path, Path], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nstx", "optimize", *map(str, pictures), "--size", "48"]
    command += ["-o", str(tmp_path / "out.png"), "--steps", "1", "-q", *LAYERS]
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "TMPDIR": str(home)}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    environment.pop("XDG_CACHE_HOME", None)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert not [
        path for path in home.rglob("*") if "onnxruntime" in path.name or path.name == ".ses"
    ]


@pytest.mark.parametrize(("cause", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_an_interrupted_import_is_an_interrupt_not_a_missing_library(
    cause: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    # What pybind11's modules do when a signal comes while they are imported.
    def app(**_: object) -> None:
        try:
            try:
                raise cause
            except BaseException as error:
                raise ImportError("initialization failed") from error
        except ImportError as error:
            raise DeviceError("expected ONNX Runtime, got: initialization failed") from error

    assert run_app(app) == code
    assert capsys.readouterr().err == ""


def test_a_signal_whose_exit_was_swallowed_ends_the_run_before_its_first_step() -> None:
    interrupt = Interrupt(is_loading=lambda: False)
    with contextlib.suppress(SystemExit):
        interrupt.handle(signal.SIGTERM, None)
    with pytest.raises(SystemExit) as left:
        interrupt.defer(lambda: None, lambda: None)
    assert left.value.code == 143


def test_help_answers_without_heavy_libraries() -> None:
    code = (
        "import sys; sys.argv = ['nstx', '--help']\n"
        "from nstx.cli.app import app\nfrom nstx.cli.errors.exits import run_app\n"
        "code = run_app(app)\n"
        "heavy = {'torch', 'numpy', 'scipy', 'onnx', 'onnxruntime', 'PIL'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "optimize" in done.stdout


def test_help_takes_little_longer_than_its_libraries_do() -> None:
    """Processor time, in turns, as shares of what typer and rich take: no machine's load counts."""
    ours = [sys.executable, "-m", "nstx", "--help"]
    libraries = [sys.executable, "-c", "import typer, typer.rich_utils, rich.console"]
    turns = range(5)  # until one shows it
    assert any(processor_seconds(ours) / processor_seconds(libraries) < 2 for _ in turns)


def processor_seconds(command: list[str]) -> float:
    before = os.times()
    subprocess.run(command, capture_output=True, check=True)
    after = os.times()
    return (
        after.children_user + after.children_system - before.children_user - before.children_system
    )


def test_a_snapshot_never_replaces_an_input(
    nstx: Nstx, save_picture: Callable[..., Path], tmp_path: Path
) -> None:
    photo, painting = save_picture("p_0001.png"), save_picture("style.png")
    before = photo.read_bytes()
    code, _, err = nstx(
        "optimize", photo, painting, "-o", tmp_path / "p.png", "--save-every", 1, *LIGHT
    )
    assert code == 7
    assert "p_0001.png" in err
    assert photo.read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_under_the_trace_does_not_lose_the_picture(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace, output, really = tmp_path / "t.jsonl", tmp_path / "out.png", Path.open

    def full(path: Path, *arguments: Any, **options: Any) -> Any:
        return really(Path("/dev/full") if path == trace else path, *arguments, **options)

    monkeypatch.setattr(Path, "open", full)
    code, out, err = nstx("optimize", *pictures, "-o", output, *LIGHT, "--trace", trace, "--json")
    assert code == 0
    assert output.is_file()
    assert "No space left" in err
    assert json.loads(out)["warnings"]


def test_targets_serve_objectives_that_need_less(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    content, style = pictures
    targets = tmp_path / "t.safetensors"
    arguments = ["--content", content, "--style", style, "-o", targets, "--size", 48, *LAYERS]
    assert nstx("precompute", *arguments)[0] == 0
    for weight in ("--content-weight", "--style-weight"):
        arguments = ["--targets", targets, "-o", tmp_path / "o.png", "--steps", 2, weight, 0]
        assert nstx("optimize", *arguments)[0] == 0


def test_evaluate_refuses_a_picture_that_is_too_thin(
    nstx: Nstx, save_picture: Callable[..., Path]
) -> None:
    thin, style = save_picture("thin.png", 8, 20), save_picture("style.png")
    code, out, err = nstx("evaluate", thin, "--content", thin, "--style", style)
    assert (code, out) == (2, "")
    assert "16 or more" in err


def test_help_is_there_in_spite_of_a_wrong_configuration(
    nstx: Nstx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nstx.toml").write_text("colour = 1")
    code, out, _ = nstx("optimize", "--help")
    assert code == 0
    assert "--style-weight" in out


def test_a_reader_that_goes_away_is_no_failure() -> None:
    command = f"{sys.executable} -m nstx model --json | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_closed_or_full_standard_output_is_no_traceback() -> None:
    for redirection, code in ((">&-", 0), (">/dev/full", 7)):
        command = f"{sys.executable} -m nstx model {redirection}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        assert done.stderr.count("\n") <= 1


def test_options_are_named_in_a_configuration_as_on_the_command_line(
    nstx: Nstx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nstx.toml").write_text("json = true\n[model]\nuntil = 'conv1_1'\n")
    code, out, _ = nstx("model")
    assert code == 0
    assert json.loads(out)["layers"][-1]["name"] == "conv1_1"


def test_nstx_alone_shows_its_help_and_no_error(nstx: Nstx) -> None:
    code, out, err = nstx()
    assert code == 2
    assert "optimize" in out + err
    assert "error" not in err


def test_a_wrong_path_is_told_before_torch_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['nstx', 'optimize', 'no.jpg', 'no.jpg', '-o', sys.argv[1]]\n"
        "from nstx.cli.app import run\n"
        "code = run()\n"
        "sys.exit(99 if 'torch' in sys.modules else code)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out.png")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 3
