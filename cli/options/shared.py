"""The options that commands share, and the settings that they make.

Defaults and names come from `nstx.engine.settings.Settings` and the presets; None means: as the preset has it.
Values are checked by the library, so that its users and those of the command line read the same message.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, get_args

from nstx.engine.choices import choose_settings
from nstx.engine.settings import CHOICES, COLORS, INITS, Settings
from nstx.models import objective
from nstx.models.errors import UsageError
from nstx.models.presets import PRESETS, Preset, SolverName
from nstx.models.statistics import STATISTICS
from nstx.models.values import describe
from nstx.models.vgg19 import Pooling, PoolRounding, check_pooling

from ..console import Console
from ..grouped import Group, Help
from ..session import session
from ..sources import COMMAND_LINE, CONFIGURATION, ENVIRONMENT


def _default(name: str) -> Any:
    return Settings.__dataclass_fields__[name].default


def _by_preset(name: str) -> str:
    """Write a preset's value beside those of the presets that differ: ``512; coursera: 400``."""
    usual = getattr(PRESETS["default"], name)
    others = {preset.name: getattr(preset, name) for preset in PRESETS.values()}
    texts = [f"{preset}: {value}" for preset, value in others.items() if value != usual]
    return f"[default: {'; '.join([str(usual), *texts])}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective(Group):
    """What is minimised, and the preset that all settings start from."""

    panel: ClassVar[str | None] = "Objective"

    preset: Annotated[
        str,
        Help(f"Objective and solver to start from: {', '.join(PRESETS)}.", values=tuple(PRESETS)),
    ] = "default"
    content_layers: Annotated[
        str | None,
        Help(
            "Layers of the content cost, as name or name:weight, separated by commas.", is_list=True
        ),
    ] = None
    style_layers: Annotated[
        str | None,
        Help(
            "Layers of the style cost, as name or name:weight, separated by commas.", is_list=True
        ),
    ] = None
    style_statistic: Annotated[
        str | None,
        Help(
            f"What of style layers is compared: {', '.join(STATISTICS)}; of single ones, as "
            "name:weight:statistic in --style-layers. [default: gram]",
            values=STATISTICS,
        ),
    ] = None
    content_weight: Annotated[float | None, Help("Weight of the content cost (α).")] = None
    style_weight: Annotated[
        float | None, Help("Weight of the style cost (β); more of it, more of the painting.")
    ] = None
    tv_weight: Annotated[float | None, Help("Weight of the total variation, which smooths.")] = None
    laplacian_weight: Annotated[float | None, Help("Weight of the photograph's detail.")] = None
    pooling: Annotated[
        str | None, Help(f"{' or '.join(get_args(Pooling))}.", values=get_args(Pooling))
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphObjective(Objective):
    """What a graph computes; its poolings can differ from the preset's in their rounding, too."""

    rounding: Annotated[
        str | None,
        Help(
            "What a pooling makes of odd sizes: ceil (75 to 38) or floor (75 to 37).",
            values=get_args(PoolRounding),
        ),
    ] = None

    def choices(self) -> dict[str, Any]:
        """Return the values but the rounding, which settings do not have."""
        choices = Objective.choices(self)
        del choices["rounding"]
        return choices


@dataclass(frozen=True, slots=True, kw_only=True)
class Colours(Group):
    """Which colours the result has."""

    panel: ClassVar[str | None] = "Colours"

    colors: Annotated[
        str | None,
        Help(
            "The result's: style (the paintings'), luminance (the photograph's; light and shade from the "
            "paintings), matched (the paintings get the photograph's first), histogram (the photograph's, "
            "channel by channel, afterwards), only (the photograph in the paintings' colours, without strokes).",
            values=COLORS,
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Size(Group):
    """Sizes of the result, of the style pictures and of the scales."""

    panel: ClassVar[str | None] = "Size"

    size: Annotated[
        int | None, Help(f"Long side of the result in pixels. {_by_preset('size')}")
    ] = None
    width: Annotated[int | None, Help("Width in pixels; alone, in proportion.")] = None
    height: Annotated[int | None, Help("Height in pixels; alone, in proportion.")] = None
    style_scale: Annotated[
        float,
        Help(
            "Long side of the style pictures as a multiple of the result's; larger makes larger "
            "strokes."
        ),
    ] = _default("style_scale")
    scales: Annotated[
        str | None,
        Help(
            "Scales from coarse to fine: auto or a number; 1 works at the final size only.",
            values=("auto",),
        ),
    ] = None
    large: Annotated[
        bool, Help("Let pictures have over 89 million pixels, as a size does (docs/size.md).")
    ] = False

    def choices(self) -> dict[str, Any]:
        """Return the sizes that count: a configured --size gives way to a --width; the library refuses equals."""
        exact = min(self._rank("width"), self._rank("height"))
        long_side = self._rank("size")
        return {
            "size": self.size if long_side <= exact else None,
            "width": self.width if exact <= long_side else None,
            "height": self.height if exact <= long_side else None,
            "style_scale": self.style_scale,
            "large": self.large or None,
            **_split_scales(self.scales),
        }

    def _rank(self, name: str) -> int:
        """Return a number that is smaller for sources that go before others."""
        order = (COMMAND_LINE, ENVIRONMENT, CONFIGURATION)
        source = self.sources.get(name)
        return order.index(source) if getattr(self, name) and source in order else len(order)


@dataclass(frozen=True, slots=True, kw_only=True)
class Solver(Group):
    """How the objective is minimised, and from where."""

    panel: ClassVar[str | None] = "Solver"

    steps: Annotated[
        int | None, Help(f"Solver iterations, over all scales. {_by_preset('steps')}")
    ] = None
    solver: Annotated[
        str | None, Help(f"{' or '.join(get_args(SolverName))}.", values=get_args(SolverName))
    ] = None
    learning_rate: Annotated[float | None, Help("Of Adam, in pixel values (0–255).")] = None
    init: Annotated[
        str | None,
        Help(
            "Start: content, matched (it, in the style's colours), noise, blend (noise and "
            "content), noisy (content plus noise), or a picture's path; a .npy of (height, width, "
            "3) RGB numbers on the scale 0–255 is taken as it is.",
            values=INITS,
        ),
    ] = None
    seed: Annotated[int, Help("Of the noise in the start.")] = _default("seed")
    clean: Annotated[
        bool | None,
        Help(
            "Take ripples and speckles out of flat areas, and what bends at the border; published presets do "
            "not unless asked.",
            ("--clean/--no-clean",),
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine(Group):
    """What computes, where, and with which weights."""

    panel: ClassVar[str | None] = "Machine"

    device: Annotated[
        str, Help("auto, cpu, cuda[:N] or mps.", values=("auto", "cpu", "cuda", "mps"))
    ] = _default("device")
    precision: Annotated[
        str,
        Help(
            "Of the convolutions: auto, fp32, tf32, bf16, fp16. Gram matrices and costs are always "
            "fp32.",
            values=CHOICES["precision"],
        ),
    ] = _default("precision")
    backend: Annotated[
        str,
        Help(
            f"What computes the gradient: {', '.join(CHOICES['backend'])}. auto is onnx on the CPU in fp32, "
            "else torch.",
            values=CHOICES["backend"],
        ),
    ] = _default("backend")
    extractor: Annotated[
        str,
        Help(
            "What computes features: auto, onnx (ONNX Runtime), tensorrt (its TensorRT provider), "
            "torch. auto takes onnx where it has a provider for the device.",
            values=CHOICES["extractor"],
        ),
    ] = _default("extractor")
    weights: Annotated[
        str,
        Help(
            "VGG-19's weights: embedded, or a .pth, .h5, .mat or .safetensors file; for filters "
            "that nstx does not know, caffe:FILE or torchvision:FILE.",
            values=("embedded",),
        ),
    ] = _default("weights")
    threads: Annotated[int | None, Help("Threads of the CPU.")] = _default("threads")
    no_cache: Annotated[bool, Help("Neither read nor write the cache folder.")] = not _default(
        "use_cache"
    )

    def choices(self) -> dict[str, Any]:
        """Return the values, with ``use_cache`` in place of ``no_cache``."""
        choices = Group.choices(self)
        choices["use_cache"] = not choices.pop("no_cache")
        return choices


@dataclass(frozen=True, slots=True, kw_only=True)
class Output(Group):
    """What is printed."""

    panel: ClassVar[str | None] = "Output"

    as_json: Annotated[bool, Help("Print one JSON object on stdout.", ("--json",))] = False
    quiet: Annotated[bool, Help("Print errors only.", ("--quiet", "-q"))] = False

    def __post_init__(self) -> None:
        session.as_json = session.as_json or self.as_json

    def console(self, *, all_on_stderr: bool = False) -> Console:
        """Return a console for these options."""
        return Console(as_json=self.as_json, quiet=self.quiet, all_on_stderr=all_on_stderr)


def choices_of(*groups: Group) -> dict[str, Any]:
    """Return what groups choose, by the names that `choose_settings` gives it."""
    return {name: value for group in groups for name, value in group.choices().items()}


def settings_of(*groups: Group, preset: Preset | None = None) -> Settings:
    """Return the settings that groups choose, one of which names the preset.

    ``preset`` goes before the one that is named.
    """
    choices = choices_of(*groups)
    named = choices.pop("preset")
    return choose_settings(preset or named, **choices)


def objective_of(group: GraphObjective) -> objective.Objective:
    """Return the objective of a graph."""
    chosen = settings_of(group).objective
    if group.rounding is None:
        return chosen
    return replace(chosen, pool_rounding=check_pooling(chosen.pooling, group.rounding)[1])


def _split_scales(scales: str | None) -> dict[str, Any]:
    if scales is None:
        return {}
    if scales.strip().lower() == "auto":
        return {"auto_scales": True}
    try:
        return {"scales": int(scales)}
    except ValueError:
        raise UsageError(
            f"expected auto or a number of scales, got {describe(scales)}; try --scales auto",
            setting="scales",
        ) from None
