"""Command lines and configurations, of real options with values that they hardly take."""

import contextlib
import functools
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import typer.main

from nstx.cli.app import app, run
from nstx.cli.grouped import command_options
from nstx.engine.settings import INITS
from nstx.models.errors import NstxError
from nstx.models.presets import PRESETS

from .damage import damage, number
from .inputs import Input

CODES = (0, 1, 2, 3, 4, 6, 7, 8, 9, 10)
_PICTURES = ("missing.png", "text.jpg", "small.png", "folder", "", "-x", "a:b", "\udcff.jpg")
_OUTPUTS = (
    "out.png", "out.npy", "out.JPG", "out.xyz", "missing/out.png", "folder", ".", "", "/dev/full",
    "text.jpg", "a" * 300 + ".png", "\x1b[2J.png", "out.onnx", "out.safetensors", "out.jsonl",
)  # fmt: skip
TEXTS = (
    "", " ", "big", "auto", "0", "-1", "1e3", "nan", "inf", "-inf", "1e400", "9" * 5000, "1,2", ",",
    "conv4_2", "conv4_2:0.5,conv1_1", "conv9_9", "conv1_1:x", "conv1_1:nan", "\x1b[2J", "a\nb", "é",
    "\udcff", "cpu", "cuda", "cuda:97", "fp16", "bf16", "torch", "onnx", "max", "floor", "None",
    "--json", "../..", "~nouser/x", "1GiB", "500MB", "٣", "0x10", "1_000", *INITS, *PRESETS,
)  # fmt: skip


class _RefusedError(NstxError):
    """A command that ended with another code than 0."""


@functools.cache
def _commands() -> Mapping[str, tuple[Any, Any]]:
    """Return every command by its name, with its options."""
    group: Any = typer.main.get_command(app)
    return {name: (command, command_options(command)) for name, command in group.load_all()}


def make_command(random: Random) -> Input:
    """Return a command line that ends before any work, and an environment."""
    name = random.choice(list(_commands()))
    command, _ = _commands()[name]
    arguments = [*name.split("."), *_operands(name, random)]
    for _ in range(random.choice((0, 1, 2, 2, 3, 6))):
        option = random.choice(command.params)
        arguments.append(random.choice(option.opts))
        if not getattr(option, "is_flag", False):
            arguments.append(_value(random))
    arguments += _ending(name)
    environment = {}
    if random.random() < 0.3:
        option = random.choice(command.params)
        variable = option.envvar or random.choice(("NSTX_CACHE_LIMIT", "NSTX_SZE", "NSTX_CONFIG"))
        # A variable cannot hold a NUL.
        environment[str(variable)] = _value(random).replace("\0", "")
    if random.random() < 0.1:
        random.shuffle(arguments)
        arguments += _ending(name)
    if random.random() < 0.3:
        arguments.append("--json")
    data = json.dumps({"arguments": arguments, "environment": environment}, indent=1)
    return Input(" ".join(arguments)[:80], {"command.json": data.encode(), **_FILES})


_FILES = {
    "text.jpg": b"no picture",
    "small.png": bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
        "3a7e9b550000000a49444154789c63680000008200815dd3b5de0000000049454e44ae426082"
    ),
    "folder/keep": b"",
}


def _operands(name: str, random: Random) -> Sequence[str]:
    """Return arguments of a command, among which no picture can be read."""
    pictures = [random.choice(_PICTURES) for _ in range(random.choice((1, 2, 2, 3)))]
    if random.random() < 0.2:
        pictures[-1] += random.choice((":2", ":0", ":-1", ":x", ":nan", ":", ":1:2"))
    if name in ("optimize", "compare", "evaluate", "features", "precompute"):
        return [*pictures, "-o", random.choice(_OUTPUTS)]
    if name.startswith("export"):
        return ["-o", random.choice(_OUTPUTS)]
    return []


def _ending(name: str) -> Sequence[str]:
    """Return what makes sure that a command ends early."""
    if name.startswith(("bench", "doctor")):
        return ["--no-such-option"]
    if name.startswith("export"):
        return ["--weights", "missing.pth"]
    return []


def _value(random: Random) -> str:
    draw = random.random()
    if draw < 0.5:
        return random.choice(TEXTS)
    if draw < 0.7:
        return str(random.choice((-1, 1)) * number(random))
    if draw < 0.8:
        return str(random.choice((-1, 1)) * random.random() * 10 ** random.randrange(-320, 308))
    return random.choice((*_PICTURES, *_OUTPUTS))


