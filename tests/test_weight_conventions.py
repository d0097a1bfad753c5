"""Which input a network expects is told by its filters, whatever a file and its tensors are called."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nstx.models.errors import WeightsError
from nstx.models.weights.conventions import convert, recognise
from nstx.models.weights.entries import (
    NAMES,
    SEQUENTIAL_INDICES,
    TORCHVISION_INDICES,
    Entry,
)  # fmt: skip
from nstx.models.weights.load import Weights
from nstx.models.weights.readers import from_state_dict

Array = np.ndarray[Any, np.dtype[np.float32]]
DEVIATION = np.array([0.229, 0.224, 0.225])[:, None, None]
OXFORD = (123.68, 116.779, 103.939)
TORCHVISION = (123.675, 116.28, 103.53)


def bgr(kernel: Array) -> Array:
    return np.ascontiguousarray(kernel[:, ::-1])


def normalised(kernel: Array) -> Array:
    scaled: Array = (kernel * 255 * DEVIATION).astype(np.float32)
    return scaled


def same(kernel: Array) -> Array:
    return kernel


def entries(weights: Weights, keys: list[str], first: Callable[[Array], Array]) -> dict[str, Entry]:
    held = {}
    for name, key in zip(NAMES, keys, strict=True):
        kernel = first(weights.kernels[name]) if name == "conv1_1" else weights.kernels[name]
        for part, array in (("weight", kernel), ("bias", weights.biases[name])):
            held[f"{key}.{part}"] = Entry(array.shape, lambda array=array: array)  # type: ignore[misc]
    return held


PLACES = [str(index) for index in TORCHVISION_INDICES]


@pytest.mark.parametrize(
    "keys",
    [
        list(NAMES),
        [f"vgg.{name}" for name in NAMES],
        PLACES,
        [f"features.{place}" for place in PLACES],
        [f"module.features.{place}" for place in PLACES],
        [f"state_dict.module.features.{place}" for place in PLACES],
    ],
)
@pytest.mark.parametrize(
    ("first", "mean"), [(bgr, OXFORD), (same, OXFORD), (normalised, TORCHVISION)]
)
def test_any_name_gives_the_network_that_its_filters_show(
    real_weights: Weights,
    keys: list[str],
    first: Callable[[Array], Array],
    mean: tuple[float, float, float],
) -> None:
    loaded, found_mean = from_state_dict(entries(real_weights, keys, first), None, "w.pth")
    assert found_mean == pytest.approx(mean)
    for name in NAMES:
        np.testing.assert_allclose(loaded[f"{name}.weight"], real_weights.kernels[name], rtol=1e-6)
        np.testing.assert_array_equal(loaded[f"{name}.bias"], real_weights.biases[name])


def test_several_networks_and_other_depths_are_refused(real_weights: Weights) -> None:
    both = entries(real_weights, PLACES, bgr)
    both |= {f"ema.{name}": entry for name, entry in both.items()}
    with pytest.raises(WeightsError, match=r"got several, at the top and ema\.; try"):
        from_state_dict(both, None, "w.pth")
    shallow = dict(list(both.items())[:26])
    with pytest.raises(WeightsError, match=r"convolutions of VGG-19 .*, got 0\.bias"):
        from_state_dict(shallow, None, "w.pth")


def test_colours_that_a_sequential_network_mixes_must_fit_its_filters(
    real_weights: Weights,
) -> None:
    """Its first layer makes RGB of RGB here, whose filters are in the order of BGR."""
    network = entries(real_weights, [str(index) for index in SEQUENTIAL_INDICES], bgr)
    mixing = (255 * np.eye(3)).astype(np.float32)[:, :, None, None]
    network["0.weight"] = Entry((3, 3, 1, 1), lambda: mixing)
    network["0.bias"] = Entry((3,), lambda: -np.array(OXFORD, np.float32))
    with pytest.raises(WeightsError, match="got Oxford's filters in BGR"):
        from_state_dict(network, None, "w.pth")
    network["0.weight"] = Entry((3, 3, 1, 1), lambda: bgr(mixing))
    loaded, _ = from_state_dict(network, None, "w.pth")
    np.testing.assert_allclose(loaded["conv1_1.weight"], real_weights.kernels["conv1_1"], rtol=1e-6)
    network["0.weight"] = Entry((3, 3, 1, 1), lambda: 0 * mixing)
    with pytest.raises(ValueError, match="mixes no colours"):
        from_state_dict(network, None, "w.pth")


def first_layer(weights: Weights) -> tuple[Array, Array]:
    return weights.kernels["conv1_1"].copy(), weights.biases["conv1_1"].copy()


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_filters_are_known_after_rounding_and_normalising(
    real_weights: Weights, kind: type[np.floating[Any]]
) -> None:
    kernel, bias = first_layer(real_weights)
    factors = np.random.default_rng(0).uniform(0.01, 3, 64).astype(np.float32)
    for first, expected in ((bgr, "caffe"), (normalised, "torchvision")):
        changed = first(kernel * factors[:, None, None, None]).astype(kind).astype(np.float32)
        known = recognise(changed, (bias * factors).astype(kind).astype(np.float32))
        assert known is not None
        assert (known.training, known.convention) == ("Oxford", expected)


def test_torchvisions_own_filters_are_known() -> None:
    """Against numbers of its published file, at filters 0, 62 and 63."""
    generator = np.random.default_rng(1)
    kernel = generator.normal(0, 0.3, (64, 3, 3, 3)).astype(np.float32)
    tensors = {"conv1_1.weight": kernel, "conv1_1.bias": np.ones(64, np.float32)}
    with pytest.raises(WeightsError, match="another training"):
        convert(tensors, None, "w.pth")
    kernel[0] = np.array(
        [[-0.0535, -0.0493, -0.0679, 0.0153, 0.0451, 0.0021, 0.0362, 0.0200, 0.0199],
         [0.0170, 0.0554, -0.0062, 0.1416, 0.2271, 0.1376, 0.1200, 0.2003, 0.0921],
         [-0.0449, 0.0127, -0.0145, 0.0597, 0.1395, 0.0541, -0.0010, 0.0583, -0.0297]],
    ).reshape(3, 3, 3)  # fmt: skip
    kernel[62] = np.array(
        [[0.0259, 0.3822, 0.2939, -0.4756, -0.3601, 0.2328, -0.2228, 0.0008, 0.1533],
         [0.1767, 0.3877, 0.0260, -0.3904, -0.5004, 0.0017, 0.0617, 0.1479, 0.0510],
         [0.1297, 0.0754, -0.3885, 0.0509, -0.1938, -0.1750, 0.3448, 0.2156, -0.0835]],
    ).reshape(3, 3, 3)  # fmt: skip
    kernel[63] = np.array(
        [[-0.8106, -0.7432, -0.7789, -0.1693, 0.3423, -0.0702, 0.5249, 0.9599, 0.7621],
         [0.0792, 0.2456, -0.1532, -0.0709, 0.4465, -0.3807, -0.1531, 0.1243, -0.1107],
         [0.5203, 0.7574, 0.6237, -0.1073, 0.1876, -0.1218, -0.6641, -0.6489, -0.5536]],
    ).reshape(3, 3, 3)  # fmt: skip
    converted, mean = convert(tensors, None, "w.pth")
    assert mean == pytest.approx(TORCHVISION)
    np.testing.assert_allclose(converted["conv1_1.weight"], kernel / (255 * DEVIATION), rtol=1e-6)
    with pytest.raises(
        WeightsError, match=r"convention caffe .*, got torchvision's filters in RGB"
    ):
        convert(tensors, "caffe", "w.pth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda kernel: kernel * np.float32(255), "RGB at 255, 255, 255 times"),
        (lambda kernel: normalised(kernel)[:, ::-1], "BGR at 58.4"),
        (lambda kernel: kernel * np.float32(1.2), "RGB at 1.2, 1.2, 1.2 times"),
        (lambda kernel: -kernel, "another training"),
        (lambda kernel: kernel[::-1], "another training"),
        (lambda kernel: kernel[:, :, ::-1], "another training"),
        (lambda kernel: 0 * kernel, "another training"),
    ],
)
def test_what_is_not_certain_is_refused(
    real_weights: Weights, change: Callable[[Array], Array], message: str
) -> None:
    kernel, bias = first_layer(real_weights)
    tensors = {"conv1_1.weight": np.ascontiguousarray(change(kernel)), "conv1_1.bias": bias}
    with pytest.raises(WeightsError, match=rf"^expected .*{message}.*; try "):
        convert(tensors, None, "w.pth")


def test_other_trainings_are_read_as_declared(real_weights: Weights) -> None:
    kernel, bias = first_layer(real_weights)
    other = {"conv1_1.weight": kernel[::-1].copy(), "conv1_1.bias": bias}
    converted, mean = convert(other, "caffe", "w.pth")
    np.testing.assert_array_equal(converted["conv1_1.weight"], bgr(kernel[::-1]))
    assert mean == OXFORD
    converted, mean = convert(other, "torchvision", "w.pth")
    np.testing.assert_allclose(converted["conv1_1.weight"] * 255 * DEVIATION, kernel[::-1], 1e-6)
    assert mean == pytest.approx(TORCHVISION)
    with pytest.raises(
        WeightsError, match=r"convention torchvision .*, got Oxford's filters in BGR"
    ):
        convert({"conv1_1.weight": bgr(kernel), "conv1_1.bias": bias}, "torchvision", "w.pth")


def test_quantised_numbers_are_refused(real_weights: Weights) -> None:
    tensors = entries(real_weights, [str(index) for index in TORCHVISION_INDICES], same)
    bias = np.arange(64)
    with pytest.raises(WeightsError, match=r"floating-point numbers for conv1_1.bias .* int64"):
        from_state_dict({**tensors, "0.bias": Entry((64,), lambda: bias)}, None, "w.pth")
