"""Calls of the public names with what they do not take: an error of nstx in one line, and no work."""

import types
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

import nstx
from nstx.models.arguments import check_type
from nstx.models.errors import NstxError, UsageError

PUBLIC: list[str] = vars(nstx)["__all__"]
TINY: dict[str, Any] = {
    "size": 32, "steps": 1, "style_layers": "conv1_1", "content_layers": "conv1_2", "device": "cpu",
}  # fmt: skip
RESULTS = {
    "Artefacts", "AskedJob", "BatchStep", "Cost", "ExtractedFeatures", "Job", "Made", "ParityReport", "PrecisionCheck", "RemoteEvent",
    "RemoteJob", "RemoteResult", "Result", "Step",
}  # fmt: skip
"""What the library makes and callers read."""


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Right arguments of every public name that has some; no run makes a step."""
    folder = tmp_path_factory.mktemp("calls")
    photo, targets = str(folder / "p.png"), str(folder / "t.safetensors")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 40, 3), np.uint8)).save(photo)
    settings = nstx.choose_settings(**TINY)
    job, weights = nstx.prepare_job(photo, photo, settings), nstx.load_weights()
    sha256, layer = weights.sha256, nstx.LayerWeight("conv1_1", 1.0)
    nstx.write_targets(targets, job.contents, job.targets, settings.objective, sha256)
    pictures = {"content": photo, "styles": photo, "settings": settings, "preset": "default"}
    following = {"on_step": None, "should_stop": lambda: True}
    kept = {"checkpoint": str(folder / "k"), "checkpoint_every": 5.0}
    return {
        "stylize": {**pictures, "init": None, **following, **kept},
        "prepare_job": {**pictures, "init": None, "like": job},
        "prepare_job_from_targets": {"saved": nstx.read_targets(targets), "settings": settings},
        "run_job": {"job": job, "costs": None, **following, **kept},
        "resume": {"folder": str(folder / "k"), **following, "checkpoint_every": 5.0},
        "run_batch": {"jobs": [job], **following},
        "ask_job": {"content": photo, "styles": photo, "output": "a.png", "settings": settings},
        "stylize_all": {
            "jobs": [nstx.ask_job(photo, photo, "a.png", settings)], "output": str(folder / "b"),
            "workers": 1, "batch": None, "executor": "local", "attempts": 3, **following,
        },
        "evaluate_picture": {"picture": photo, **pictures},
        "measure_artefacts": {"picture": photo, **pictures},
        "extract_features": {"picture": photo, "layers": "conv1_1", "grams": "conv1_1", "size": 32},
        "open_extractor": {"choices": nstx.Extraction(), "layers": ["conv1_1"], "weights": weights},
        "read_image": {"path": photo, "trusted": False},
        "read_targets": {"path": targets},
        "write_targets": {
            "path": targets, "contents": job.contents, "targets": job.targets,
            "objective": settings.objective, "weights_sha256": sha256,
        },
        "write_image": {"path": str(folder / "o.png"), "picture": np.zeros((9, 9, 3), np.uint8)},
        "write_feature_sheets": {"folder": str(folder / "f"), "activations": {}, "strongest": 4},
        "load_weights": {"source": "embedded", "preprocessing": "published", "use_cache": True},
        "choose_settings": {"preset": "default", "auto_scales": False, **TINY},
        "export_features": {
            "path": str(folder / "m.onnx"), "graph": nstx.FeatureGraph(activations=("conv1_1",)),
            "weights": weights, "pictures": np.zeros((1, 16, 16, 3), np.uint8),
        },
        "Client": {"server": "http://127.0.0.1:9", "token": None, "patience": 1.0},
        "Extraction": {"extractor": "auto", "pooling": None, "weights": None, "threads": None},
        "FeatureGraph": {"activations": ("conv1_1",), "grams": (), "pooling": "avg"},
        "LayerWeight": {"layer": "conv1_1", "weight": 1.0},
        "Objective": {
            "content_layers": (layer,), "style_layers": (layer,), "content_weight": 1.0,
            "style_weight": 1.0, "pooling": "avg", "pool_rounding": "ceil", "relative": False,
        },
        "Picture": {"pixels": np.zeros((9, 9, 3), np.uint8), "alpha": None, "path": "a"},
        "Settings": {name: getattr(settings, name) for name in settings.__dataclass_fields__},
        "Weights": {name: getattr(weights, name) for name in weights.__dataclass_fields__},
    }  # fmt: skip


def test_every_name_is_tried(calls: dict[str, dict[str, Any]]) -> None:
    errors = {name for name in PUBLIC if name.endswith("Error")}
    assert set(PUBLIC) - errors - RESULTS == set(calls)


NAMES = [name for name in PUBLIC if not name.endswith("Error") and name not in RESULTS]


@pytest.mark.parametrize("name", sorted({*NAMES} - {"LayerWeight"}))
def test_every_argument_is_checked_before_any_work(
    calls: dict[str, dict[str, Any]], name: str
) -> None:
    function: Any = getattr(nstx, name)
    for argument in calls[name]:
        with pytest.raises(NstxError, match=r"^expected .* got .*; try ") as caught:
            function(**calls[name] | {argument: object()})
        assert str(caught.value).isprintable()


def test_a_message_says_what_is_taken_and_what_to_try(calls: dict[str, dict[str, Any]]) -> None:
    function: Any
    for function, wrong, message in (
        (nstx.run_job, {"job": None}, "expected a Job as job, got None; try prepare_job"),
        (nstx.stylize, {"on_step": 3}, "a function or None as on step, got 3; try on_step=None"),
        (
            nstx.stylize,
            {"content": 3},
            "a string, a path, a Picture, an array or an image of Pillow",
        ),
        (
            nstx.stylize,
            {"preset": 3},
            "expected 'default', .*, 'gatys', a Preset or a string as pre",
        ),
        (nstx.write_targets, {"targets": [3]}, "a list of Targets as targets, got 3 in it; try"),
        (nstx.load_weights, {"source": 3}, "expected a string or a path as source, got 3; try"),
        (nstx.run_batch, {"jobs": [3]}, "a list of Jobs or a generator as jobs, got 3 in it; try"),
        (nstx.read_image, {"trusted": "no"}, "True or False as trusted, got 'no'; try trusted=F"),
        (nstx.load_weights, {"preprocessing": "x"}, "'published' or 'unit_rgb' as prep"),
        (nstx.stylize, {"styles": ("s.png", 2.0)}, r"try \[\('painting.jpg', 2\)\]"),
    ):
        with pytest.raises(UsageError, match=message):
            function(**calls[function.__name__] | wrong)


def test_arguments_that_do_not_fit_together_are_refused(
    calls: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    wrong: dict[str, Any]
    sheets: Any = nstx.write_feature_sheets
    for wrong in (
        {"activations": {"../x": np.ones((2, 4, 4), np.float32)}},
        {"activations": {"conv1_1": np.ones(3, np.float32)}},
        {"strongest": 0},
        {"folder": "a\0b"},
    ):
        with pytest.raises(NstxError, match="expected"):
            sheets(**calls["write_feature_sheets"] | wrong)
    right = calls["write_targets"] | {"path": tmp_path / "t.safetensors"}
    for wrong in (
        {"contents": ()},
        {"contents": (), "targets": ()},
        {"contents": right["targets"], "targets": right["contents"]},
        {"objective": nstx.choose_settings().objective},
        {"weights_sha256": "x"},
        {"preset": "codera"},
        {"alpha": np.zeros((3, 3), np.uint8)},
    ):
        with pytest.raises(UsageError, match="expected"):
            nstx.write_targets(**right | wrong)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UsageError, match="batch, height, width"):
        nstx.export_features(**calls["export_features"] | {"pictures": np.zeros((9, 9), np.uint8)})


def test_jobs_and_costs_take_the_forms_of_stylize(calls: dict[str, dict[str, Any]]) -> None:
    photo = calls["read_image"]["path"]
    pixels = nstx.read_image(photo).pixels
    job = nstx.prepare_job(photo, photo, **TINY, init=255 - pixels)
    settings = nstx.choose_settings(**TINY)
    assert job.settings == nstx.choose_settings(**TINY, scales=1)
    np.testing.assert_array_equal(
        nstx.prepare_job(photo, photo, settings, init=pixels).start(0), job.contents[0]
    )
    assert [(item.role, item.path) for item in job.inputs][-1] == ("init", "an array")
    assert job.start(0).mean() == pytest.approx(255 - job.contents[0].mean(), abs=1)
    saved = calls["prepare_job_from_targets"]["saved"]
    with pytest.raises(UsageError, match="without sizes, as they have their own, got size; try"):
        nstx.prepare_job_from_targets(saved, size=64)
    unsized: Any = {name: value for name, value in TINY.items() if name != "size"}
    again = nstx.prepare_job_from_targets(saved, **unsized)
    np.testing.assert_array_equal(again.contents[0], job.contents[0])
    layers: Any = {"style_layers": "conv1_1", "content_layers": "conv1_2"}
    cost = nstx.evaluate_picture(photo, photo, photo, **layers)
    assert cost.content == 0
    assert cost == nstx.evaluate_picture(photo, photo, photo, nstx.choose_settings(**layers))


class Alias:
    """What the statement ``type NDArray[T] = ndarray[…]`` makes, from Python 3.12 on."""

    __value__: Any = np.ndarray[tuple[int, ...], np.dtype[np.float32]]

    def __class_getitem__(cls, item: object) -> Any:
        return types.GenericAlias(cls, (item,))


@pytest.mark.parametrize(
    "hint", [Alias, Alias.__class_getitem__(int), Alias.__class_getitem__(int) | None]
)
def test_a_name_for_a_type_is_looked_through(hint: Any) -> None:
    """NumPy 2.5 has such a name for arrays."""
    array = np.zeros(3, np.float32)
    assert check_type("pixels", array, hint, "help(nstx)") is array
    expected = (
        "expected an array or None" if get_args(hint)[-1:] == (type(None),) else "expected an array"
    )
    Alias.__value__, real = Any, Alias.__value__
    try:
        assert check_type("pixels", 3, Alias, "help(nstx)") == 3
    finally:
        Alias.__value__ = real
    with pytest.raises(UsageError, match=f"^{expected} as pixels, got 3; try help"):
        check_type("pixels", 3, hint, "help(nstx)")