def run_command(path: Path) -> None:
    """Run a command line in this process, in its folder, and check how it ends."""
    data = json.loads(path.read_text())
    _run(path.parent, data["arguments"], data["environment"])


def make_toml(random: Random) -> Input:
    """Return a configuration with real options, odd values, and sometimes damage."""
    lines = []
    tables = [None, *_commands(), "optimise", "export", "a.b.c"]
    for table in random.sample(tables, random.choice((1, 1, 2, 3))):
        if table is not None:
            lines.append(f"[{table}]")
        command, _ = _commands().get(str(table), _commands()["optimize"])
        for _ in range(random.choice((0, 1, 2, 4))):
            key = random.choice(command.params).opts[0].lstrip("-")
            lines.append(f"{random.choice((key, key, key, _key(random)))} = {_toml(random)}")
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    change = " ".join(lines)[:60]
    draw = random.random()
    if draw < 0.2:
        change, data = damage(data, random)
    elif draw < 0.25:
        change, data = "BOM", random.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\0")) + data
    return Input(change, {"nstx.toml": data, **_FILES})


def _key(random: Random) -> str:
    return random.choice(
        (
            "size",
            "siez",
            '""',
            '"\\u001b[2J"',
            "a.b",
            ".".join(["a"] * 20_000),
            "weights",
            "é",
            "json",
        )
    )


def _toml(random: Random) -> str:
    return random.choice(
        (
            str(number(random)), f"-{number(random)}", "1e400", "nan", "-inf", "true", "9" * 5000,
            "1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", '"text"', '"\\u001b[2J"', '"\\ud800"',
            "'''a\nb'''", "[" * 3000, "[" * 90 + "]" * 90, "{a = 1}", "[1, [2, 'x']]", "0xFF", "[]",
            f'"{random.choice(("auto", "cpu", "noise", "conv1_1,conv4_2", "fp16", "missing.pth"))}"',
            '["conv1_1", "conv2_1:0.5"]', "1_000", "{a = {b = {c = 1}}}", '"""', "0.5", "800",
        )
    )  # fmt: skip


def read_configuration(path: Path) -> None:
    """Run a command that takes the configuration, and ends early."""
    _run(path.parent, ["optimize", "missing.png", "text.jpg", "-o", "out.png"], {})


def _run(folder: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    for name in [name for name in os.environ if name.startswith("NSTX_")]:
        del os.environ[name]
    os.environ.update({"NSTX_CACHE_DIR": str(folder / "cache"), **environment})
    os.environ["XDG_CONFIG_HOME"] = str(folder)
    with _captured(folder, arguments) as (out, err):
        code = run()
    output, errors = (bytes(stream).decode("utf-8", "replace") for stream in (out, err))
    _check_crash()
    assert code in CODES, (code, errors)
    assert "Traceback" not in errors + output, errors
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if code >= 2 and "--json" in options:
        answer = json.loads(output)
        assert answer["error"]["exit_code"] == code, output
    lines = [line for line in errors.splitlines() if line.startswith("nstx: error:")]
    assert len(lines) <= 1, errors
    if code:
        raise _RefusedError(errors)


def _check_crash() -> None:
    """Raise what a report of a crash says, in the place where it happened."""
    import tempfile

    for report in Path(tempfile.gettempdir()).glob("nstx-error-*.txt"):
        text = report.read_text(encoding="utf-8")
        report.unlink()
        raise CrashError(text)


class CrashError(Exception):
    """A report of a crash."""


@contextlib.contextmanager
def _captured(folder: Path, arguments: Sequence[str]) -> Iterator[tuple[bytearray, bytearray]]:
    """Run a block as the command line in a folder; what it has written comes when it has ended."""
    written = bytearray(), bytearray()
    before = sys.argv, sys.stdout, sys.stderr, Path.cwd()
    streams = [io.BytesIO(), io.BytesIO()]
    sys.argv = ["nstx", *arguments]
    sys.stdout, sys.stderr = (io.TextIOWrapper(stream, "utf-8") for stream in streams)
    os.chdir(folder)
    try:
        yield written
        for text, stream, part in zip((sys.stdout, sys.stderr), streams, written, strict=True):
            text.flush()
            part += stream.getvalue()
    finally:
        os.chdir(before[3])
        sys.argv, sys.stdout, sys.stderr = before[:3]
