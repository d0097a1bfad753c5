import pytest

from nstx.models.errors import UsageError
from nstx.models.vgg19 import CONVOLUTIONS, LAYERS, find_layer, flops_per_pixel, truncate

# The listing of the assignment, 400×300 with SAME pooling.
LISTING = {
    "conv1_1": (300, 400, 64),
    "pool1": (150, 200, 64),
    "conv2_2": (150, 200, 128),
    "pool2": (75, 100, 128),
    "conv3_4": (75, 100, 256),
    "pool3": (38, 50, 256),
    "conv4_2": (38, 50, 512),
    "pool4": (19, 25, 512),
    "conv5_4": (19, 25, 512),
    "pool5": (10, 13, 512),
}


@pytest.mark.parametrize(("name", "shape"), LISTING.items())
def test_layer_shapes_are_those_of_the_assignment(name: str, shape: tuple[int, int, int]) -> None:
    layer = find_layer(name)
    assert (*layer.output_size(300, 400, "ceil"), layer.channels) == shape


def test_floor_rounding_drops_the_odd_row() -> None:
    assert find_layer("pool3").output_size(75 * 4, 100 * 4, "floor") == (37, 50)


def test_table_has_sixteen_convolutions_and_five_poolings() -> None:
    assert len(CONVOLUTIONS) == 16
    assert [layer.name for layer in LAYERS if layer.kind == "pool"] == [
        f"pool{block}" for block in range(1, 6)
    ]


def test_flops_and_receptive_field_at_conv5_1() -> None:
    layers = truncate(["conv1_1", "conv5_1"])
    assert layers[-1].name == "conv5_1"
    assert flops_per_pixel(layers) == 722_304
    assert layers[-1].receptive_field == 156
    assert layers[-1].stride == 16


@pytest.mark.parametrize("name", ["relu4_2", "conv4_2", " Conv4_2 ", "RELU4_2"])
def test_relu_and_conv_name_the_same_activation(name: str) -> None:
    assert find_layer(name).name == "conv4_2"


@pytest.mark.parametrize("name", ["conv6_1", "conv3_5", "relu", "", "fc6"])
def test_unknown_layer_is_refused_by_name(name: str) -> None:
    with pytest.raises(UsageError, match="nstx model"):
        find_layer(name)


def test_truncating_at_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one layer"):
        truncate([])
