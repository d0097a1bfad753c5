"""The memory of a run at its peak, on the CPU: a model whose coefficients were fitted to measurements.

At its peak a process has what its libraries, weights and graphs take; the picture with its targets, and the
solver's state, which grow with the picture; and what an evaluation takes, which grows with the pixels that are
evaluated at once: the picture's, or those of a tile with its halo. ``python benchmarks/plan.py`` measures what is
predicted here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from nstx.models.objective import Objective
from nstx.models.vgg19 import find_layer, truncate

from ..settings import PAIRS, Settings
from ..tiles.layout import EXTRACTED_SIDE, TileLayout, lay_tiles

Way = Literal["onnx", "autograd", "bf16", "checked"]
"""How gradients come about: by ONNX Runtime, by PyTorch's autograd, or written out in bf16, alone or checked."""


class Choice(Protocol):
    """What is asked of a backend's choice."""

    @property
    def name(self) -> str:
        """Of the backend."""

    @property
    def precision(self) -> str:
        """Of its convolutions."""

    @property
    def checked(self) -> bool:
        """Whether gradients are checked against fp32."""

    @property
    def regions(self) -> int:
        """How many there are in a picture; 0 where all its positions count alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficients:
    """Bytes that a way to compute gradients takes.

    Attributes:
        base: libraries, weights, graphs.
        whole: for each byte of activations in float32 (`activation_bytes`), of a picture that is evaluated whole.
        tiled_base: as ``base``, by tiles: more graphs.
        tile: as ``whole``, of a tile with its halo.
        region: for each byte of style layers' activations, of each region whose positions count by shares.
        weights: for each byte of weights that an objective needs more, or less, than the default's; its are in the bases.
    """

    base: int
    whole: float
    tiled_base: int
    tile: float
    region: float
    weights: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SolverBytes:
    """Bytes for each pixel of the result that a solver takes.

    Attributes:
        at_rest: while its picture is evaluated.
        at_work: at its peak between two evaluations.
        pair: for each of L-BFGS's pairs besides.
    """

    at_rest: int
    at_work: int
    pair: int


_MIB = 1 << 20

COEFFICIENTS: dict[Way, Coefficients] = {
    "onnx": Coefficients(
        base=204 * _MIB, whole=1.65, tiled_base=295 * _MIB, tile=1.5, region=1.0, weights=2.6
    ),
    "autograd": Coefficients(
        base=410 * _MIB, whole=1.81, tiled_base=345 * _MIB, tile=1.6, region=1.3
    ),
    "bf16": Coefficients(base=295 * _MIB, whole=0.98, tiled_base=420 * _MIB, tile=0.7, region=0.5),
    "checked": Coefficients(
        base=540 * _MIB, whole=1.72, tiled_base=540 * _MIB, tile=2.1, region=1.3
    ),
}
"""Fitted to the peaks of processes with pictures of 0.1 to 4 megapixels and tiles of 128 to 512; of regions, to one by
autograd alone."""

_FEATURES = 0.7
"""Bytes for each byte of activations where targets are made of a whole picture."""

_TILES, _KEPT_TILES = (400 * _MIB, 0.9), (280 * _MIB, 2.44)
"""What there is where they are made by tiles, and bytes for each byte of activations besides; where freed memory is kept."""

_BUILT = 500 * _MIB
"""What there is while graphs of tiles are built, the first time on a machine: 560 MiB at the peak of a whole run, and 460 later."""

_BUILDING = 6.0
"""Bytes for each of weights, of which graphs are built: by ``fine`` 346 MiB at the peak of a whole run, to conv3_2 233."""

_WEIGHTS = ("conv5_1",)  # of the default objective; 49 MiB

_PICTURE = 56
"""Bytes for each pixel of the result: the content at each scale, its colours, its features, the result."""

_ARENA_PIXELS, _ARENA_SHARE = 1 << 21, 2.6
"""Of ONNX Runtime's arena: pixels from which what it has freed serves less and less of what it needs next, and bytes for each
of activations that it takes from twice as many on, where each of the first layers' is a gibibyte or more."""

_PIXELS = 36
"""Of these, a picture that is evaluated, its content and its gradient."""

_SHARES = 20
"""For each pixel and region: masks, and shares of style layers, of which a graph has copies."""

_LAPLACIAN = 60
"""For each pixel that is evaluated whole where its Laplacian is compared."""

_SOLVERS = {
    ("adam", False): SolverBytes(at_rest=85, at_work=132, pair=0),
    ("adam", True): SolverBytes(at_rest=200, at_work=270, pair=0),
    ("lbfgs", False): SolverBytes(at_rest=62, at_work=124, pair=26),
    ("lbfgs", True): SolverBytes(at_rest=100, at_work=215, pair=37),
}
"""By whether PyTorch's arrays are the solver's; measured by itself at one megapixel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What memory is asked for.

    Attributes:
        size: height and width of the result.
        tile: side of the tiles that it is evaluated by; None evaluates it whole.
        way: how gradients come about.
        pairs: of L-BFGS; None where the solver is Adam.
        on_disk: whether these are kept there, of which one array at a time is in memory.
        may_use_disk: whether they may be, where memory does not hold them.
        style_side: long side of the style pictures.
        batch: pictures that are evaluated together.
        regions: of each picture, whose positions count by shares; 0 where all count alike.
    """

    size: tuple[int, int]
    objective: Objective
    way: Way
    tile: int | None = None
    pairs: int | None = None
    on_disk: bool = False
    may_use_disk: bool = False
    style_side: int = 0
    batch: int = 1
    regions: int = 0

    @property
    def layout(self) -> TileLayout | None:
        """The tiles that the result is evaluated by; None where it is evaluated whole."""
        if self.tile is None:
            return None
        return lay_tiles(self.size, self.objective.layers, self.objective.pool_rounding, self.tile)


