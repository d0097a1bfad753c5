"""Targets: portable files, and entries of the cache, sealed again after they were changed."""

import functools
import io
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from target_keys import KEY

from nstx.engine.cache import list_cache, verify_cache
from nstx.engine.targets.files import check_targets, read_targets, write_targets
from nstx.engine.targets.sealed_arrays import pack_arrays, read_arrays
from nstx.engine.targets.store import TargetFolder, encode_target, target_name
from nstx.engine.targets.targets import make_zero_targets
from nstx.models.layers import LayerWeight
from nstx.models.objective import Objective
from nstx.models.storage.seals import digest_arrays, digest_bytes
from nstx.models.weights.copies import OWN_FORMAT
from nstx.models.weights.load import load_weights

from .damage import STEMS, damage
from .inputs import Input
from .narrow import LAYERS, expected, state_dict
from .plain_data import change_data
from .weights import samples as weight_samples

_KEY = replace(KEY, height=20, width=24)
_GRAM = replace(_KEY, statistic="gram")
_SHA256 = "b" * 64


def _objective() -> Objective:
    layers = (LayerWeight("conv1_1", 1.0),)
    return Objective(
        content_layers=layers, style_layers=layers, pooling="avg", pool_rounding="ceil",
        content_factor=1.0, style_factor=1.0, content_weight=1.0, style_weight=1.0, tv_weight=0.0,
    )  # fmt: skip


@functools.cache
def _targets(has_alpha: bool) -> tuple[Mapping[str, NDArray[Any]], Mapping[str, Any]]:
    """Return the arrays and the description of a targets file of two scales."""
    import tempfile

    sizes = ((16, 20), (20, 24))
    alpha = np.full(sizes[-1], 9, np.uint8) if has_alpha else None
    grain = (1.0, 0.5, 1.0, 0.5, 12.0) if has_alpha else None
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "t.safetensors"
        contents = tuple(np.ones((*size, 3), np.float32) for size in sizes)
        targets = tuple(make_zero_targets(_objective(), *size) for size in sizes)
        write_targets(path, contents, targets, _objective(), _SHA256, alpha=alpha, grain=grain)
        arrays, description = read_arrays(io.BytesIO(path.read_bytes()))
    del description["seal"]
    return arrays, description


def make_targets_file(random: Random) -> Input:
    """Return a targets file: damaged, or sealed with contents that cannot be."""
    arrays, description = _targets(random.random() < 0.5)
    change, data = _change_sealed(arrays, description, random)
    return Input(change, {f"{random.choice(STEMS)}.safetensors": data})


def _change_sealed(
    arrays: Mapping[str, NDArray[Any]], description: Mapping[str, Any], random: Random
) -> tuple[str, bytes]:
    draw = random.random()
    if draw < 0.2:
        return damage(pack_arrays(arrays, description), random)
    if draw < 0.6:
        change, other = change_data(description, random)
        try:
            return f"description {change}", pack_arrays(arrays, dict(other))
        except (TypeError, ValueError):  # of what cannot be written
            return "damage", damage(pack_arrays(arrays, description), random)[1]
    change, changed = _change_arrays(arrays, random)
    return change, pack_arrays(changed, description)


