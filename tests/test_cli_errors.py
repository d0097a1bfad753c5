"""How commands end that do not end well: one line, one code, with --json one object."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nstx.cli.console import Console
from nstx.cli.errors.exits import OWN_FAILURE, run_app
from nstx.models.errors import OutputError

Nstx = Callable[..., tuple[int, str, str]]

OPTIMIZE = ("optimize", "a", "b", "-o", "c.png")
EVALUATE = ("evaluate", "a", "--content", "b", "--style", "c")


@pytest.fixture
def fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs a command line whose command raises an error."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def run(error: BaseException, *arguments: str) -> tuple[int, str, str]:
        def app(**_: object) -> None:
            raise error

        monkeypatch.setattr(sys, "argv", ["nstx", *arguments])
        return run_app(app), *capsys.readouterr()

    return run


def test_what_nobody_foresaw_is_one_line_and_a_file_with_the_traceback(
    fail: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, out, err = fail(KeyError("\x1b[2J\nx"), "--json", "a\x1bb")
    assert code == OWN_FAILURE == 70
    assert err.startswith("nstx: error: expected no error of nstx itself, got KeyError: ")
    assert err.count("\n") == 1
    (report,) = tmp_path.iterdir()
    assert err.endswith(f"; try to report it with {report}\n")
    text = report.read_text(encoding="utf-8")
    assert "Traceback (most recent call last)" in text
    assert "nstx --json 'a\ufffdb'" in text
    assert text.replace("\n", "").isprintable()
    fields = json.loads(out)
    assert fields["error"]["kind"] == "KeyError"
    assert fields["error"]["exit_code"] == 70
    assert fields["error"]["message"] in err


def test_without_a_place_for_the_file_the_traceback_is_on_stderr(
    fail: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "no"))
    code, _, err = fail(RecursionError("too deep"))
    assert code == OWN_FAILURE
    assert "Traceback (most recent call last)" in err
    assert err.splitlines()[-1].endswith("try to report it with the lines above")


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (MemoryError(), 4, "DeviceError"),
        (OutputError("expected a, got b;\x1b try c"), 7, "OutputError"),
        (KeyboardInterrupt(), 130, "Interrupted"),
        (SystemExit(143), 143, "Interrupted"),
    ],
)
def test_json_has_one_object_for_every_failure(
    fail: Callable[..., tuple[int, str, str]], error: BaseException, code: int, kind: str
) -> None:
    got, out, err = fail(error, "--json")
    assert got == code
    assert json.loads(out)["error"] | {"message": ""} == {
        "kind": kind,
        "message": "",
        "exit_code": code,
    }
    assert err.count("\n") == (kind != "Interrupted")
    assert fail(error)[1] == ""


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        (["optimize", "a", "b", "-o", "c.png"], 3, "ImageError"),
        (["optimize"], 2, "UsageError"),
        (["model", "--size", "big"], 2, "UsageError"),
        (["model", "--nonsense"], 2, "UsageError"),
        (["paint"], 2, "UsageError"),
    ],
)
def test_json_tells_what_stderr_tells(
    nstx: Nstx, arguments: list[str], code: int, kind: str
) -> None:
    got, out, err = nstx(*arguments, "--json")
    fields = json.loads(out)
    assert got == code
    assert fields["error"] == {"kind": kind, "message": err[13:-1], "exit_code": code}
    assert fields["command"] == ["nstx", *arguments, "--json"]
    assert fields["version"]


def test_a_switch_of_the_environment_asks_for_json_too(
    nstx: Nstx, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NSTX_JSON", "1")
    assert json.loads(nstx("optimize", "a", "b", "-o", "c.png")[1])["error"]["exit_code"] == 3
    monkeypatch.delenv("NSTX_JSON")
    assert nstx("model", "--", "--json")[1] == ""


def test_a_command_that_did_a_part_prints_one_object(
    nstx: Nstx, save_picture: Callable[..., Path]
) -> None:
    picture, broken = save_picture("a.png"), save_picture("b.png")
    broken.write_bytes(b"none")
    code, out, err = nstx(
        "precompute", "--content", picture, broken, "--size", 32, "--json", "--scales", 1
    )
    fields = json.loads(out)
    assert code == fields["error"]["exit_code"] == 3
    assert [item["error"] is None for item in fields["pictures"]] == [True, False]
    assert fields["error"]["message"] in err


@pytest.mark.parametrize(
    ("environment", "arguments", "message"),
    [
        (
            {"NSTX_SIZE": "big"},
            ["optimize", "a", "b"],
            "a whole number for NSTX_SIZE, got 'big'; try",
        ),
        ({"NSTX_TV_WEIGHT": "x" * 99}, [*EVALUATE], "a number for NSTX_TV_WEIGHT, got 'xxx"),
        (
            {"NSTX_NO_CACHE": "perhaps"},
            [*EVALUATE],
            "true or false for NSTX_NO_CACHE, got 'perhaps'",
        ),
        ({"NSTX_WIDTH": "3"}, ["model"], "pixels for NSTX_WIDTH, got 3; try NSTX_WIDTH=512"),
        ({"NSTX_WIDTH": "3"}, ["model", "--width", "5"], "as width, got 5; try --width 512"),
        ({}, ["model", "--size=\x1b[2J"], "--size, got '\\x1b[2J'; try"),
        ({}, ["model", "--size", "9" * 5000], "--size, got"),
        ({"NSTX_DEVICE": "gpu"}, [*OPTIMIZE], "for NSTX_DEVICE, got 'gpu'; try cuda"),
        ({"NSTX_EXTRACTOR": "onx"}, [*OPTIMIZE], "torch for NSTX_EXTRACTOR, got 'onx'; try onnx"),
        ({"NSTX_LEARNING_RATE": "0"}, [*OPTIMIZE], "got 0.0; try NSTX_LEARNING_RATE=2"),
        ({"NSTX_STYLE_WEIGHT": "nan"}, [*EVALUATE], "got nan; try NSTX_STYLE_WEIGHT=1.0"),
        ({"NSTX_SCALES": "many"}, [*OPTIMIZE], "for NSTX_SCALES, got 'many'; try NSTX_SCALES=auto"),
        ({"NSTX_SIZE": "64", "NSTX_SAVE_EVERY": "0"}, [*OPTIMIZE], "try NSTX_SAVE_EVERY=10"),
        ({}, ["model", "--sise", "9"], "an option of nstx model, got '--sise'; try --size"),
        ({}, ["modle"], "a command of nstx, got 'modle'; try model"),
        ({}, ["cache", "verfy"], "a command of nstx cache, got 'verfy'; try verify"),
        ({}, ["help"], "got 'help'; try 'nstx --help'"),
        ({}, ["a'b"], "expected a command of nstx, got \"a'b\"; try 'nstx --help'"),
        ({}, [""], "expected a command of nstx, got ''; try 'nstx --help'"),
        ({}, ["export", "featurs"], "a command of nstx export, got 'featurs'; try features"),
        ({}, ["model", "-z'"], "an option of nstx model, got '-z'; try 'nstx model --help'"),
        (
            {},
            ["cache", "--a b'"],
            "an option of nstx cache, got \"--a b'\"; try 'nstx cache --help'",
        ),
        ({}, ["evaluate", "a", "--content"], "a value for --content, got none; try --help"),
        ({}, ["optimize", "a", "b", "-o"], "a value for -o, got none; try --help"),
        ({}, ["model", "--json=1"], "--json without a value, got one"),
        ({}, ["compare"], "expected CONTENT, got none; try 'nstx compare --help'"),
        ({}, ["features", "a"], "expected --output, got none; try"),
        (
            {},
            ["model", "a", "b"],
            "expected another command line of nstx model, got: unexpected extra",
        ),
        ({}, ["model", "--pooling", "ag"], "try avg"),
        ({}, ["cache", "ls", "--kind", "target"], "try targets"),
        ({}, ["export", "gradient", "-o", "g.onnx", "--adam", "--costs-only"], "; try"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(
    nstx: Nstx,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    arguments: list[str],
    message: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    code, _, err = nstx(*arguments)
    assert code == 2
    assert message in err
    assert len(err) < 300
    assert err[:-1].isprintable()


def test_a_wrong_value_of_the_configuration_is_named_with_its_file(
    nstx: Nstx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nstx.toml").write_text("width = 3\n")
    assert "16 … 65535 pixels for width in nstx.toml, got 3; try width = 512" in nstx("model")[2]
    Path("nstx.toml").write_text("[model]\nuntil = 'conv9_1'\nwidth = 64")
    assert "for until in nstx.toml, got 'conv9_1'; try" in nstx("model")[2]
    Path("broken.png").write_bytes(b"none")
    Path("nstx.toml").write_text("[precompute]\ncontent = ['broken.png']\n")
    assert "for content in nstx.toml, got" in nstx("precompute", "--size", 32)[2]
    Path("nstx.toml").write_text("[precompute]\nstyle = ['no.png']\n")
    assert "at no.png for style in nstx.toml, got" in nstx("precompute", "--size", 32)[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "{}", "{}", "-o", "o", "--init", "content,noize"], "got 'noize'; try noise"),
        (["compare", "{}", "{}", "-o", "o", "--init", "content,no.png"], "picture at no.png, got"),
        (["bench", "optimize", "no.png", "{}"], "a picture at no.png, got: No such file"),
    ],
)
def test_a_picture_that_is_not_there_is_an_error_before_any_work(
    nstx: Nstx, save_picture: Callable[..., Path], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path, arguments: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    picture = save_picture("a.png")
    code, out, err = nstx(*(word.replace("{}", str(picture)) for word in arguments))
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert message in err
    assert not Path("o").exists()


@pytest.mark.parametrize(
    ("environment", "configuration", "options", "message"),
    [
        ({"NSTX_DEVICE": "cuda:999"}, "", [], "for NSTX_DEVICE, got none that loads"),
        ({"NSTX_DEVICE": "cuda:999"}, "", [], "; try NSTX_DEVICE=cpu, or 'nstx doctor'"),
        ({}, "device = 'cuda:999'", [], "for device in nstx.toml, got none that loads"),
        ({}, "device = 'cuda:999'", [], "; try device = \"cpu\", or 'nstx doctor'"),
        ({}, "device = 'cuda:999'", ["--device", "cuda:99"], "on device 99, got none"),
        ({}, "device = 'mps'", ["--device", "cuda:99"], "; try --device cpu, or 'nstx doctor'"),
        ({"NSTX_WEIGHTS": "no.pth"}, "", [], "at no.pth for NSTX_WEIGHTS, got: No such file"),
        ({"NSTX_WEIGHTS": "no.pth"}, "", [], "; try NSTX_WEIGHTS=embedded"),
        ({}, "style-layers = ['conv9_1']", [], "for style-layers in nstx.toml, got 'conv9_1'"),
        ({}, "precision = 'fp8'", [], "for precision in nstx.toml, got 'fp8'; try fp32"),
    ],
)
def test_what_cannot_be_is_named_with_its_place_and_in_its_words(
    nstx: Nstx, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    environment: dict[str, str], configuration: str, options: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    toml = f"[export.gradient]\n{configuration}" if "precision" in configuration else configuration
    Path("nstx.toml").write_text(toml)
    assert message in nstx("export", "gradient", "-o", "g.onnx", *options)[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("optimize|{}|b|-o|c.png", "expected a picture at {}, got: No such file or directory; try"),
        ("optimize|b.png|{}:0|-o|c.png", "got '{}:0'; try '{}:1'\n"),
        ("optimize|b.png|b.png|-o|{}.no", "got '{}.no'; try '{}.png'\n"),
        ("precompute|--content|{}", "expected a picture or a folder at {}, got: No such"),
    ],
)
@pytest.mark.parametrize("name", ["a --size 5", "a, got --size 5; try --size 7", "a; try --size 7"])
def test_what_a_user_names_stays_as_it_is_named(
    nstx: Nstx, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, save_picture: Callable[..., Path],
    arguments: str, message: str, name: str,
) -> None:  # fmt: skip
    save_picture("b.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NSTX_SIZE", "600")
    assert message.replace("{}", name) in nstx(*arguments.replace("{}", name).split("|"))[2]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    ("arguments", "redirection", "code", "lines"),
    [
        ("--version", ">/dev/full", 7, 1),
        ("model --help", ">/dev/full", 7, 1),
        ("--help", ">&- 2>&-", 0, 0),
        ("--version", "2>/dev/full | true", 0, 0),
        ("model --nope --json", ">/dev/full", 2, 1),
        ("model --nope", "2>&-", 2, 0),
    ],
)
def test_streams_that_take_nothing_are_no_traceback(
    arguments: str, redirection: str, code: int, lines: int
) -> None:
    command = f"{sys.executable} -m nstx {arguments} {redirection}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (code, lines)


HOSTILE = "a\x1b[2J\x9b\u202e\x07[red]:smile:\nnstx: saved b\r\udc80.png"
"""A file's name with orders for terminals, markup, and a line of its own."""