def way_of(choice: Choice) -> Way:
    """Return how a backend computes gradients."""
    if choice.name == "onnx":
        return "onnx"
    if choice.precision == "bf16":
        return "checked" if choice.checked else "bf16"
    return "autograd"


def load_of(settings: Settings, size: Sequence[int], choice: Choice, *, batch: int = 1) -> Load:
    """Return what a run of these settings asks for, of a result of this height and width."""
    return Load(
        size=(size[0], size[1]),
        objective=settings.objective,
        way=way_of(choice),
        tile=settings.tile,
        pairs=min(PAIRS, settings.most_steps) if settings.solver == "lbfgs" else None,
        on_disk=settings.history == "disk" and settings.solver == "lbfgs",
        may_use_disk=settings.history == "auto" and settings.solver == "lbfgs",
        style_side=round(min(max(size) * settings.style_scale, 1e6)),
        batch=batch,
        regions=choice.regions,
    )


def activation_bytes(layers: Sequence[str]) -> float:
    """Return the bytes of all activations for each pixel, in float32: 1280 to conv5_1."""
    return 4 * sum(layer.values_per_pixel for layer in truncate(layers))


def memory_needed(load: Load) -> int:
    """Return the bytes that a process has at its peak, about."""
    layout = load.layout
    pixels = load.size[0] * load.size[1] * load.batch
    solver = _SOLVERS["adam" if load.pairs is None else "lbfgs", load.way != "onnx"]
    kept = 0 if load.on_disk else solver.pair * (load.pairs or 0)
    at_rest, at_work = ((kept + of) * pixels for of in (solver.at_rest, solver.at_work))
    of_pixel = activation_bytes(load.objective.layers)
    base = _base(load)
    if layout is None:
        targets = base + _FEATURES * of_pixel * load.style_side**2
    else:
        keeps = load.way in ("bf16", "checked")
        layers = load.objective.layers
        targets = _tile_features(layout, load.style_side, layers, keeps_freed=keeps)
    if load.way == "onnx":
        if layout is None:
            at_rest = at_work  # ONNX Runtime keeps for itself what an evaluation took
        else:
            targets = max(targets, _BUILT + _BUILDING * _weights_beyond(load.objective.layers))
    run = base + max(at_rest + _evaluation(load), at_work)
    return round(_held(load) * pixels + max(run, targets))


def gradient_needed(load: Load) -> int:
    """Return the bytes that a process has at its peak, about, that evaluates pictures and does nothing else."""
    pixels = load.size[0] * load.size[1] * load.batch
    return round(_base(load) + _evaluation(load) + _PIXELS * pixels)


def _base(load: Load) -> float:
    coefficients = COEFFICIENTS[load.way]
    base = coefficients.base if load.layout is None else coefficients.tiled_base
    return base + coefficients.weights * _weights_beyond(load.objective.layers)


def _weights_beyond(layers: Sequence[str]) -> int:
    """Return by how many bytes more of weights layers need than the default's; below 0 if by less."""
    own, default = (
        4 * sum(layer.weights for layer in truncate(names)) for names in (layers, _WEIGHTS)
    )
    return own - default


def _evaluation(load: Load) -> float:
    """Return the bytes that an evaluation takes."""
    coefficients, layout, objective = COEFFICIENTS[load.way], load.layout, load.objective
    height, width = load.size if layout is None else layout.largest
    share = _whole_share(load) if layout is None else coefficients.tile
    of_pixel = share * activation_bytes(objective.layers)
    styles = sum(4 * layer.values_per_pixel for layer in map(find_layer, objective.style_names))
    of_pixel += coefficients.region * load.regions * styles
    if layout is None and objective.laplacian_weight > 0:
        of_pixel += _LAPLACIAN
    return of_pixel * height * width * load.batch


def _whole_share(load: Load) -> float:
    """Return the bytes for each of activations that an evaluation of the whole takes."""
    share = COEFFICIENTS[load.way].whole
    if load.way != "onnx":
        return share
    beyond = load.size[0] * load.size[1] * load.batch / _ARENA_PIXELS - 1
    return share + (_ARENA_SHARE - share) * min(1.0, max(0.0, beyond))


def _held(load: Load) -> float:
    """Return the bytes for each pixel of the result that are held throughout, but for the solver's."""
    laplacian = 4 if load.objective.laplacian_weight > 0 else 0
    return _PICTURE + laplacian + _SHARES * load.regions


def features_needed(settings: Settings, size: Sequence[int], layout: TileLayout | None) -> int:
    """Return the bytes that a process has at its peak, about, where it makes targets of a picture (height, width)."""
    layers = settings.objective.layers
    if layout is None:
        return extraction_needed(layers, size[0] * size[1])
    return round(_tile_features(layout, max(size), layers, keeps_freed=True))


def extraction_needed(layers: Sequence[str], pixels: int) -> int:
    """Return the bytes that a process has at its peak, about, that extracts features of so many pixels whole."""
    return round(COEFFICIENTS["onnx"].base + _FEATURES * activation_bytes(layers) * pixels)


def _tile_features(
    layout: TileLayout, most: int, layers: Sequence[str], *, keeps_freed: bool
) -> float:
    """Return the bytes that a process has while it makes the features of tiles, whose sides are at most ``most``."""
    base, share = _KEPT_TILES if keeps_freed else _TILES
    side = min(most, min(layout.side, EXTRACTED_SIDE) + 2 * layout.halo)
    pixels = share * activation_bytes(layers) * side**2
    return base + _BUILDING * _weights_beyond(layers) + pixels