def _change_arrays(
    arrays: Mapping[str, NDArray[Any]], random: Random
) -> tuple[str, dict[str, NDArray[Any]]]:
    changed, name = dict(arrays), random.choice(list(arrays))
    array = changed[name]
    change = random.choice(("drop", "name", "type", "shape", "rank", "value", "empty", "new"))
    if change == "drop":
        del changed[name]
    elif change == "name":
        names = (
            "0/pixels",
            "2/pixels",
            "alpha",
            "grain",
            "0/style/conv9_9",
            "\x1b[2J",
            "x/content/conv1_1",
        )
        changed[random.choice(names)] = changed.pop(name)
    elif change == "type":
        changed[name] = array.astype(random.choice(("f8", "f2", "i8", "u1", "?", "u2")))
    elif change == "shape":
        changed[name] = np.ascontiguousarray(array[: len(array) // 2])
    elif change == "rank":
        changed[name] = array.reshape(random.choice(((-1,), (1, *array.shape), (*array.shape, 1))))
    elif change == "value":
        value = random.choice((float("nan"), float("inf"), 1e38, -1.0))
        with np.errstate(all="ignore"):
            changed[name] = np.full(array.shape, value, np.float32)
    elif change == "empty":
        changed[name] = np.zeros((0, *array.shape[1:]), array.dtype)
    else:
        changed[random.choice(("new", "3/pixels", "alpha", "grain"))] = np.ones((3, 3), np.uint8)
    return f"{change} of {name}", changed


def read_targets_file(path: Path) -> None:
    """Read a targets file, and check what is accepted."""
    saved = read_targets(path)
    check_targets(saved, saved.objective, saved.weights_sha256)
    asdict(saved.objective)
    assert saved.contents
    for pixels, targets in zip(saved.contents, saved.targets, strict=True):
        assert pixels.dtype == np.float32
        assert pixels.shape == (targets.height, targets.width, 3)
        for array in (pixels, *targets.content.values(), *targets.style.values()):
            assert array.dtype == np.float32
            assert np.isfinite(array).all()
    assert saved.alpha is None or saved.alpha.dtype == np.uint8
    assert saved.alpha is None or saved.alpha.shape == saved.contents[-1].shape[:2]


def make_entry(random: Random) -> Input:
    """Return a cache folder with an entry of targets that is of another kind than its name says."""
    key = random.choice((_KEY, _GRAM))
    value = np.ones((64, 64) if key is _GRAM else (64, 20, 24), np.float32)
    arrays, description = read_arrays(io.BytesIO(encode_target(key, value, "a.png")))
    del description["seal"]
    change, data = _change_sealed(arrays, description, random)
    return Input(change, {f"targets/{target_name(key)}": data})


def read_entry(path: Path) -> None:
    """Look up the entry, list and verify the folder."""
    os.environ["NSTX_CACHE_DIR"] = str(path.parent.parent)
    entries = list_cache()
    verify_cache(entries, lambda entry: None)
    folder = TargetFolder()
    for key in (_KEY, _GRAM):
        value = folder.read(key)
        if value is not None:
            assert value.dtype == np.float32
            assert value.shape == ((64, 64) if key is _GRAM else (64, 20, 24))


def make_copy(random: Random) -> Input:
    """Return a cache folder with a copy of weights whose checksum is right, and its source."""
    source = random.choice([data for name, data in weight_samples().items() if name[-4:] == ".pth"])
    arrays, change = dict(state_dict([layer.name for layer in LAYERS], is_bgr=False)), "none"
    changed: dict[str, NDArray[Any]] = dict(arrays)
    if random.random() < 0.7:
        change, changed = _change_arrays(arrays, random)
    mean = np.array([1, 2, 3], np.float64)
    digest = digest_arrays({**changed, "mean": mean})
    metadata = {"format": OWN_FORMAT, "mean": "[1, 2, 3]", "digest": digest}
    if random.random() < 0.3:
        metadata["mean"] = random.choice(
            ("[]", "[NaN, 1, 2]", "3", "[1, 2, 1e400]", "[" * 9999, "{}")
        )
    from safetensors.numpy import save

    data = save(changed, metadata=metadata)
    if random.random() < 0.2:
        change, data = damage(data, random)
    return Input(change, {"w.pth": source, f"weights/{digest_bytes(source)}.safetensors": data})


def read_copy(path: Path) -> None:
    """Load weights that the cache seems to have, and verify the folder."""
    os.environ["NSTX_CACHE_DIR"] = str(path.parent)
    with expected():
        verify_cache(list_cache(), lambda entry: None)
        weights = load_weights(path)
    for layer in LAYERS:
        kernel, bias = weights.kernels[layer.name], weights.biases[layer.name]
        assert kernel.dtype == bias.dtype == np.float32
        assert np.isfinite(kernel).all()
        assert np.isfinite(bias).all()
        assert kernel.shape == (layer.channels, layer.in_channels, 3, 3)
