"""What memory of a CUDA device a run is counted to take, and the tiles that are chosen so that it fits."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from devices import ON_CUDA
from pictures import random_pixels

import nstx
from nstx.engine.choices import choose_settings
from nstx.engine.devices.device import Device
from nstx.engine.devices.memory import free_on, is_exhausted
from nstx.engine.gradients.choice import BackendChoice, with_regions
from nstx.engine.planning import fitting
from nstx.engine.planning.device_memory import device_needed
from nstx.engine.planning.fitting import MARGIN, fit_settings
from nstx.engine.planning.memory_model import Load, activation_bytes, load_of
from nstx.engine.settings import Settings

GIB = 1 << 30
CUDA = Device("cuda", 0)
BF16 = BackendChoice("torch", CUDA, "bf16")
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "cuda-h200.json"
LARGE = (3000, 4000)


def load(size: tuple[int, int] = LARGE, choice: BackendChoice = BF16, **choices: Any) -> Load:
    return load_of(choose_settings(size=max(size), **choices), size, choice)


def test_what_is_counted_is_what_was_measured() -> None:
    # Evaluations alone: the solver was not there.
    rows = json.loads(RESULTS.read_text())["tiles_bf16_4096"]["rows"]
    size = (4096, 4096)
    for row in rows:
        solver = 0 if row["tile"] else 400 * 4096**2
        counted = device_needed(replace(load(size), tile=row["tile"]), BF16) - solver
        assert counted / GIB == pytest.approx(row["peak_gib"], rel=0.03)


def test_precisions_checks_and_regions_count() -> None:
    small, large = load(LARGE), load((6000, 4000))
    pixels = 3000 * 4000
    kept = activation_bytes(small.objective.layers)
    assert device_needed(large, BF16) > 1.95 * device_needed(small, BF16)
    checked, tf32 = replace(BF16, largest_error=0.2), replace(BF16, precision="tf32")
    for choice, more in ((checked, kept), (tf32, kept / 2), (with_regions(BF16, 2), 2 * 64 + 16)):
        needed = device_needed(load(choice=choice), choice)
        assert needed - device_needed(small, BF16) == pytest.approx(more * pixels, rel=0.02)
    by_tiles = replace(small, tile=512)
    # By tiles one at a time, as large as in tf32 but for weights.
    assert 0 < device_needed(by_tiles, checked) - device_needed(by_tiles, tf32) < 160 << 20
    by_max = load(LARGE, pooling="max")
    assert device_needed(by_max, BF16) == device_needed(small, BF16)
    assert device_needed(by_max, tf32) - device_needed(small, tf32) == 8 * 30 * pixels
    assert device_needed(load(solver="adam"), BF16) < device_needed(small, BF16)


def test_the_largest_tiles_are_taken_that_a_device_holds(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 100 * GIB
    monkeypatch.setattr(fitting, "free_on", lambda device: free)
    settings = choose_settings(size=4000)

    def fit(choice: BackendChoice = BF16, settings: Settings = settings) -> int | None:
        return fit_settings(settings, LARGE, choice).tile

    assert fit() is None
    assert not caplog.messages
    whole = device_needed(load(), BF16)
    free = round(MARGIN * whole) + 1
    assert fit() is None
    free -= 2
    largest = fit()
    assert largest == 2048
    (line,) = caplog.messages
    assert line.startswith(
        "4000×3000 pixels are evaluated by tiles of 2048, with some 2.3 GiB of cuda:0's memory: "
    )
    for free in (GIB, 2 * GIB):
        tile = fit()
        assert tile is not None
        assert tile < largest
        assert MARGIN * device_needed(replace(load(), tile=tile), BF16) <= free
        assert MARGIN * device_needed(replace(load(), tile=tile + 16), BF16) > free
    # What is not predicted, named, or held by no tiles stays.
    assert fit(replace(BF16, name="onnx", precision="fp16")) is None
    assert fit(replace(BF16, device=Device("mps"))) is None
    assert fit(settings=replace(settings, tile=1024)) == 1024
    free = 0
    assert fit() is None


def test_a_small_run_asks_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(device: Device) -> int:
        raise AssertionError

    monkeypatch.setattr(fitting, "free_on", ask)
    settings = choose_settings()
    assert fit_settings(settings, (512, 512), replace(BF16, largest_error=0.2)) is settings


def test_what_pytorch_keeps_of_freed_memory_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, count in (("memory_reserved", 300), ("memory_allocated", 100)):
        monkeypatch.setattr(torch.cuda, name, lambda _, count=count: count)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1000, 5000))
    assert (free_on(CUDA), free_on(Device("cpu"))) == (1200, 0)


@pytest.mark.parametrize(
    ("message", "exhausted"),
    [
        ("CUDA out of memory. Tried to allocate 1 GiB", True),
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.", True),
        ("could not create a primitive", True),
        ("could not create a memory object\nException raised from …", True),
        ("could not create a primitive descriptor for a convolution forward propagation primitive", False),
        ("could not run", False),
    ],
)  # fmt: skip
def test_libraries_report_exhausted_memory_in_words(message: str, exhausted: bool) -> None:
    assert is_exhausted(RuntimeError(message)) is exhausted


@pytest.fixture
def ballast() -> Iterator[list[torch.Tensor]]:
    """What fills a device."""
    held = list[torch.Tensor]()
    yield held
    held.clear()
    torch.cuda.empty_cache()


@pytest.mark.parametrize("precision", ["auto", "bf16", "tf32"])
@pytest.mark.gpu
@ON_CUDA[1]
def test_on_a_device_that_is_nearly_full_tiles_are_chosen_beforehand(
    ballast: list[torch.Tensor], caplog: pytest.LogCaptureFixture, precision: Any
) -> None:
    content, style = (random_pixels(1500, 2000, seed).astype(np.uint8) for seed in (1, 2))
    choices: Any = {
        "size": 2000, "scales": 1, "steps": 3, "device": "cuda", "precision": precision, "clean": False
    }  # fmt: skip
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    nstx.stylize(content, style, **choices)
    whole = torch.cuda.max_memory_allocated() - before
    job = nstx.prepare_job(content, style, **choices)
    counted = device_needed(
        load_of(job.settings, job.sizes[-1], job.opened.choice), job.opened.choice
    )
    assert counted == pytest.approx(whole, rel=0.25)
    assert not caplog.messages
    del job
    torch.cuda.empty_cache()
    ballast.append(torch.empty(free_on(CUDA) - 2 * GIB, dtype=torch.uint8, device="cuda"))
    nstx.stylize(content, style, **choices)
    (line,) = [text for text in caplog.messages if "memory" in text]
    assert "are evaluated by tiles of" in line
