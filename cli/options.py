"""The options that commands share, each with its environment variable, in one place.

A default of None means: as the preset has it. Values are checked by the library, not here, so that
a library user and a command-line user read the same message.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

_SWEPT = "Compared: several values, separated by commas"
_OBJECTIVE = "Objective"
_SIZE = "Size"
_SOLVER = "Solver"
_MACHINE = "Machine"
_OUTPUT = "Output"


def _option(flag: str, text: str, panel: str, **more: Any) -> Any:
    # Brackets are markup to typer, which would leave them out.
    text = text.replace("[", r"\[")
    variable = "NSTX_" + flag.lstrip("-").replace("-", "_").upper()
    return typer.Option(
        flag, help=text, rich_help_panel=panel, envvar=variable, show_envvar=False, **more
    )


Preset = Annotated[
    str,
    _option(
        "--preset", "Objective and solver to start from: default, coursera, gatys.", _OBJECTIVE
    ),
]
ContentLayers = Annotated[
    str | None,
    _option(
        "--content-layers",
        "Layers of the content cost, as name or name:weight, separated by commas.",
        _OBJECTIVE,
    ),
]
StyleLayers = Annotated[
    str | None,
    _option(
        "--style-layers",
        "Layers of the style cost, as name or name:weight, separated by commas.",
        _OBJECTIVE,
    ),
]
ContentWeight = Annotated[
    float | None, _option("--content-weight", "Weight of the content cost (α).", _OBJECTIVE)
]
StyleWeight = Annotated[
    float | None,
    _option(
        "--style-weight",
        "Weight of the style cost (β); more of it, more of the painting.",
        _OBJECTIVE,
    ),
]
TvWeight = Annotated[
    float | None,
    _option("--tv-weight", "Weight of the total variation, which smooths.", _OBJECTIVE),
]
Pooling = Annotated[str | None, _option("--pooling", "max or avg.", _OBJECTIVE)]
Rounding = Annotated[
    str | None,
    _option(
        "--rounding",
        "What a pooling makes of odd sizes: ceil (75 to 38) or floor (75 to 37).",
        _OBJECTIVE,
    ),
]
StyleScale = Annotated[
    float,
    _option(
        "--style-scale",
        "Long side of the style pictures as a multiple of the result's; "
        "larger makes larger strokes.",
        _SIZE,
    ),
]
Size = Annotated[
    int | None,
    _option("--size", "Long side of the result in pixels. [default: 512; coursera: 400]", _SIZE),
]
Width = Annotated[int | None, _option("--width", "Width in pixels; alone, in proportion.", _SIZE)]
Height = Annotated[
    int | None, _option("--height", "Height in pixels; alone, in proportion.", _SIZE)
]
Scales = Annotated[
    str | None,
    _option(
        "--scales",
        "Scales from coarse to fine: auto or a number; 1 works at the final size only.",
        _SIZE,
    ),
]
Steps = Annotated[
    int | None,
    _option(
        "--steps",
        "Solver iterations, over all scales. [default: 150; coursera: 200; gatys: 500]",
        _SOLVER,
    ),
]
Solver = Annotated[str | None, _option("--solver", "adam or lbfgs.", _SOLVER)]
LearningRate = Annotated[
    float | None, _option("--learning-rate", "Of Adam, in pixel values (0–255).", _SOLVER)
]
Init = Annotated[
    str | None,
    _option(
        "--init",
        "Start: content, matched (it, in the style's colours), noise, blend (noise and content), or a "
        "picture's path; a .npy of (height, width, 3) RGB numbers on the scale 0–255 is taken as it is.",
        _SOLVER,
    ),
]
Seed = Annotated[int, _option("--seed", "Of the noise in the start.", _SOLVER)]
SweptContentLayers = Annotated[
    str | None,
    _option(
        "--content-layers",
        "Layers to compare, separated by commas; those that one run uses together are joined by +. "
        "[default, if nothing else is compared: conv3_2,conv4_2,conv5_2]",
        _SWEPT,
    ),
]
SweptInit = Annotated[
    str | None,
    _option("--init", "Starts: content, matched, noise, blend, or pictures' paths.", _SWEPT),
]
SweptContentWeight = Annotated[
    str | None, _option("--content-weight", "Weights of the content cost (α).", _SWEPT)
]
SweptStyleWeight = Annotated[
    str | None, _option("--style-weight", "Weights of the style cost (β).", _SWEPT)
]
SweptStyleScale = Annotated[
    str | None,
    _option(
        "--style-scale", "Long sides of the style pictures as multiples of the result's.", _SWEPT
    ),
]
SweptSteps = Annotated[str | None, _option("--steps", "Solver iterations.", _SWEPT)]
Device = Annotated[str, _option("--device", "auto, cpu, cuda[:N] or mps.", _MACHINE)]
Precision = Annotated[
    str,
    _option(
        "--precision",
        "Of the convolutions: auto, fp32, tf32, bf16, fp16. Gram matrices and "
        "costs are always fp32.",
        _MACHINE,
    ),
]
Backend = Annotated[
    str,
    _option(
        "--backend",
        "What computes the gradient: auto, torch, onnx. auto is onnx on the CPU in fp32, else torch.",
        _MACHINE,
    ),
]
Extractor = Annotated[
    str,
    _option(
        "--extractor",
        "What computes features: auto, onnx (ONNX Runtime), tensorrt (its TensorRT provider), "
        "torch. auto takes onnx where it has a provider for the device.",
        _MACHINE,
    ),
]
Weights = Annotated[
    str,
    _option(
        "--weights",
        "VGG-19's weights: embedded, or a .pth, .h5, .mat or .safetensors file.",
        _MACHINE,
    ),
]
Threads = Annotated[int | None, _option("--threads", "Threads of the CPU.", _MACHINE)]
NoCache = Annotated[
    bool,
    typer.Option(
        "--no-cache",
        help="Neither read nor write the cache folder.",
        rich_help_panel=_MACHINE,
        envvar="NSTX_NO_CACHE",
        show_envvar=False,
    ),
]
Model = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        help="The file to write; its parity report goes beside it.",
        metavar="FILE.onnx",
        show_default=False,
    ),
]
SaveEvery = Annotated[
    int | None,
    _option(
        "--save-every",
        "Also save the picture every N steps, as OUT_0020.png.",
        _OUTPUT,
        metavar="N",
    ),
]
Animate = Annotated[
    Path | None,
    _option(
        "--animate",
        "Also save how the picture develops: FILE.gif, .webp or .mp4.",
        _OUTPUT,
        metavar="FILE",
    ),
]
Trace = Annotated[
    Path | None,
    _option(
        "--trace",
        "Also write a line of JSON per step: step, costs, seconds.",
        _OUTPUT,
        metavar="FILE.jsonl",
    ),
]
SaveInit = Annotated[
    Path | None,
    _option(
        "--save-init",
        "Also save the start at the result's size, before the first step; as .npy, --init FILE begins "
        "the same run again.",
        _OUTPUT,
        metavar="FILE",
    ),
]
Report = Annotated[
    str,
    _option(
        "--report",
        "bar, or assignment: every 20 iterations the costs, as the deeplearning.ai assignment prints "
        "them, on stdout (with --json on stderr; with --quiet not at all).",
        _OUTPUT,
    ),
]
Targets = Annotated[
    Path | None,
    _option(
        "--targets",
        "Optimise from a file of 'nstx precompute', without CONTENT and STYLE.",
        _OUTPUT,
        metavar="FILE",
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON object on stdout.",
        rich_help_panel=_OUTPUT,
        envvar="NSTX_JSON",
        show_envvar=False,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="Print errors only.",
        rich_help_panel=_OUTPUT,
        envvar="NSTX_QUIET",
        show_envvar=False,
    ),
]
