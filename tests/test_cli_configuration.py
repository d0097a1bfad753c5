"""The configuration file and environment variables: what is taken, and how the rest is refused."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Nstx = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def refuse(nstx: Nstx) -> Callable[[bytes], str]:
    """Return a function that runs a command with a configuration, which is refused in one line."""

    def run(content: bytes) -> str:
        Path("nstx.toml").write_bytes(content)
        began = time.process_time()
        code, out, err = nstx("model")
        assert time.process_time() - began < 5
        assert (code, out) == (2, "")
        assert err.startswith("nstx: error: expected ")
        assert err.count("\n") == 1
        assert len(err) < 400
        assert err[:-1].isprintable()
        return err

    return run


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"size = ", "TOML in nstx.toml, got: Invalid value (at end of document)"),
        (b"tv-weight = 1\ntv_weight = 1", "once in nstx.toml, got 'tv-weight' and 'tv_weight'; try"),
        (b"[optimize]\nsave_every = 1\nsave-every = 2", "got 'save_every' and 'save-every'; try"),
        (b"colour = 1", "options in nstx.toml, got 'colour'"),
        (b"sise = 1", "got 'sise'; try size"),
        (b"[model]\nuntill = 1", "got 'model.untill'; try until"),
        (b"[paint]\nsize = 1", "got 'paint'"),
        (b"'\\e[2J\\n' = 1", "got"),
        (b'"\\u001b[2J" = 1', "got"),
        (b"[export]\nsize = 1", "got 'export.size'"),
        (b"size = true", "a whole number for size in nstx.toml, got true; try 800"),
        (b"size = [1]", "for size in nstx.toml, got [1]"),
        (b"size = \"800\"", "for size in nstx.toml, got '800'"),
        (b"[optimize]\nsize = 1.5", "for optimize.size in nstx.toml, got 1.5"),
        (b"size = {a = 1}", "got a table"),
        (b"size = 1979-05-27", "a date or a time"),
        (b"tv-weight = true", "a number for tv-weight in nstx.toml, got true"),
        (b"json = 1", "true or false for json in nstx.toml, got 1"),
        (b"weights = [\"a\", \"b\"]", "text for weights in nstx.toml, got ['a', 'b']"),
        (b"weights = false", "text for weights in nstx.toml, got false"),
        (b"trace = 3", "a path for trace in nstx.toml, got 3"),
        (b"style-layers = [[1]]", "text or a list of them for style-layers in nstx.toml, got [[1]]"),
        (b"style-layers = [true]", "nstx.toml, got [true]"),
        (b"size = 512\n[model]\nwidth = 30", "size in nstx.toml, or else width in nstx.toml, got both"),
        (b"size = 0x" + b"f" * 5000, "got a very large number"),
        (b"tv-weight = 0x" + b"f" * 5000, "got a very large number"),
        (b"size = " + b"9" * 900_000, "digits"),
        (b"size = " + b"[" * 100_000, "too deep"),
        (b"size = " + b"[" * 5000 + b"]" * 5000, "too deep"),
        (b"a = " + b"{a = " * 5000 + b"1" + b"}" * 5000, "too deep"),
        (b"[" + b"a." * 100_000 + b"a]", "a key of more than 8 levels"),
        (b"a" + b" . a" * 100_000 + b" = 1", "a key of more than 8 levels"),
        (b"a" + b".'a'" * 100_000 + b" = 1", "a key of more than 8 levels"),
        (b'a = {a' + b'."\\""' * 100_000 + b" = 1}", "a key of more than 8 levels"),
        (b'a = "' + b'\\"' * 200_000, "TOML"),
        (b'a = """' + b'\\"""' * 200_000, "TOML"),
        (b"size = 48\nsize = 64\n", "TOML"),
        (b"# \xe9\nsize = 48", "no UTF-8 (at line 1)"),
        (b"size = 48\n\nweights = '\xe9'", "no UTF-8 (at line 3)"),
        ("size = 48".encode("utf-16"), "UTF-16"),
        (b"\xfe\xff\0s", "UTF-16"),
        ("size = 48".encode("utf-16-le"), "TOML"),
        (b"size = 48\0", "TOML"),
        (b"weights = 'a\x1b[2J'", "TOML"),
        (b"#" * (2**20 + 1), "at most 1 MiB"),
    ],
)  # fmt: skip
def test_a_wrong_configuration_is_one_line(
    refuse: Callable[[bytes], str], content: bytes, message: str
) -> None:
    assert message in refuse(content)


def _options(nstx: Nstx) -> dict[str, Any]:
    code, out, err = nstx("model", "--json")
    assert (code, err) == (0, "")
    fields: dict[str, Any] = json.loads(out)
    return fields


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfsize = 48",
        b"size = 48\r\n",
        b"[model]\nsize = 48",
        b"size = 0x30 # a.b.c.d.e.f.g.h.i.j.k",
        b"size = 48\n[optimize]\nweights = 'a.b.c.d.e.f.g.h.i.j.k'",
        b"size = 48\n[optimize]\nstyle-layers = ['conv1_1', 'conv2_1:0.5']",
        b"size = 48\n[bench.features]\nsizes = [256, 512]",
        b"size = 48\n[evaluate]\nstyle = ['a.png', 'b.png:2']\ntv-weight = 1",
    ],
)
def test_a_configuration_is_taken_as_editors_save_it(nstx: Nstx, content: bytes) -> None:
    Path("nstx.toml").write_bytes(content)
    assert _options(nstx)["width"] == 48


def test_a_list_in_a_configuration_is_what_commas_separate(
    nstx: Nstx, save_picture: Callable[..., Path]
) -> None:
    picture = save_picture("a.png", 32, 40)
    Path("nstx.toml").write_text(
        "style-layers = ['conv1_1', 'conv2_1:0.5']\n[evaluate]\nstyle = 'a.png'\n"
    )
    code, out, err = nstx("evaluate", picture, "--content", picture, "--json")
    assert (code, err) == (0, "")
    assert list(json.loads(out)["cost"]["style_layers"]) == ["conv1_1", "conv2_1"]


def test_what_is_no_file_is_told_and_not_passed_over(
    nstx: Nstx, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("nstx.toml").mkdir()
    os.mkfifo("fifo")
    for named, kind in (
        (None, "a folder"),
        ("fifo", "a FIFO"),
        ("/dev/zero", "a device"),
        ("no", "No such"),
    ):
        if named is not None:
            monkeypatch.setenv("NSTX_CONFIG", named)
        code, _, err = nstx("model")
        assert code == 2
        assert f"{named or 'nstx.toml'}, got" in err
        assert kind in err
        assert ("unsetting NSTX_CONFIG" in err) == (named is not None)
    monkeypatch.delenv("NSTX_CONFIG")
    Path("nstx.toml").rmdir()
    Path("nstx.toml").symlink_to("nothing")
    assert "No such file" in nstx("model")[2]


def test_variables_that_nothing_reads_are_told_once(
    nstx: Nstx, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "NSTX_SISE",
        "NSTX_\x1bPAINT",
        "NSTX_SIZE",
        "NSTX_LEARNING_RATE",
        "NSTX_TEST_DATA",
        "NSTX_OUTPUT",
    ):
        monkeypatch.setenv(name, "48")
    code, out, err = nstx("model", "--json")
    assert code == 0
    assert err.splitlines() == [f"nstx: warning: {text}" for text in json.loads(out)["warnings"]]
    unknown, far, sise = err.splitlines()
    assert far.endswith("reads the environment variable NSTX_OUTPUT"), "nothing is near"
    assert sise.endswith("reads the environment variable NSTX_SISE; did you mean NSTX_SIZE?")
    assert "NSTX_\ufffdPAINT" in unknown


@pytest.mark.parametrize("arguments", [["cache", "ls"], ["cache", "verify"], ["cache", "prune"]])
def test_commands_without_settings_go_on_beside_a_wrong_configuration(
    nstx: Nstx, arguments: list[str]
) -> None:
    Path("nstx.toml").write_text("size = ")
    code, out, err = nstx(*arguments, "--json")
    assert code == 0
    (warning,) = json.loads(out)["warnings"]
    assert err == f"nstx: warning: {warning}\n"
    assert warning.startswith("the configuration is not used: expected TOML in nstx.toml, got")
    assert nstx("--version")[0] == nstx("model", "--help")[0] == 0
    assert nstx("model")[0] == 2
    code, _, err = nstx("export")
    assert (code, "nstx: error" in err) == (2, False)
