"""The exported gradient in another runtime: onnxruntime-web (WebAssembly) under Node."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from networks import make_tiny_weights, relative_error
from pictures import random_pixels
from processes import PATIENCE

from nstx.export.graphs.build_gradient import build_gradient_model
from nstx.export.graphs.gradient_graph import GradientGraph
from nstx.models.presets import PRESETS
from nstx.models.reference.features import reference_features, reference_gram
from nstx.models.reference.gradient import reference_gradient
from nstx.models.vgg19 import Pooling, PoolRounding

PACKAGE = "onnxruntime-web@1.30.0"
SCRIPT = Path(__file__).parents[1] / "examples" / "gradient.mjs"


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the script and onnxruntime-web."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node is not installed")
    folder = tmp_path_factory.mktemp("node")
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", PACKAGE]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not install {PACKAGE} within two minutes")
    if done.returncode:
        pytest.skip(f"npm cannot install {PACKAGE}: {done.stderr.strip()[-200:]}")
    shutil.copy(SCRIPT, folder)
    return folder


@pytest.mark.parametrize(
    ("preset", "pooling", "rounding"), [("default", "avg", "ceil"), ("gatys", "max", "floor")]
)
def test_webassembly_gives_the_same_gradient(
    node_folder: Path, tmp_path: Path, preset: str, pooling: Pooling, rounding: PoolRounding
) -> None:
    weights = make_tiny_weights()
    objective = replace(
        PRESETS[preset].objective, pooling=pooling, pool_rounding=rounding, tv_weight=0.01
    )
    graph = GradientGraph(objective=objective)
    model = build_gradient_model(graph, weights).SerializeToString()
    (tmp_path / "g.onnx").write_bytes(model)
    pixels = random_pixels(35, 42, 1)
    features = [
        reference_features(
            weights, random_pixels(35, 42, seed), objective.layers, pooling, rounding
        )
        for seed in (2, 3)
    ]
    content = {name: features[0][name] for name in objective.content_names}
    style = {name: reference_gram(features[1][name]) for name in objective.style_names}
    feeds: dict[str, np.ndarray] = {"pixels": pixels}
    for name in ("content_weight", "style_weight", "tv_weight"):
        feeds[name] = np.array(getattr(objective, name))
    feeds |= {f"content_{name}": value for name, value in content.items()}
    feeds |= {f"style_{name}": value for name, value in style.items()}
    feeds = {name: np.asarray(value, np.float32)[None] for name, value in feeds.items()}
    (tmp_path / "in.json").write_text(
        json.dumps({n: {"dims": v.shape, "data": v.ravel().tolist()} for n, v in feeds.items()})
    )
    arguments = [str(tmp_path / name) for name in ("g.onnx", "in.json", "out.json")]
    done = subprocess.run(
        ["node", "gradient.mjs", *arguments],
        cwd=node_folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outputs = json.loads((tmp_path / "out.json").read_text())
    assert set(outputs) == set(graph.outputs)
    gradient = np.array(outputs["gradient"]["data"]).reshape(outputs["gradient"]["dims"])[0]
    cost, expected = reference_gradient(objective, weights, pixels, content, style)
    assert relative_error(gradient, expected) < 5e-4
    assert outputs["total"]["data"][0] == pytest.approx(cost.total, rel=1e-4)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (native,) = session.run(["gradient"], feeds)
    assert relative_error(gradient, native[0]) < 1e-4
