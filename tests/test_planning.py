"""What memory a run is said to take, and what is chosen so that it fits."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import nstx
from nstx.engine.choices import choose_settings
from nstx.engine.devices.device import Device
from nstx.engine.gradients.choice import BackendChoice
from nstx.engine.planning import fitting
from nstx.engine.planning.fitting import (
    MARGIN,
    check_batch_memory,
    check_features,
    choose_plan,
    fit_settings,
    memory_limit,
)
from nstx.engine.planning.memory_model import (
    COEFFICIENTS,
    Load,
    activation_bytes,
    features_needed,
    load_of,
    memory_needed,
    way_of,
)
from nstx.engine.preparation import backends
from nstx.engine.settings import Settings
from nstx.engine.tiles.layout import TileLayout
from nstx.engine.transfer import plan
from nstx.models.errors import DeviceError, UsageError
from nstx.models.presets import PRESETS

GIB = 1 << 30
CPU = Device("cpu")
ONNX = BackendChoice("onnx", CPU, "fp32")
LARGE = Load(size=(3000, 4000), objective=PRESETS["default"].objective, way="onnx", pairs=10)


def picture(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_activations_are_counted_layer_by_layer() -> None:
    # 64 channels; then 64 more and their pooling, and 128 at half the size.
    assert activation_bytes(["conv1_1"]) == 256
    assert activation_bytes(["conv2_1"]) == 4 * (64 + 64 + 16 + 32)
    assert activation_bytes(["conv5_1"]) == 1280


@pytest.mark.parametrize(
    ("choice", "way"),
    [
        (ONNX, "onnx"),
        (BackendChoice("torch", CPU, "fp32"), "autograd"),
        (BackendChoice("torch", CPU, "bf16"), "bf16"),
        (BackendChoice("torch", CPU, "bf16", 0.25), "checked"),
    ],
)
def test_each_backend_has_its_way(choice: BackendChoice, way: str) -> None:
    assert way_of(choice) == way


def test_memory_grows_with_what_is_asked_for() -> None:
    needed = memory_needed(LARGE)
    pixels = 3000 * 4000
    assert needed > COEFFICIENTS["onnx"].base + 1280 * pixels
    assert memory_needed(replace(LARGE, pairs=0)) < needed
    assert memory_needed(replace(LARGE, batch=2)) == pytest.approx(2 * needed, rel=0.05)
    for way in COEFFICIENTS:
        several = [memory_needed(replace(LARGE, way=way, regions=count)) for count in (0, 1, 3)]
        assert several == sorted(set(several))
    detailed = replace(LARGE, objective=replace(LARGE.objective, laplacian_weight=1.0))
    assert memory_needed(detailed) > needed
    shallow = replace(LARGE, objective=PRESETS["fine"].objective)
    # 27 MiB of weights less, of which ONNX Runtime has copies, besides the activations.
    activations = activation_bytes(LARGE.objective.layers) - activation_bytes(
        shallow.objective.layers
    )
    saved = needed - memory_needed(shallow) - 2.6 * activations * pixels
    assert saved == pytest.approx(2.6 * 27 * 2**20, rel=0.02)
    by_tiles = [memory_needed(replace(LARGE, tile=tile)) for tile in (64, 256, 512, 1024, 2048)]
    assert by_tiles == sorted(by_tiles)
    assert by_tiles[-1] < needed
    # A picture that is no larger than a tile is evaluated whole.
    assert memory_needed(replace(LARGE, tile=4000)) == needed


@pytest.mark.parametrize("size", [(300, 200), (700, 90), (1000, 1001)])
def test_the_largest_tile_is_known_without_a_look_at_all(size: tuple[int, int]) -> None:
    for side in (64, 176, 512):
        layout = replace(LARGE, size=size, tile=side).layout
        if layout is not None:
            sizes = [tile.size for tile in layout.tiles]
            assert layout.largest == tuple(map(max, zip(*sizes, strict=True)))


def test_styles_count_where_they_are_larger_than_the_result() -> None:
    settings = choose_settings(size=1000)
    size = (700, 1000)
    usual = memory_needed(load_of(settings, size, ONNX))
    assert memory_needed(load_of(replace(settings, style_scale=1.1), size, ONNX)) == usual
    assert memory_needed(load_of(replace(settings, style_scale=4.0), size, ONNX)) > 2 * usual


def test_what_fits_is_evaluated_whole() -> None:
    whole = choose_plan(LARGE, 10**12)
    assert whole.tile is None
    assert choose_plan(LARGE, round(MARGIN * whole.needed) + 1).tile is None


def test_less_memory_means_smaller_tiles() -> None:
    load = replace(LARGE, size=(1500, 2000), pairs=None)
    needed = {tile: memory_needed(replace(load, tile=tile)) for tile in (1024, 512, 256)}
    limits = [round(MARGIN * bytes_) + 1 for bytes_ in needed.values()]
    plans = [choose_plan(load, limit) for limit in limits]
    tiles = [item.tile or 0 for item in plans]
    assert all(tile % 16 == 0 for tile in tiles)
    # Larger ones may be laid as these are.
    for tile, chosen, item, limit in zip(needed, tiles, plans, limits, strict=True):
        assert tile <= chosen < 1.5 * tile
        assert MARGIN * item.needed <= limit
    assert all(more > less for more, less in pairwise(tiles))


def test_a_tile_that_is_named_stays() -> None:
    assert choose_plan(replace(LARGE, tile=256), 10**12).tile == 256
    with pytest.raises(DeviceError, match="try a smaller --tile"):
        choose_plan(replace(LARGE, tile=2048), memory_needed(replace(LARGE, tile=1024)) * 5 // 4)


def test_what_cannot_fit_is_refused_with_the_size_that_would() -> None:
    load = replace(LARGE, size=(6000, 8000))
    with pytest.raises(DeviceError, match=r"fits into 2\.0 GiB of memory, got 8000×6000") as caught:
        choose_plan(load, 2 * GIB)
    side = int(str(caught.value).rpartition("--size ")[2])
    assert side < 8000
    assert choose_plan(replace(load, size=(side * 3 // 4, side)), 2 * GIB).tile is not None
    with pytest.raises(DeviceError, match="try more memory"):
        choose_plan(load, 1 << 20)


def test_256_megapixels_are_refused_at_once_or_fitted() -> None:
    huge = replace(LARGE, size=(16384, 16384), may_use_disk=True)
    with pytest.raises(
        DeviceError, match=r"got 16384×16384, which needs .* try --size \d+$"
    ) as caught:
        choose_plan(huge, 16 * GIB)
    assert "\n" not in str(caught.value)
    side = int(str(caught.value).rpartition(" ")[2])
    assert choose_plan(replace(huge, size=(side, side)), 16 * GIB).fits
    fitted = choose_plan(huge, 96 * GIB)
    assert (fitted.fits, fitted.on_disk) == (True, True)
    assert fitted.tile is not None


def test_settings_have_the_tile_that_was_chosen(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = choose_settings(size=2000, max_memory="3GiB")
    fitted = fit_settings(settings, (1500, 2000), ONNX)
    assert fitted == replace(settings, tile=fitted.tile)
    assert fitted.tile is not None
    (line,) = caplog.messages
    assert line.startswith(f"2000×1500 pixels are evaluated by tiles of {fitted.tile}, ")
    # What has a tile already says nothing more; nor does what fits.
    assert fit_settings(fitted, (1500, 2000), ONNX) == fitted
    assert fit_settings(settings, (300, 400), ONNX) == settings
    assert len(caplog.messages) == 1
    # Without a limit of one's own it is what is free.
    monkeypatch.setattr(fitting, "free_memory", lambda: 3 * GIB)
    settings = choose_settings(size=2000)
    assert 3 * GIB <= memory_limit(settings) < 3.5 * GIB
    assert fit_settings(settings, (1500, 2000), ONNX).tile is not None
    monkeypatch.setattr(fitting, "free_memory", lambda: 50 * GIB)
    assert fit_settings(settings, (1500, 2000), ONNX) == settings


def test_an_accelerator_reports_by_itself() -> None:
    choice = BackendChoice("onnx", Device("cuda", 0), "tf32")
    settings = choose_settings(size=60_000)
    assert fit_settings(settings, (60_000, 60_000), choice) == settings
    with pytest.raises(DeviceError, match="expected the CPU for a limit"):
        fit_settings(choose_settings(max_memory=10**9), (512, 512), choice)


def test_steps_go_to_disk_before_tiles_are_small(caplog: pytest.LogCaptureFixture) -> None:
    load = load_of(choose_settings(size=4000), (3000, 4000), ONNX)
    assert load.may_use_disk
    both = [memory_needed(replace(load, tile=512, on_disk=on_disk)) for on_disk in (False, True)]
    assert both[0] - both[1] > 200 * 3000 * 4000
    with_room, without = (choose_plan(load, round(MARGIN * needed) + 1) for needed in both)
    assert (with_room.on_disk, without.on_disk) == (False, True)
    assert without.tile is not None
    assert without.tile >= 512
    settings = choose_settings(size=4000, max_memory=round(MARGIN * both[1]) + 1)
    fitted = fit_settings(settings, (3000, 4000), ONNX)
    assert (fitted.tile, fitted.history) == (without.tile, "disk")
    assert "with the last steps on disk" in caplog.messages[0]
    for other in (
        replace(settings, history="memory"),
        replace(settings, tile=64, history="memory"),
    ):
        with pytest.raises(DeviceError, match="try --size"):
            fit_settings(other, (3000, 4000), ONNX)
    cuda = BackendChoice("torch", Device("cuda", 0), "tf32")
    with pytest.raises(DeviceError, match="expected the CPU, or tiles, for steps on disk"):
        fit_settings(choose_settings(history="disk"), (512, 512), cuda)
    by_tiles = choose_settings(history="disk", tile=128)
    assert fit_settings(by_tiles, (512, 512), cuda) is by_tiles


def test_another_backend_is_taken_where_one_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(settings: Settings, *_: object, **__: object) -> BackendChoice:
        if settings.backend == "onnx":
            return ONNX
        return BackendChoice("torch", CPU, "bf16", 0.25)

    monkeypatch.setattr(backends, "choose_backend", choose)
    settings, size = choose_settings(size=3000, max_memory="2GiB"), (2250, 3000)
    with pytest.raises(DeviceError):
        fit_settings(settings, size, choose(settings))
    fitted, choice = backends.fit_memory(settings, size)
    assert (fitted.backend, fitted.history, choice) == ("onnx", "disk", ONNX)
    with pytest.raises(DeviceError):
        backends.fit_memory(replace(settings, backend="torch"), size)


def test_regions_count_where_a_tile_is_chosen() -> None:
    settings, size = choose_settings(size=2000, backend="onnx", max_memory="3GiB"), (1500, 2000)
    (one, choice), (several, same) = (
        backends.fit_memory(settings, size, regions=count) for count in (0, 4)
    )
    assert choice == same
    assert choice.regions == 0
    assert one.tile is not None
    assert several.tile is not None
    assert several.tile < one.tile


def test_a_batch_and_features_are_checked() -> None:
    settings = choose_settings(size=512, max_memory="2GiB")
    check_batch_memory(settings, (512, 512), ONNX, 1)
    with pytest.raises(DeviceError, match=r"got 16 of 512×512.*try fewer pictures at once"):
        check_batch_memory(settings, (512, 512), ONNX, 16)
    check_features(settings, (512, 512), None)
    needed = features_needed(settings, (900, 900), None)
    check_features(replace(settings, max_memory=round(MARGIN * needed) + 1), (900, 900), None)
    with pytest.raises(DeviceError, match="900×900"):
        check_features(replace(settings, max_memory=round(MARGIN * needed) - 1), (900, 900), None)
    with pytest.raises(DeviceError, match="features fit into 2\\.0 GiB"):
        check_features(settings, (5000, 5000), None)


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ("4GiB", 4 << 30), ("4g", 4 * 10**9), ("4096MiB", 4 << 30), ("4GB", 4 * 10**9), ("4e9", 4 * 10**9),
        ("4000000000", 4 * 10**9), (4 * 10**9, 4 * 10**9), ("1.5 GiB", 3 << 29), ("900000K", 9 * 10**8),
        ("1T", 10**12), (np.int64(1 << 30), 1 << 30),
    ],
)  # fmt: skip
def test_memory_is_named_in_the_usual_ways(value: Any, count: int) -> None:
    assert choose_settings(max_memory=value).max_memory == count


@pytest.mark.parametrize(
    "value",
    ["4", "", "4 Gi B", "-4GiB", "4XB", "1e99", "inf", "nan", "4GiBs", "٤GiB", 10, 2**70, True, 4.5e9, "9" * 50],
)  # fmt: skip
def test_other_memory_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="max memory"):
        choose_settings(max_memory=value)


def test_a_run_is_the_same_by_the_tiles_that_a_limit_forces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = choose_settings(
        height=130, width=96, steps=2, scales=1, backend="torch", precision="fp32", device="cpu",
        extractor="torch", use_cache=False, content_layers="conv2_2", style_layers="conv1_1,conv2_1",
    )  # fmt: skip
    pictures = picture(130, 96, 0), picture(96, 96, 1)
    whole = nstx.stylize(*pictures, settings)
    limited = nstx.stylize(*pictures, replace(settings, max_memory=8 * GIB))
    assert np.array_equal(limited.pixels, whole.pixels)
    # Of pictures as small as these, tiles with their halos would take as much as the whole.
    small = {
        way: replace(item, base=0, tiled_base=0, tile=0.1, weights=0)
        for way, item in COEFFICIENTS.items()
    }
    model = "nstx.engine.planning.memory_model"
    monkeypatch.setattr(f"{model}._BUILDING", 0)
    monkeypatch.setattr(f"{model}.COEFFICIENTS", small)
    monkeypatch.setattr(f"{model}._TILES", (0, 0.1))
    monkeypatch.setattr(f"{model}._KEPT_TILES", (0, 0.1))
    torch = BackendChoice("torch", CPU, "fp32")
    needed = memory_needed(load_of(settings, (130, 96), torch))
    monkeypatch.setattr(fitting, "free_memory", lambda: 0)
    monkeypatch.setattr(fitting, "_LOADED", round(needed * 1.05))
    job = nstx.prepare_job(*pictures, settings)
    assert job.settings.tile is not None
    by_tiles = nstx.run_job(job)
    assert by_tiles.cost.total == pytest.approx(whole.cost.total, rel=1e-3)
    assert np.abs(by_tiles.pixels - whole.pixels).mean() < 0.5


def test_a_plan_has_the_time_of_each_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "calibrate", lambda *_: 2.0)
    settings = choose_settings(
        "gatys", size=1024, steps=10, backend="onnx", solver="adam", device="cpu", max_memory="1GiB"
    )
    planned = plan.plan_run((600, 800), [(500, 500)], settings)
    assert (planned.sizes, planned.steps) == (((768, 1024),), (10,))
    whole, *others = planned.rows
    assert (whole.plan.tile, whole.plan.fits, whole.chosen) == (None, False, False)
    assert whole.seconds[0] == pytest.approx(10 * 2.0 * 0.75)
    (chosen,) = [row for row in others if row.chosen]
    assert chosen.plan.fits
    assert chosen.plan.tile == choose_plan(load_of(settings, (768, 1024), ONNX), GIB).tile
    # Smaller tiles take longer, by their halos and a pass more.
    seconds = [row.seconds[0] for row in planned.rows]
    assert seconds == sorted(seconds)
    assert seconds[1] > 4 / 3 * seconds[0]
    assert planned.largest is None
    planned = plan.plan_run((600, 800), [], replace(settings, max_memory=500 << 20))
    assert not any(row.chosen for row in planned.rows)
    assert planned.largest is not None
    assert 16 < planned.largest < 1024
    monkeypatch.setattr(plan, "choose_backend", lambda *_: replace(ONNX, device=Device("mps")))
    with pytest.raises(DeviceError, match="try --device cpu"):
        plan.plan_run((600, 800), [], settings)


def test_a_plan_lays_no_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 65535 pixels squared there are a million of the smallest."""
    monkeypatch.setattr(plan, "calibrate", lambda *_: 2.0)
    monkeypatch.delattr(TileLayout, "tiles")
    settings = choose_settings(width=65535, height=65535, backend="onnx", device="cpu")
    planned = plan.plan_run((65535, 65535), [], settings)
    assert planned.rows[-1].plan.tile == 64
    assert sum(planned.rows[-1].seconds) > 120 * 2.0


