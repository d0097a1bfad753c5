"""Settings from Python: what a call accepts, and what it says of values that cannot be."""

import math
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nstx.engine.choices import Choices, choose_settings
from nstx.engine.settings import Settings
from nstx.models.errors import UsageError
from nstx.models.layers import LayerWeight
from nstx.models.objective import Objective
from nstx.models.presets import PRESETS, find_preset

NONSENSE: tuple[Any, ...] = (
    True, -1, 12.5, math.nan, math.inf, 10**5000, "big", "\x1b[2J", b"1", [], [3], {}, object(), 1j,
    np.array([1, 2]), np.bool_(True), np.float32("nan"),
)  # fmt: skip


def test_choices_are_the_settings_but_for_the_preset_and_with_the_objectives_own() -> None:
    names = {field.name for field in fields(Settings)} - {"preset", "objective"}
    of_objective = {field.name for field in fields(Objective)} & Choices.__annotations__.keys()
    assert len(of_objective) == 7
    # The statistic becomes part of the style layers.
    assert Choices.__annotations__.keys() == names | of_objective | {"style_statistic"}


@pytest.mark.parametrize(
    ("choices", "got", "remedy"),
    [
        ({"size": "big"}, "'big'", "try size=512"),
        ({"size": True}, "True", "try size=512"),
        ({"size": 12.5}, "12.5", "try size=512"),
        ({"size": 10**5000}, "a very large number", ""),
        ({"width": [3]}, "a value of type list", "try width=512"),
        ({"steps": "many"}, "'many'", "try steps=1"),
        ({"steps": -3}, "-3", "try steps=1"),
        ({"steps": 10**5000}, "a very large number", "try steps=1"),
        ({"learning_rate": "fast"}, "'fast'", "try learning_rate=1.0"),
        ({"learning_rate": math.inf}, "inf", "try learning_rate=1.0"),
        ({"content_weight": math.nan}, "nan", "try content_weight=1.0"),
        ({"style_weight": "1"}, "'1'", "try style_weight=1.0"),
        ({"tv_weight": 1e31}, "1e+31", "try the preset's"),
        ({"device": "gpu"}, "'gpu'", "try cuda"),
        ({"device": "cuda:x"}, "'cuda:x'", "try cuda:0"),
        ({"device": 0}, "0", "try auto"),
        ({"solver": "adm"}, "'adm'", "try adam"),
        ({"backend": "ONNX"}, "'ONNX'", "try onnx"),
        ({"pooling": 2}, "2", "try avg"),
        ({"clip": "no"}, "'no'", "try clip=True"),
        ({"clip": 1}, "1", "try clip=True"),
        ({"seed": 1.0}, "1.0", "try seed=0"),
        ({"init": 3}, "3", "try init='content'"),
        ({"init": np.zeros((8, 8, 3))}, "a value of type ndarray", "try init='content'"),
        ({"weights": None, "threads": "all"}, "'all'", "try threads=1"),
        ({"content_layers": 4}, "4", "'conv1_1,conv4_2:0.5'"),
        ({"style_layers": ["conv1_1", 2]}, "a value of type list", "'conv1_1,conv4_2:0.5'"),
        ({"siez": 3}, "siez", "try size"),
        ({"style_wieght": 3}, "style_wieght", "try style_weight"),
    ],
)
def test_a_wrong_value_is_named_with_what_to_try(
    choices: dict[str, Any], got: str, remedy: str
) -> None:
    with pytest.raises(UsageError) as caught:
        choose_settings(**choices)
    message = str(caught.value)
    assert message.startswith("expected ")
    assert f"got {got}" in message
    assert remedy in message
    assert len(message) < 500


@pytest.mark.parametrize("weight", ["-1", "1e31", "nan"])
def test_a_wrong_weight_is_named_with_its_layer(weight: str) -> None:
    with pytest.raises(UsageError, match=r"weight for style layer conv2_1[, ]") as caught:
        choose_settings(style_layers=f"conv1_1,conv2_1:{weight}")
    assert caught.value.setting == "style_layers"


def test_a_mistyped_preset_is_told_from_its_neighbours() -> None:
    with pytest.raises(UsageError, match="got 'codera'; try coursera"):
        choose_settings("codera")
    with pytest.raises(UsageError, match="got 3; try default"):
        find_preset(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(Choices.__annotations__))
def test_nonsense_is_refused_by_name_and_never_by_another_error(name: str) -> None:
    messages = []
    for value in NONSENSE:
        try:
            settings = choose_settings(**{name: value})
        except UsageError as error:
            messages.append(str(error))
        else:
            assert settings == replace(settings)
            assert repr(settings)
    assert all(message.isprintable() for message in messages)
    assert len(messages) > len(NONSENSE) // 2


@pytest.mark.parametrize("field", [field.name for field in fields(Settings)])
def test_settings_themselves_and_their_copies_are_checked(field: str) -> None:
    wrong: dict[str, Any] = {field: object()}
    with pytest.raises(UsageError, match="object"):
        replace(choose_settings(), **wrong)


@pytest.mark.parametrize("field", [field.name for field in fields(Objective)])
def test_objectives_and_their_copies_are_checked(field: str) -> None:
    wrong: dict[str, Any] = {field: object()}
    with pytest.raises(UsageError, match="object"):
        replace(PRESETS["default"].objective, **wrong)


def test_layers_of_an_objective_are_checked_one_by_one() -> None:
    objective = PRESETS["default"].objective
    layers: Any
    for layers in ("conv4_2", ["conv4_2"], (("conv4_2", 1.0),)):
        with pytest.raises(UsageError, match="LayerWeights"):
            replace(objective, content_layers=layers)
    wrong: Any
    for wrong in (LayerWeight(3, 1.0), LayerWeight("conv4_2", "1")):  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=r"got (3|'1')"):
            replace(objective, content_layers=(wrong,))


def test_numbers_of_numpy_and_paths_become_pythons_own() -> None:
    numbers: dict[str, Any] = {
        "size": np.int64(64), "steps": np.uint8(7), "seed": np.array(3), "clip": np.bool_(False),
        "style_weight": np.float32(0.5), "content_weight": 2, "tv_weight": Fraction(1, 4),
    }  # fmt: skip
    settings = choose_settings(
        **numbers, init=Path("start.png"), weights=Path("w.pth"),
        style_layers=["conv1_1", "relu2_1:3"],
    )  # fmt: skip
    plain = choose_settings(
        size=64, steps=7, seed=3, style_weight=0.5, content_weight=2.0, tv_weight=0.25, clip=False,
        init="start.png", weights="w.pth", style_layers="conv1_1,relu2_1:3",
    )  # fmt: skip
    assert settings == plain
    assert repr(settings) == repr(plain)
