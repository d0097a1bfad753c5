"""What may be asked for with a job: fields of `Settings`, checked where those of every run are, and how it is saved."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from nstx.models.errors import OutputError, UsageError, about
from nstx.models.storage.plain_data import parse_json
from nstx.models.values import check_flag, check_number, check_whole, describe, refuse, suggest
from nstx.models.vgg19 import split_layers

from ..archive.folder import FORMATS
from ..archive.limits import MOST_STYLES, ServiceLimits
from ..choices import Choices, choose_settings
from ..pictures.writing import Depth, check_depth
from ..settings import INITS, Settings
from ..targets.basis import SIZES
from .refusals import Refusal

OF_THE_SERVER = (
    "device", "precision", "backend", "extractor", "threads", "weights", "tile", "history",
    "max_memory", "use_cache", "large",
)  # fmt: skip
"""Settings that whoever starts the server chooses."""

_LISTS = ("content_layers", "style_layers")
_OTHERS = ("preset", "styles", "mask", "format", "depth", "keep_profile", "manifest")
FIELDS = (*(name for name in Choices.__annotations__ if name not in OF_THE_SERVER), *_OTHERS)
"""Of the options of a job; and ``init``, which is among the choices."""

_KNOWN = tuple(dict.fromkeys(("init", *FIELDS)))
_MOST_LAYERS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class StyleOptions:
    """Of one style: how much it counts, in which layers, where on a map, and whether a mask says what of it counts."""

    weight: float = 1.0
    layers: str | None = None
    region: str | None = None
    mask: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """The options of a job.

    Attributes:
        given: as they were given.
        chosen: what differs from the preset of a targets file; None where another preset was named.
        format: of the result, one of `FORMATS`.
        by_alpha: whether the content's own transparency is the mask.
    """

    given: Mapping[str, Any]
    chosen: Mapping[str, Any] | None
    settings: Settings
    styles: tuple[StyleOptions, ...]
    format: str = "png"
    by_alpha: bool = False
    depth: Depth | None = None
    keep_profile: bool = False
    manifest: bool = True


def read_options(
    text: str | None, styles: int, limits: ServiceLimits, machine: Mapping[str, Any]
) -> JobOptions:
    """Return the options in a JSON text, with what the server chooses for its machine.

    Args:
        text: an object; None and an empty text stand for one without fields.
        styles: how many were sent.
        limits: of steps; those of pixels are checked where the pictures' sizes are known.
        machine: values of `OF_THE_SERVER`.

    Raises:
        Refusal: an option cannot be.
    """
    try:
        return _read(_parse(text), styles, limits, machine)
    except (UsageError, OutputError) as error:
        raise Refusal("unprocessable", str(error), setting=error.setting) from error


def _parse(text: str | None) -> dict[str, Any]:
    try:
        data = parse_json(text) if text and text.strip() else {}
        # Half a surrogate pair is text that no answer about the job could hold.
        json.dumps(data, ensure_ascii=False).encode()
    except ValueError as error:
        raise UsageError(
            f"expected options as JSON, got what is none ({str(error)[:200]}); try {{}}",
            setting="options",
        ) from error
    if not isinstance(data, dict):
        raise UsageError(
            f"expected an object of options, got {describe(data)}; try {{}}", setting="options"
        )
    if unknown := [name for name in data if name not in _KNOWN]:
        owner = ", which is the server's to choose" if unknown[0] in OF_THE_SERVER else ""
        raise UsageError(
            f"expected options among {', '.join(_KNOWN)}, got {describe(unknown[0])}{owner}; try "
            f"{suggest(unknown[0], _KNOWN, 'size')}",
            setting="options",
        )
    return {name: value for name, value in data.items() if value is not None}


def _read(
    data: dict[str, Any], styles: int, limits: ServiceLimits, machine: Mapping[str, Any]
) -> JobOptions:
    chosen = {name: value for name, value in data.items() if name not in _OTHERS}
    preset = data.get("preset", "default")
    if not isinstance(preset, str):
        raise refuse("a name", "preset", preset, "default")
    for name in _LISTS:
        if name in chosen:
            chosen[name] = _take_layers(name, chosen[name])
    if chosen.get("scales") == "auto":
        chosen = {**chosen, "scales": None, "auto_scales": True}
    init = chosen.get("init", "content")
    if init not in INITS:
        raise refuse(f"one of {', '.join(INITS)}", "init", init, "content")
    # A size that a stranger names allows no larger pictures.
    chosen = {"large": False, **chosen, **machine}
    settings = choose_settings(preset, **chosen)
    check_steps(settings, limits)
    result = data.get("format", "png")
    if not isinstance(result, str) or result not in FORMATS:
        raise refuse(f"one of {', '.join(FORMATS)}", "format", result, "png")
    depth = data.get("depth")
    if depth is not None:
        with about("depth"):
            depth = cast("Depth", check_whole("depth", depth, 16))
            check_depth(depth, FORMATS[result])
    mask = data.get("mask")
    if mask not in (None, "alpha"):
        raise refuse("alpha, or a file in place of the option,", "mask", mask, "alpha")
    return JobOptions(
        given=data,
        chosen=None if "preset" in data else chosen,
        settings=settings,
        styles=_read_styles(data.get("styles", [{}] * styles), styles),
        format=result,
        by_alpha=mask == "alpha",
        depth=depth,
        keep_profile=check_flag("keep_profile", data.get("keep_profile", False)),
        manifest=check_flag("manifest", data.get("manifest", True)),
    )


def check_steps(settings: Settings, limits: ServiceLimits) -> None:
    """Raise `Refusal` if there may be more steps than a job may have."""
    if settings.most_steps > limits.max_steps:
        error = refuse(
            f"at most {limits.max_steps} on this server", "steps", settings.steps, limits.max_steps
        )
        raise Refusal("unprocessable", str(error), setting="steps")


def check_beside_targets(options: JobOptions) -> None:
    """Raise `Refusal` if options name what a targets file has itself, or has none of."""
    for name in (*SIZES, "mask", "keep_profile"):
        if options.given.get(name):
            raise Refusal(
                "unprocessable",
                f"expected targets without {name}, as they have their own, or none, got both; try 'nstx precompute' with "
                "it, or the pictures",
                setting=name,
            )


def _take_layers(name: str, value: object) -> str:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise refuse("names of layers", name, value, "conv4_2")
    if len(items) > _MOST_LAYERS:
        raise refuse(f"at most {_MOST_LAYERS} layers", name, len(items), "conv4_2")
    return ",".join(items)


def _read_styles(items: object, count: int) -> tuple[StyleOptions, ...]:
    if count > MOST_STYLES:
        raise UsageError(
            f"expected at most {MOST_STYLES} styles, got {count}; try the first ones",
            setting="styles",
        )
    if not isinstance(items, Sequence) or isinstance(items, str) or len(items) != count:
        raise UsageError(
            f"expected a list of {count}, one for each style, got {describe(items)}; try [{{}}]",
            setting="styles",
        )
    with about("styles"):
        return tuple(_read_style(item) for item in items)


def _read_style(item: object) -> StyleOptions:
    names: Collection[str] = StyleOptions.__dataclass_fields__
    if not isinstance(item, dict) or (set(item) - set(names)):
        raise UsageError(
            f"expected an object with {', '.join(names)} for a style, got {describe(item)}; try "
            '{"weight": 2}'
        )
    present = {name: value for name, value in item.items() if value is not None}
    weight = check_number("weight", present.get("weight", 1.0))
    if weight <= 0:
        raise refuse("a number above 0", "weight", weight, 1)
    layers, region = present.get("layers"), present.get("region")
    if isinstance(layers, list):
        layers = _take_layers("layers", layers)
    for name, value in (("layers", layers), ("region", region)):
        if value is not None and (not isinstance(value, str) or not 0 < len(value) <= 200):
            raise refuse("a short text", name, value, "conv1_1")
    if layers is not None:
        layers = ",".join(split_layers(layers))
    masked = check_flag("mask", present.get("mask", False))
    return StyleOptions(weight=weight, layers=layers, region=region, mask=masked)
