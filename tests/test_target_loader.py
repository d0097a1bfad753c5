"""Targets of pictures: hits are what a computation gives, and open nothing."""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import random_pixels
from PIL import Image

from nstx.engine.choices import choose_settings
from nstx.engine.features.activations import Features
from nstx.engine.features.extraction import Extraction, OpenedExtractor
from nstx.engine.pictures.picture import Picture, Pixels, WeightedPicture
from nstx.engine.pictures.reading import read_image
from nstx.engine.settings import Settings
from nstx.engine.targets.loader import LoadedTargets, TargetLoader
from nstx.engine.targets.precompute import PrecomputedPicture, find_pictures, precompute_targets
from nstx.engine.targets.store import TargetFolder, as_stored, target_is_sound
from nstx.models.errors import DeviceError, ImageError, NumericalError, UsageError
from nstx.models.reference.features import reference_features, reference_gram
from nstx.models.reference.statistics import reference_style
from nstx.models.storage.cache import cache_folder
from nstx.models.vgg19 import find_layer
from nstx.models.weights.load import Weights

SIZES = ((48, 64), (97, 131))
SETTINGS = choose_settings(
    size=131, content_layers="conv2_2,conv1_2", style_layers="conv1_1,conv2_1", device="cpu"
)


@pytest.fixture(autouse=True)
def targets_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("NSTX_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "targets"


Call = tuple[tuple[int, ...], tuple[str, ...], tuple[str, ...]]
"""Of an extraction: the picture's size, and the layers of activations and of Gram matrices."""


@dataclass(slots=True)
class Yardstick:
    """An extractor in float64, on a network with few channels, that lists its calls."""

    weights: Weights
    calls: list[Call] = field(default_factory=list)

    def open(self, extraction: Extraction, layers: Sequence[str]) -> OpenedExtractor:
        name = "onnx" if extraction.extractor == "auto" else extraction.extractor
        return OpenedExtractor(self, name, "the yardstick")

    def extract(
        self,
        pixels: Pixels,
        activations: Sequence[str],
        grams: Sequence[str],
        moments: Sequence[str] = (),
    ) -> Features:
        self.calls.append((pixels.shape[:2], tuple(activations), tuple(grams)))
        layers = [*activations, *grams, *moments]
        features = _widen(reference_features(self.weights, pixels, layers, "avg", "ceil"))
        return Features(
            {name: features[name].astype(np.float32) for name in activations},
            {name: reference_gram(features[name]).astype(np.float32) for name in grams},
            {
                name: reference_style("wasserstein", features[name]).astype(np.float32)
                for name in moments
            },
        )


def _widen(features: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Return features with as many channels as VGG-19's, the network's few over and over."""
    return {
        name: np.resize(values, (find_layer(name).channels, *values.shape[1:]))
        for name, values in features.items()
    }


@pytest.fixture
def yardstick(tiny_weights: Weights) -> Yardstick:
    return Yardstick(tiny_weights)


def picture(seed: int, height: int = 90, width: int = 120) -> Picture:
    return Picture(random_pixels(height, width, seed).astype(np.uint8), None)


def loader_of(yardstick: Yardstick, settings: Settings = SETTINGS) -> TargetLoader:
    sha256 = yardstick.weights.sha256
    return TargetLoader(settings, weights_sha256=sha256, opener=yardstick.open)


def load(
    yardstick: Yardstick,
    content: Picture | None = None,
    styles: Sequence[WeightedPicture] = (),
    settings: Settings = SETTINGS,
    sizes: Sequence[tuple[int, int]] = SIZES,
) -> LoadedTargets:
    styles = styles or [(picture(2), 1.0), (picture(3, 70, 50), 2.0)]
    return loader_of(yardstick, settings).load(content or picture(1), styles, sizes)


def same(first: LoadedTargets, second: LoadedTargets) -> bool:
    return all(
        getattr(ours, part)[name].tobytes() == getattr(theirs, part)[name].tobytes()
        for ours, theirs in zip(first.targets, second.targets, strict=True)
        for part in ("content", "style")
        for name in getattr(ours, part)
    )


def test_the_second_time_nothing_is_computed_and_the_bytes_are_the_same(
    yardstick: Yardstick,
) -> None:
    styles = [(picture(2), 1.0), (picture(3, 70, 50), 2.0)]
    loader = loader_of(yardstick)
    first = loader.load(picture(1), styles, SIZES)
    assert (first.content, first.styles) == ("miss", ("miss", "miss"))
    assert loader.extractor == ("onnx", "the yardstick")
    assert len(yardstick.calls) == 6
    loader = loader_of(yardstick)
    second = loader.load(picture(1), styles, SIZES)
    assert (second.content, second.styles) == ("hit", ("hit", "hit"))
    assert loader.extractor is None
    assert len(yardstick.calls) == 6
    without = load(yardstick, settings=replace(SETTINGS, use_cache=False))
    assert (without.content, without.styles) == ("miss", ("miss", "miss"))
    assert same(first, second)
    assert same(first, without)


def test_the_targets_are_those_of_the_pictures(yardstick: Yardstick) -> None:
    for _ in range(2):
        loaded = load(yardstick)
        (call,) = {call for call in yardstick.calls if call[1] and call[0] == SIZES[1]}
        assert call == (SIZES[1], ("conv2_2", "conv1_2"), ())
    pixels = [
        np.asarray(Image.fromarray(p.pixels).resize(size, Image.Resampling.LANCZOS), np.float32)
        for p, size in ((picture(2), (131, 98)), (picture(3, 70, 50), (94, 131)))
    ]
    grams = [
        as_stored(
            reference_gram(
                _widen(reference_features(yardstick.weights, style, ["conv2_1"], "avg", "ceil"))[
                    "conv2_1"
                ]
            ).astype(np.float32)
        )
        for style in pixels
    ]
    blend = grams[0] / 3 + grams[1] * 2 / 3
    np.testing.assert_allclose(loaded.targets[1].style["conv2_1"], blend, rtol=1e-5)


def test_objectives_that_share_layers_share_entries(yardstick: Yardstick) -> None:
    load(yardstick)
    yardstick.calls.clear()
    more = choose_settings(
        size=131, content_layers="conv2_2", style_layers="conv2_1,conv3_1", device="cpu"
    )
    loaded = load(yardstick, settings=more)
    assert (loaded.content, loaded.styles) == ("hit", ("miss", "miss"))
    assert {call[1:] for call in yardstick.calls} == {((), ("conv3_1",))}


@pytest.mark.parametrize(
    "change",
    ["pixel", "size", "pooling", "rounding", "weights", "extractor", "layer", "style scale"],
)
def test_what_changes_is_computed(yardstick: Yardstick, change: str) -> None:
    load(yardstick)
    yardstick.calls.clear()
    content, settings, sizes, weights = picture(1), SETTINGS, SIZES, yardstick.weights
    objective = settings.objective
    if change == "pixel":
        pixels = content.pixels.copy()
        pixels[0, 0, 0] ^= 1
        content = Picture(pixels, None)
    elif change == "size":
        sizes = ((48, 63), (97, 130))
    elif change == "pooling":
        settings = replace(settings, objective=replace(objective, pooling="max"))
    elif change == "rounding":
        settings = replace(settings, objective=replace(objective, pool_rounding="floor"))
    elif change == "weights":
        weights = replace(weights, sha256="1" * 64)
    elif change == "extractor":
        settings = replace(settings, extractor="tensorrt")
    elif change == "style scale":
        settings = replace(settings, style_scale=0.9)
    else:
        settings = choose_settings(size=131, content_layers="conv2_1", device="cpu")
    other = Yardstick(weights)
    loaded = load(other, content, settings=settings, sizes=sizes)
    assert loaded.content == ("hit" if change == "style scale" else "miss")
    assert loaded.styles == (("hit", "hit") if change == "pixel" else ("miss", "miss"))
    assert other.calls


def test_a_picture_that_was_renamed_or_encoded_anew_is_the_same(
    yardstick: Yardstick, tmp_path: Path
) -> None:
    image = Image.fromarray(picture(1).pixels)
    names = ("photo.png", "other.webp", "third.tif", "fourth.bmp")
    for name in names:
        image.save(tmp_path / name, lossless=True)  # for WebP; others have no such option
    sources = [load(yardstick, read_image(tmp_path / name)).content for name in names]
    assert sources == ["miss", "hit", "hit", "hit"]
    assert len({read_image(tmp_path / name).digest for name in names}) == 1
    floats = Picture(picture(1).pixels.astype(np.float32), None)
    assert floats.digest != picture(1).digest


def test_an_objective_without_content_needs_no_content_targets(yardstick: Yardstick) -> None:
    settings = choose_settings(content_weight=0.0, style_layers="conv1_1")
    loaded = load(yardstick, settings=settings)
    assert (loaded.content, loaded.styles) == (None, ("miss", "miss"))
    assert not loaded.targets[0].content


def test_a_damaged_entry_is_computed_again(
    yardstick: Yardstick, targets_folder: Path, logged_warnings: list[str]
) -> None:
    first = load(yardstick)
    for path in targets_folder.iterdir():
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    second = load(yardstick)
    assert (second.content, second.styles) == ("miss", ("miss", "miss"))
    assert same(first, second)
    assert len(logged_warnings) == len(list(targets_folder.iterdir())) == 12
    assert load(yardstick).content == "hit"


def test_auto_takes_no_entry_of_an_extractor_that_it_would_not_take(yardstick: Yardstick) -> None:
    load(yardstick, settings=replace(SETTINGS, extractor="torch"))
    assert load(yardstick).content == "miss"
    assert load(yardstick, settings=replace(SETTINGS, extractor="onnx")).content == "hit"
    # Whether CUDA's provider loads is not tried, so either is taken.
    cuda = replace(SETTINGS, device="cuda:0")
    load(yardstick, settings=replace(cuda, extractor="torch"))
    assert load(yardstick, settings=cuda).content == "hit"
    assert load(yardstick, settings=replace(cuda, device="cuda:1")).content == "hit"


def test_a_size_that_memory_cannot_hold_is_refused(yardstick: Yardstick) -> None:
    with pytest.raises(DeviceError, match="GiB"):
        load(yardstick, sizes=((60_000, 60_000),))
    assert not yardstick.calls


def test_a_full_disk_costs_a_warning(
    yardstick: Yardstick, monkeypatch: pytest.MonkeyPatch, logged_warnings: list[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    first = load(yardstick, settings=replace(SETTINGS, use_cache=False))
    monkeypatch.setattr(Path, "replace", refuse)
    second = load(yardstick)
    assert same(first, second)
    (warning,) = logged_warnings
    assert "No space left" in warning


def test_a_folder_that_cannot_be_made_costs_a_warning(
    yardstick: Yardstick,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    logged_warnings: list[str],
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NSTX_CACHE_DIR", str(tmp_path / "file"))
    assert load(yardstick).content == "miss"
    assert len(logged_warnings) == 1


def test_the_store_stays_within_its_limit(
    yardstick: Yardstick,
    monkeypatch: pytest.MonkeyPatch,
    targets_folder: Path,
    logged_warnings: list[str],
) -> None:
    monkeypatch.setenv("NSTX_CACHE_LIMIT", "500kB")
    load(yardstick)
    sizes = [path.stat().st_size for path in targets_folder.iterdir()]
    assert 0 < sum(sizes) <= 500_000
    assert "limit" in logged_warnings[0]
    monkeypatch.setenv("NSTX_CACHE_LIMIT", "20kB")
    load(yardstick, picture(9), [(picture(8), 1.0)])
    assert sum(path.stat().st_size for path in targets_folder.iterdir()) <= 20_000
    assert len(logged_warnings) == 2


def test_targets_that_are_not_finite_are_refused_and_not_kept(
    tiny_weights: Weights, targets_folder: Path
) -> None:
    kernel = np.full_like(tiny_weights.kernels["conv2_1"], np.nan)
    broken = replace(tiny_weights, kernels={**tiny_weights.kernels, "conv2_1": kernel})
    settings = choose_settings(content_layers="conv2_2", device="cpu")
    with pytest.raises(NumericalError, match="an array, got NaN or infinity in conv2_2"):
        load(Yardstick(broken), settings=settings)
    assert not targets_folder.exists()


def test_a_hit_imports_no_torch_no_onnx_and_no_runtime(
    tmp_path: Path, save_picture: Callable[..., Path]
) -> None:
    content, style = save_picture("photo.png", seed=1), save_picture("painting.png", seed=2)
    code = (
        "import sys\n"
        "from nstx.engine.pictures.reading import read_image\n"
        "from nstx.engine.choices import choose_settings\n"
        "from nstx.engine.targets.loader import TargetLoader\n"
        "if sys.argv[3] == 'blocked':\n"
        "    for name in ('torch', 'onnx', 'onnxruntime', 'h5py'):\n"
        "        sys.modules[name] = None\n"
        "loader = TargetLoader(choose_settings(style_layers='conv1_1', content_layers='conv1_1'))\n"
        "styles = [(read_image(sys.argv[2]), 1.0)]\n"
        "print(loader.load(read_image(sys.argv[1]), styles, [(48, 64)]).content)\n"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code, content, style, mode],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for mode in ("open", "blocked")
    ]
    assert outputs == ["miss\n", "hit\n"]


def test_parts_computed_apart_are_what_is_computed_together(targets_folder: Path) -> None:
    """On real weights: a graph of fewer outputs gives the same bytes for each."""
    styles = [(picture(2), 1.0)]
    names = ("conv1_1", "conv2_1", "conv3_1")
    wide = choose_settings(style_layers=",".join(names), content_layers="conv3_1", device="cpu")
    together = TargetLoader(wide).load(picture(1), styles, SIZES)
    for path in targets_folder.iterdir():
        path.unlink()
    for name in names:
        one = choose_settings(style_layers=name, content_layers="conv3_1", device="cpu")
        TargetLoader(one).load(picture(1), styles, SIZES)
    apart = TargetLoader(wide).load(picture(1), styles, SIZES)
    assert (apart.content, apart.styles) == ("hit", ("hit",))
    assert same(together, apart)


def test_pictures_are_found_in_files_and_folders(
    tmp_path: Path, save_picture: Callable[..., Path]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("b.png", "a.JPG", ".hidden.png", "notes.txt"):
        (folder / name).touch()
    (folder / "inner.png").mkdir()
    photo = save_picture("photo.png")
    assert find_pictures([photo, folder, photo]) == [photo, folder / "a.JPG", folder / "b.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="none"):
        find_pictures([tmp_path / "empty"])
    with pytest.raises(ImageError, match="No such file"):
        find_pictures([tmp_path / "missing.png"])


def test_precomputed_styles_serve_contents_of_any_shape(
    yardstick: Yardstick, tmp_path: Path, save_picture: Callable[..., Path]
) -> None:
    contents = [save_picture("wide.png", 60, 120, 1), save_picture("tall.png", 120, 60, 2)]
    styles = [save_picture("painting.png", 70, 50, 3), save_picture("thin.png", 20, 200, 4)]
    (tmp_path / "broken.png").write_bytes(b"no picture")
    settings = choose_settings(size=250, content_layers="conv1_1", style_layers="conv1_1")
    reported: list[PrecomputedPicture] = []
    done = precompute_targets(
        contents,
        [*styles, tmp_path / "broken.png"],
        settings,
        loader_of(yardstick, settings),
        reported.append,
    )
    assert reported == done
    assert [entry.role for entry in done] == ["content"] * 2 + ["style"] * 3
    assert [entry.source for entry in done] == ["miss"] * 4 + [None]
    assert done[0].sizes == ((62, 125), (125, 250))
    assert done[2].sizes == ((125, 89), (250, 179))
    assert done[3].sizes == ((25, 250),)
    assert "something else" in str(done[4].error)
    for content in contents:
        loader = loader_of(yardstick, settings)
        pictures = [(read_image(path), 1.0) for path in styles[:1]]
        sizes = done[contents.index(content)].sizes
        loaded = loader.load(read_image(content), pictures, sizes)
        assert (loaded.content, loaded.styles) == ("hit", ("hit",))


def test_no_style_is_left_out_in_silence(
    yardstick: Yardstick, tmp_path: Path, save_picture: Callable[..., Path]
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    wide, tall = save_picture("wide.png", 40, 120), save_picture("tall.png", 200, 20)
    thin = save_picture("thin.png", 20, 200)
    settings = choose_settings(width=100, content_layers="conv1_1", style_layers="conv1_1")
    loader = loader_of(yardstick, settings)
    done = precompute_targets([tmp_path / "broken.png"], [wide], settings, loader, lambda _: None)
    assert [entry.source for entry in done] == [None, None]
    assert all(entry.error for entry in done)
    # For the tall content the style would be long enough; for the wide one it is too thin.
    done = precompute_targets([tall, wide], [thin], settings, loader, lambda _: None)
    assert "style picture of 16" in str(done[2].error)


def test_styles_alone_are_computed_for_the_size(
    yardstick: Yardstick, save_picture: Callable[..., Path]
) -> None:
    style = save_picture("painting.png", 70, 50)
    settings = choose_settings(size=128, style_layers="conv1_1")
    loader = loader_of(yardstick, settings)
    (done,) = precompute_targets([], [style], settings, loader, lambda _: None)
    assert done.sizes == ((128, 91),)
    settings = choose_settings(width=128, style_layers="conv1_1")
    loader = loader_of(yardstick, settings)
    with pytest.raises(UsageError, match="--size"):
        precompute_targets([], [style], settings, loader, lambda _: None)


def test_the_store_of_the_loader_verifies(yardstick: Yardstick, targets_folder: Path) -> None:
    load(yardstick)
    assert targets_folder == cache_folder() / "targets" == TargetFolder().folder
    assert all(target_is_sound(path) for path in targets_folder.iterdir())
