from dataclasses import replace
from typing import Any

import pytest

from nstx.engine.choices import choose_settings
from nstx.models.errors import UsageError
from nstx.models.layers import LayerWeight, parse_layers
from nstx.models.presets import PRESETS, find_preset

COURSERA = PRESETS["coursera"].objective


def test_coursera_is_the_assignment() -> None:
    preset = PRESETS["coursera"]
    assert [item.layer for item in COURSERA.style_layers] == [
        "conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1",
    ]  # fmt: skip
    assert {item.weight for item in COURSERA.style_layers} == {0.2}
    assert COURSERA.content_layers == (LayerWeight("conv4_2", 1.0),)
    assert (COURSERA.content_weight, COURSERA.style_weight, COURSERA.tv_weight) == (10, 40, 0)
    assert (COURSERA.pooling, COURSERA.pool_rounding) == ("avg", "ceil")
    assert (preset.solver, preset.learning_rate, preset.init) == ("adam", 2.0, "blend")
    assert (preset.clip, preset.scales) == (False, 1)


@pytest.mark.parametrize("name", ["bold", "fine"])
def test_looks_differ_from_the_default_in_their_objective_alone(name: str) -> None:
    usual, look = PRESETS["default"], PRESETS[name]
    assert replace(look, name="default", objective=usual.objective) == usual
    assert look.clean
    assert look.objective != usual.objective


def test_looks_are_bolder_or_finer() -> None:
    usual, bold, fine = (PRESETS[name].objective for name in ("default", "bold", "fine"))
    assert bold.content_weight < usual.content_weight < fine.content_weight
    assert (usual.pooling, bold.pooling, fine.pooling) == ("avg", "max", "avg")
    assert [item.layer for item in fine.style_layers] == [
        "conv1_1", "conv2_1", "conv3_1", "conv4_1",
    ]  # fmt: skip
    assert sum(item.weight for item in fine.style_layers) == pytest.approx(1)


def test_gatys_weighs_layers_by_their_channels() -> None:
    gatys = PRESETS["gatys"].objective
    assert gatys.style_layers[0] == LayerWeight("conv1_1", 1e3 / 64**2)
    assert gatys.style_layers[-1] == LayerWeight("conv5_1", 1e3 / 512**2)
    assert (gatys.pooling, gatys.pool_rounding) == ("max", "floor")


def test_layers_without_a_weight_get_the_rule_of_the_preset() -> None:
    assert parse_layers("relu1_1, conv3_1:2", "equal") == (
        LayerWeight("conv1_1", 0.5),
        LayerWeight("conv3_1", 2.0),
    )
    (layer,) = parse_layers("conv2_1", "inverse_channels_squared")
    assert layer.weight == 1e3 / 128**2


def test_objective_names_the_layers_that_it_needs_and_no_others() -> None:
    assert COURSERA.layers == ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv4_2", "conv5_1")
    style_only = replace(COURSERA, content_weight=0.0)
    assert "conv4_2" not in style_only.layers
    content_only = replace(COURSERA, style_weight=0.0)
    assert content_only.layers == ("conv4_2",)
    assert content_only.network[-1].name == "conv4_2"


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"content_weight": -1.0}, "content weight"),
        ({"style_weight": float("nan")}, "style weight"),
        ({"tv_weight": float("inf")}, "tv weight"),
        ({"style_layers": "conv1_1,conv1_1"}, "once"),
        ({"style_layers": "conv1_1:-2"}, "weight for style layer"),
        ({"style_layers": "conv1_1:x"}, "number after the colon"),
        ({"style_layers": ","}, "expected layers"),
        ({"content_layers": "pool3"}, "convolution"),
        ({"content_layers": "conv9_9"}, "conv9_9"),
        ({"pooling": "median"}, "median"),
        ({"content_weight": 0.0, "style_weight": 0.0}, "at least one"),
        ({"steps": 0}, "steps"),
        ({"learning_rate": 0.0}, "learning rate"),
        ({"scales": 0}, "scales"),
        ({"threads": 0}, "threads"),
        ({"seed": -1}, "seed"),
        ({"style_scale": -0.5}, "style scale"),
        ({"solver": "sgd"}, "sgd"),
        ({"backend": "tf"}, "tf"),
        ({"colour": 1}, "colour"),
    ],
)
def test_impossible_choices_are_refused_with_their_name(
    choices: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        choose_settings("coursera", **choices)
    assert str(caught.value).startswith("expected")


def test_unknown_preset_is_refused() -> None:
    with pytest.raises(UsageError, match="impressionist"):
        find_preset("impressionist")


def test_lbfgs_is_bounded_even_where_the_presets_adam_is_not() -> None:
    assert not choose_settings("coursera").clip
    assert not choose_settings("coursera", solver="adam").clip
    assert choose_settings("coursera", solver="lbfgs").clip
    assert not choose_settings("coursera", solver="lbfgs", clip=False).clip


def test_a_picture_as_start_turns_the_coarse_scales_off_unless_they_are_asked_for() -> None:
    assert choose_settings().scales is None
    assert choose_settings(init="start.png").scales == 1
    assert choose_settings(init="start.png", auto_scales=True).scales is None
    assert choose_settings("coursera", auto_scales=True).scales is None