def _checked(out: str, err: str) -> None:
    for text in (out, err):
        assert text.replace("\n", "").isprintable()
        assert not any(line.startswith("nstx: saved") for line in text.splitlines())


@pytest.fixture
def hostile_folder(
    tmp_path: Path, save_picture: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_picture("a.png", 24, 32).rename(tmp_path / HOSTILE)
    save_picture("b.png", 32, 24)
    monkeypatch.chdir(tmp_path)


NAMED = {
    "optimize b.png {0}:2 -o c{0}": 0,
    "optimize b.png {0} --init {0} -o {0}": 7,
    "optimize b.png b.png --init no{0} -o c.png": 3,
    "optimize b.png b.png --weights {0} -o c.png": 6,
    "optimize b.png b.png --targets {0} -o c.png": 2,
    "optimize b.png b.png --preset {0} -o c.png": 2,
    "optimize b.png b.png --device {0} -o c.png": 2,
    "optimize b.png b.png --solver {0} -o c.png": 2,
    "optimize b.png b.png --style-layers {0} -o c.png": 2,
    "optimize b.png b.png --scales {0} -o c.png": 2,
    "optimize b.png b.png --report {0} -o c.png": 2,
    "optimize b.png b.png --steps {0} -o c.png": 2,
    "optimize b.png b.png -o c.png --animate {0}": 7,
    "optimize b.png b.png -o c.png --trace {0}": 7,
    "optimize b.png b.png -o c.png --{0}": 2,
    "optimize --targets {0} -o c.png": 2,
    "compare {0} no{0} -o o --init noise,{0}": 3,
    "compare b.png {0} -o {0}": 7,
    "compare b.png {0} -o o --steps {0}": 2,
    "evaluate {0} --content b.png --style {0}": 0,
    "evaluate b.png --content no{0} --style b.png": 3,
    "features no{0} -o o": 3,
    "features b.png -o {0}": 7,
    "features b.png -o o --model {0}": 9,
    "features b.png -o o --layers {0}": 2,
    "precompute --content {0} --style no{0}": 3,
    "precompute --content {0} --style b.png -o t{0}": 7,
    "model --until {0}": 2,
    "model --rounding {0}": 2,
    "export features -o {0}": 7,
    "export features -o g.onnx --input {0}": 2,
    "export gradient -o g{0} --precision {0}": 7,
    "bench features --sizes {0}": 2,
    "bench gradient --variants {0}": 2,
    "bench optimize {0} b.png --variants {0}": 2,
    "cache ls --kind {0}": 2,
    "cache prune --max-size {0}": 2,
    "cache prune --older-than {0}": 2,
    "{0}": 2,
}


@pytest.mark.skipif(sys.platform != "linux", reason="these names are Linux's")
@pytest.mark.usefixtures("hostile_folder")
@pytest.mark.parametrize("command", NAMED)
def test_no_name_gives_a_terminal_orders(nstx: Nstx, command: str) -> None:
    words = [word.format(HOSTILE) for word in command.split()]
    small = (
        ["--size", 32]
        if words[0] in ("optimize", "precompute") and "--targets" not in words
        else []
    )
    small += ["--steps", 1] if words[0] == "optimize" and "--steps" not in words else []
    code, out, err = nstx(*words, *small)
    _checked(out, err)
    assert code == NAMED[command], err


@pytest.mark.usefixtures("hostile_folder")
def test_json_has_names_as_they_are(nstx: Nstx) -> None:
    _, out, _ = nstx("evaluate", HOSTILE, "--content", "b.png", "--style", "b.png", "--json")
    assert json.loads(out)["image"] == HOSTILE
    assert out.count("\n") == 1
    assert out[:-1].isprintable()


def test_a_terminal_that_moves_gets_no_orders_either(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Console, "animated", True)
    console = Console(as_json=False, quiet=False)
    with console.working(HOSTILE):
        console.warn(HOSTILE)
    with console.counting(HOSTILE, 1) as advance:
        advance(HOSTILE)
        console.report("text")
    out, err = capsys.readouterr()
    assert "\x9b" not in out + err
    assert "[2J" in err.replace("\ufffd", "")
    assert "\x1b[2J" not in err
    assert "[red]:smile:" in err


def test_descriptions_get_printable_texts_alone(capsys: pytest.CaptureFixture[str]) -> None:
    data: dict[str, Any] = {"a": ["x\ny", {"b\r": ("\x1b",)}], "n": 1}
    seen: list[dict[str, Any]] = []

    def describe(shown: dict[str, Any]) -> str:
        seen.append(shown)
        return "done"

    Console(as_json=False, quiet=False).result(data, describe)
    assert seen == [{"a": ["x\ufffdy", {"b\ufffd": ("\ufffd",)}], "n": 1}]
    assert capsys.readouterr().out == "done\n"


def test_two_sides_in_the_place_of_one_are_named_by_their_options(nstx: Nstx) -> None:
    code, _, err = nstx("optimize", "a.png", "b.png", "-o", "c.png", "--size", "96x64")
    assert code == 2
    assert err.rstrip().endswith("got '96x64'; try --width 96 --height 64")


def test_a_third_picture_that_is_not_there_may_be_the_output(nstx: Nstx, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    out = tmp_path / "out.png"
    err = nstx("optimize", tmp_path / "a.png", tmp_path / "b.png", out)[2]
    assert err.rstrip().endswith(f"got none; try -o {out}")
    for others in ((), (tmp_path / "b.png",), (tmp_path / "out",)):
        err = nstx("optimize", tmp_path / "a.png", tmp_path / "b.png", *others)[2]
        assert err.rstrip().endswith("got none; try -o out.png")