def test_a_calibration_leaves_the_cache_of_targets_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NSTX_CACHE_DIR", str(tmp_path))  # which no other test writes
    monkeypatch.setattr(plan, "_SIDE", 32)
    settings = choose_settings(
        backend="torch", extractor="torch", device="cpu", tile=64, max_memory="1GiB"
    )
    assert plan.calibrate(settings, BackendChoice("torch", CPU, "fp32")) > 0
    assert not list(tmp_path.glob("targets/*"))


def test_nstx_plan_prints_a_table(
    nstx: Callable[..., tuple[int, str, str]],
    save_picture: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan, "calibrate", lambda *_: 2.0)
    photo = save_picture("photo.png", 64, 48, 0)
    options = ["--size", 800, "--device", "cpu", "--precision", "fp32", "--max-memory", "900MiB"]
    code, out, err = nstx("plan", photo, f"{photo}@conv1_1:2", *options)
    assert (code, err) == (0, "")
    head, sizes, steps, whole, *rest = out.splitlines()
    assert head.endswith("in fp32, 900 MiB of memory")
    assert sizes.split()[0] == "memory"
    assert steps.split()[-2:] == [str(PRESETS["default"].steps), "steps"]
    assert whole.startswith("whole ")
    assert whole.endswith("does not fit")
    assert sum(line.endswith("  chosen") for line in rest) == 1
    assert max(map(len, out.splitlines())) <= 80
    # Where a terminal has no room for columns by scale, lines by scale come below.
    many = nstx("plan", photo, *options, "--scales", 5)[1]
    assert max(map(len, many.splitlines())) <= 80
    assert many.splitlines()[-6].endswith(", by scales:")
    assert many.splitlines()[-1].split()[0] == "600×800"
    monkeypatch.setenv("COLUMNS", "200")
    assert "by scales" not in nstx("plan", photo, *options, "--scales", 5)[1]
    code, out, err = nstx("plan", photo, *options, "--size", 8000, "--json")
    data = json.loads(out)
    assert code == 0
    assert data["limit_bytes"] == 900 << 20
    assert [scale["steps"] for scale in data["scales"]]
    assert not any(choice["chosen"] for choice in data["choices"])
    code, out, _ = nstx("plan", photo, *options, "--size", 8000)
    assert out.splitlines()[-1] == f"nothing fits; try --size {data['largest_size']}"
