"""How far the ONNX gradient is from autograd in float64, and how far autograd in float32 is.

python benchmarks/gradient_exactness.py CONTENT… --style STYLE… [--sizes 300x400,211x317] [--json FILE]

All contents are one batch, each with its style, and the start is the content with noise (σ = 10) added.
Errors are ‖ours − float64‖ / ‖float64‖ of each picture; with the hundredth of the pixels that differ
most left out as well, because an activation within rounding of a kink (ReLU, maximum) moves one
receptive field and no more.
"""

import argparse
import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from nstx import read_image
from nstx.engine.devices.device import Device
from nstx.engine.devices.machine import describe_machine, package_versions
from nstx.engine.devices.torch_device import TorchDevice, TorchPrecision
from nstx.engine.features.torch_network import TorchExtractor, TorchNetwork
from nstx.engine.gradients.torch_gradient import AutogradBackend
from nstx.engine.pictures.picture import Picture, Pixels
from nstx.engine.pictures.resizing import resize_picture
from nstx.engine.targets.targets import Targets, make_targets
from nstx.export.graphs.build_gradient import build_gradient_model
from nstx.export.graphs.gradient_graph import GradientGraph
from nstx.models.objective import Objective
from nstx.models.presets import PRESETS
from nstx.models.vgg19 import Pooling
from nstx.models.weights.load import Weights, load_weights


def errors(ours: NDArray[Any], exact: NDArray[np.float64]) -> dict[str, float]:
    """Return the relative error of a gradient, and that without the worst hundredth of pixels."""
    square = ((ours - exact) ** 2).sum(axis=2).ravel()
    kept = np.sort(square)[: int(square.size * 0.99)]
    norm = np.linalg.norm(exact)
    return {"all": float(np.sqrt(square.sum()) / norm), "99%": float(np.sqrt(kept.sum()) / norm)}


def by_torch(
    objective: Objective,
    weights: Weights,
    precision: TorchPrecision,
    pictures: Sequence[Pixels],
    targets: Sequence[Targets],
) -> list[NDArray[np.float64]]:
    """Return the gradient of each picture by autograd."""
    device = TorchDevice(Device("cpu"), precision)
    network = TorchNetwork(
        weights, objective.layers, objective.pooling, objective.pool_rounding, device
    )
    backends = [AutogradBackend(network, [(objective, target)]) for target in targets]
    pairs = zip(backends, pictures, strict=True)
    return [np.array(backend.cost_and_gradient(pixels)[1], np.float64) for backend, pixels in pairs]


def by_onnx(
    objective: Objective, weights: Weights, pictures: Sequence[Pixels], targets: Sequence[Targets]
) -> NDArray[np.float32]:
    """Return the gradients of all pictures, as one batch."""
    model = build_gradient_model(GradientGraph(objective=objective), weights)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    feeds = {"pixels": np.stack(pictures)}
    for name in ("content_weight", "style_weight", "tv_weight"):
        feeds[name] = np.full(len(pictures), getattr(objective, name), np.float32)
    for kind in ("content", "style"):
        for name in getattr(objective, f"{kind}_names"):
            arrays = [getattr(target, kind)[name] for target in targets]
            feeds[f"{kind}_{name}"] = np.stack(arrays).astype(np.float32)
    gradients: NDArray[np.float32] = session.run(["gradient"], feeds)[0]
    return gradients


def measure(
    objective: Objective,
    weights: Weights,
    contents: Sequence[Picture],
    styles: Sequence[Picture],
    size: tuple[int, int],
) -> dict[str, list[dict[str, float]]]:
    """Return the errors of each picture by each way."""
    device = TorchDevice(Device("cpu"), "fp64")
    network = TorchNetwork(
        weights, objective.layers, objective.pooling, objective.pool_rounding, device
    )
    extract = TorchExtractor(network).extract
    pictures, targets = [], []
    for seed, (content, style) in enumerate(zip(contents, styles, strict=True)):
        pixels = resize_picture(content, *size)
        noise = np.random.default_rng(seed).normal(0, 10, pixels.shape)
        pictures.append((pixels + noise).clip(0, 255).astype(np.float32))
        activations = extract(pixels, objective.content_names, []).activations
        grams = extract(resize_picture(style, *size), [], objective.style_names).grams
        targets.append(make_targets(size, activations, [(grams, 1.0)]))
    exact = by_torch(objective, weights, "fp64", pictures, targets)
    ways: dict[str, Sequence[NDArray[Any]]] = {
        "onnx": list(by_onnx(objective, weights, pictures, targets)),
        "torch_fp32": by_torch(objective, weights, "fp32", pictures, targets),
    }
    return {
        name: [errors(a, b) for a, b in zip(gradients, exact, strict=True)]
        for name, gradients in ways.items()
    }


def main() -> None:
    """Measure every preset with both poolings, print a table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("contents", type=Path, nargs="+")
    parser.add_argument("--style", dest="styles", type=Path, nargs="+", required=True)
    parser.add_argument("--sizes", default="300x400,211x317")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    weights = load_weights()
    contents, styles = (
        [read_image(path) for path in paths] for paths in (chosen.contents, chosen.styles)
    )
    rows = []
    for size in chosen.sizes.split(","):
        height, width = map(int, size.split("x"))
        for preset, pooling in itertools.product(PRESETS, get_args(Pooling)):
            objective = replace(PRESETS[preset].objective, pooling=pooling)
            ways = measure(objective, weights, contents, styles, (height, width))
            rows.append(
                {"height": height, "width": width, "preset": preset, "pooling": pooling, **ways}
            )
            shown = [
                f"{way} "
                + ", ".join(f"{error['all']:.1e} ({error['99%']:.1e})" for error in of_way)
                for way, of_way in ways.items()
            ]
            print(f"{width}×{height} {preset} {pooling}: {'; '.join(shown)}", flush=True)
    if chosen.json is not None:
        data = {"machine": describe_machine(), "packages": package_versions(), "rows": rows}
        chosen.json.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
