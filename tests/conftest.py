"""What the tests share: a cache of their own, a small network, pictures that are made on the spot."""

import gc
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import affinity  # noqa: F401  (first: libraries count processors when they are imported)
import checksums  # noqa: F401  (before modules that take functions from it)
import kept_files
import kernels  # noqa: F401  (before Triton is imported)
import numpy as np
import pytest
from logs import collected_messages
from pictures import random_pixels
from PIL import Image

from nstx.cli import progress
from nstx.cli.app import app
from nstx.cli.console import Pace
from nstx.cli.errors.exits import OWN_FAILURE, run_app
from nstx.engine.sessions import kept_graphs
from nstx.models.weights.load import Weights, load_weights

_RUNS = itertools.count()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Import PyTorch where tests run, all of it, before what it warns of is an error.

    Not where they are only given to other processes, which would begin that much later.
    """
    if not session.config.getoption("numprocesses", None):
        import networks  # noqa: F401


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """Let children be interrupted even where a shell has started the tests in the background, or ``nohup`` has."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests out of the user's cache and configuration."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("NSTX_")]:
            if name != "NSTX_TEST_DATA":
                patch.delenv(name)
        folder = tmp_path_factory.getbasetemp()
        if "PYTEST_XDIST_WORKER" in os.environ:
            folder = folder.parent  # the processes share what is computed once
        patch.setenv("NSTX_CACHE_DIR", str(folder / "cache"))
        kept_files.shared_cache = folder / "cache"
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        # The tests have more graphs than anybody, of which one of all layers takes seconds to build.
        patch.setattr(kept_graphs, "MOST_KEPT_BYTES", 4_000_000_000)
        yield


@pytest.fixture
def tiny_weights() -> Weights:
    """A network with VGG-19's layers and few channels."""
    from networks import make_tiny_weights

    return make_tiny_weights()


@pytest.fixture(scope="session")
def real_weights() -> Weights:
    """VGG-19's weights, as they come with the package."""
    return load_weights()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock that goes only when it is told to."""
    now = 0.0

    def tick(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now)
    return tick


@pytest.fixture
def save_picture(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that saves a random picture and returns its path."""

    def save(name: str, height: int = 60, width: int = 80, seed: int = 0) -> Path:
        path = tmp_path / name
        Image.fromarray(random_pixels(height, width, seed).astype(np.uint8)).save(path)
        return path

    return save


@pytest.fixture
def nstx(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs the command line and returns exit code, stdout and stderr."""
    # A busy machine must not add to stderr how long work takes.
    monkeypatch.setattr(Pace, "seconds", 1e6)
    monkeypatch.setattr(progress, "LONG_SECONDS", 1e6)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["nstx", *map(str, arguments)])
        code = run_app(app)
        gc.unfreeze()  # a process of many runs is to have its memory back, a hundred megabytes of each
        if next(_RUNS) % 8 == 7:
            gc.collect()
        captured = capsys.readouterr()
        if code == OWN_FAILURE:
            report = captured.err.strip().rpartition("report it with ")[2].partition("; ")[0]
            pytest.fail(Path(report).read_text(encoding="utf-8"))
        return code, captured.out, captured.err

    return run


@pytest.fixture
def logged_warnings() -> Iterator[list[str]]:
    """Warnings of the package's logger, which need not propagate."""
    with collected_messages() as messages:
        yield messages


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real pictures, named by NSTX_TEST_DATA."""
    folder = os.environ.get("NSTX_TEST_DATA")
    if not folder:
        pytest.skip("NSTX_TEST_DATA is not set: no folder of real pictures")
    return Path(folder)
