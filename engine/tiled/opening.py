"""Opening a backend that evaluates pictures which are larger than a tile by tiles, and others whole."""

import functools
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from nstx.models.errors import DeviceError

from ..devices.arrays import NUMPY, Arrays
from ..devices.memory import give_back_freed_memory
from ..gradients.backend import GradientBackend, Problems
from ..gradients.choice import BackendChoice
from ..gradients.opening import BackendFactory, open_backend
from ..settings import Settings
from ..tiles.layout import TileLayout, lay_tiles
from .passes import TilePasses
from .shrinking import ShrinkingBackend, TileSide


def open_by_tiles(settings: Settings, choice: BackendChoice) -> BackendFactory:
    """Load what a backend needs, as `open_backend`; pictures larger than the settings' tile are evaluated by tiles.

    On the CPU, and by PyTorch on CUDA, smaller tiles take its place where memory does not hold an evaluation; on CUDA not
    of several pictures that are evaluated whole, nor where steps may run ahead of their host. There pictures are on the
    host where a tile is named, else on the device. `DeviceError` if there are tiles and the backend has none on the device.
    """
    place = choice.device
    if not (place.is_cpu or (place.is_cuda and choice.name == "torch")):
        if settings.tile is None:
            return open_backend(settings, choice)
        raise _refuse_tiles(choice)
    # In bf16 freed memory is kept, to be fast.
    if settings.tile is not None and place.is_cpu and choice.precision != "bf16":
        give_back_freed_memory()
    side = TileSide(settings.tile)
    factory = open_backend(settings, choice, partial(_by_tiles, settings, choice, side))
    if settings.tile is not None:
        factory = replace(factory, arrays=_arrays(settings, choice), runs_ahead=False)
    elif factory.runs_ahead:
        return factory  # their solver knows PyTorch's backends alone
    make = ShrinkingBackend if place.is_cpu or settings.tile is not None else _shrink_alone
    coarse = factory.make_coarse
    return replace(
        factory,
        make=partial(make, factory.make, side),
        make_coarse=coarse and partial(make, coarse, side),
    )


def _shrink_alone(
    make: Callable[[Problems], GradientBackend], side: TileSide, problems: Problems
) -> GradientBackend:
    """Return a backend by whole pictures whose memory may be exhausted: several are rather tried in parts."""
    return ShrinkingBackend(make, side, problems) if len(problems) == 1 else make(problems)


def _refuse_tiles(choice: BackendChoice) -> DeviceError:
    """Return the error of tiles where a backend has none."""
    if choice.device.is_cuda:
        return DeviceError(
            f"expected PyTorch for tiles on {choice.device}, got the backend {choice.name}; try --backend torch, or without "
            "--tile",
            setting="tile",
        )
    return DeviceError(
        f"expected the CPU or CUDA for tiles, got {choice.device}; try --device cpu, or without --tile",
        setting="tile",
    )


def _by_tiles(
    settings: Settings, choice: BackendChoice, side: TileSide, make: partial[Any]
) -> Callable[..., GradientBackend]:
    """Return what makes backends of large pictures by the network or weights of those of whole ones."""
    passes = functools.cache(lambda: _make_passes(settings, choice, make))

    def make_backend(problems: Any, *, capture: bool | None = None) -> GradientBackend:
        from .backend import TiledBackend
        from .problem import TiledProblem

        if not isinstance(problems, TiledProblem):
            layout = _tiles_of_all(settings, side.value, problems)
            if layout is None:
                backend: GradientBackend = (
                    make(problems) if capture is None else make(problems, capture=capture)
                )
                return backend
            problems = TiledProblem(layout, problems)
        return TiledBackend(passes(), problems.share(), arrays=_arrays(settings, choice))

    return make_backend


def _tiles_of_all(settings: Settings, side: int | None, problems: Any) -> TileLayout | None:
    if side is None or not isinstance(problems, list | tuple):
        return None  # the problem of a backend of whole pictures is no list
    targets, objective = problems[0][1], settings.objective
    size = (targets.height, targets.width)
    return lay_tiles(size, objective.layers, objective.pool_rounding, side)


def _make_passes(settings: Settings, choice: BackendChoice, make: partial[Any]) -> TilePasses:
    (network,) = make.args
    if choice.name == "onnx":
        from .onnx_passes import OnnxPasses, open_tile_session

        digest = network.metadata["weights_sha256"]
        return OnnxPasses(
            open_tile_session(settings, choice, digest, "sums"),
            open_tile_session(settings, choice, digest, "gradient"),
        )
    from ..gradients.backprop import BackwardPass
    from .torch_passes import AutogradPasses, WrittenPasses

    if isinstance(network, BackwardPass):
        return WrittenPasses(network, settings.objective)
    return AutogradPasses(network, settings.objective)


def _arrays(settings: Settings, choice: BackendChoice) -> Arrays:
    """Return what pictures are kept as: on the host, unless a device that was to hold all of them did not."""
    if choice.name == "onnx":
        return NUMPY
    from ..devices.torch_arrays import arrays_on

    return arrays_on(str(choice.device) if settings.tile is None else "cpu")
