"""No command connects to anything or starts a program, but for those that docs/architecture.md names."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import PATIENCE

# Watched in a process of its own, because a hook cannot be taken off again. What would start a program is
# stopped there, so that it takes no time.
_WATCHED = """\
import contextlib, io, json, sys
sys.modules["matplotlib"] = sys.modules["av"] = None  # which take long
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from fuzz.watch import Watch
from nstx.cli.app import run
watch, watched = Watch(), []
def refuse(event, values):
    if watch.is_on and event == "subprocess.Popen":
        raise RuntimeError
sys.addaudithook(refuse)
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["nstx", *arguments]
    watch.begin(Path("/"))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = run()
    watched.append([code, watch.end()])
print(json.dumps(watched))
"""

_LITTLE = "--content-layers conv1_1 --style-layers conv1_1"
WITHOUT = (
    "model",
    "cache ls",
    "cache verify",
    f"optimize a.png b.png -o out.png --size 32 --steps 1 {_LITTLE} --backend torch --no-cache",
    f"compare a.png b.png -o folder --size 32 --steps 1 {_LITTLE}",
    f"evaluate out.png --content a.png --style b.png {_LITTLE}",
    "features a.png -o f.png --size 32 --layers conv1_1",
    f"precompute --content a.png --style b.png --size 32 {_LITTLE}",
    "export features -o e.onnx --layers conv1_1",
    "doctor",
)
WITH = (
    "bench gradient --sizes 32 --rounds 1",
    f"batch --content a.png --style b.png -o many --size 32 --steps 1 {_LITTLE}",
    "optimize a.png b.png -o other.png --weights w.mat",
)


@pytest.mark.skipif(sys.platform == "win32", reason="the paths of the watched process are POSIX's")
def test_no_command_connects_or_starts_a_program_but_those_that_say_so(
    tmp_path: Path, save_picture: Callable[..., Path]
) -> None:
    save_picture("a.png", 32, 32, 1)
    save_picture("b.png", 32, 32, 2)
    (tmp_path / "w.mat").write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + bytes(72))
    lines = json.dumps([line.split() for line in (*WITHOUT, *WITH)])
    done = subprocess.run(
        [sys.executable, "-c", _WATCHED, lines, Path(__file__).parent],
        cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    watched = dict(zip((*WITHOUT, *WITH), json.loads(done.stdout.splitlines()[-1]), strict=True))
    for line in WITHOUT:
        assert watched[line] == [0, []]
    for line in WITH:
        code, events = watched[line]
        assert code != 0  # it was stopped
        assert events
        assert all(
            event.startswith(f"child: subprocess.Popen ('{sys.executable}'") for event in events
        )
