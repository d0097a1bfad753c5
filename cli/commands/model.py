"""``nstx model``: the layer table."""

from typing import Annotated, Any

import typer

from nstx.models.errors import about

from ..grouped import Help, grouped, only
from ..options import shared as options

app = typer.Typer(add_completion=False)

_FIELDS = ("name", "shape", "stride", "receptive_field", "flops_per_pixel")


@app.command()
@grouped
def model(
    size: Annotated[int | None, Help("Long side in pixels. [default: 400]")] = None,
    pooling: Annotated[str, Help("Call the poolings avg or max.")] = "avg",
    rounding: Annotated[
        str, Help("A pooling brings odd sizes up (ceil) or down (floor).")
    ] = "ceil",
    until: Annotated[str, Help("Stop at this layer.")] = "pool5",
    *,
    sides: Annotated[options.Size, only("width", "height")],
    shown: options.Output,
) -> None:
    """Print VGG-19's layers: shape for a picture's size, stride, receptive field, operations.

    Without a size, the picture is the assignment's 400×300; a single side is taken as of 4:3.
    """
    from nstx.engine.sizes import fit_size
    from nstx.models.vgg19 import check_pooling, flops_per_pixel, truncate

    console = shown.console()
    width, height = sides.width, sides.height
    if size is None and width is None and height is None:
        size = 400
    rows, columns = fit_size((300, 400), size=size, height=height, width=width)
    kind, direction = check_pooling(pooling, rounding)
    with about("until"):
        layers = truncate([until])
    table: list[tuple[Any, ...]] = [("input", (1, rows, columns, 3), 1, 1, 0.0)]
    for layer in layers:
        name = layer.name if layer.kind == "conv" else f"{kind}{layer.name}"
        shape = (1, *layer.output_size(rows, columns, direction), layer.channels)
        table.append((name, shape, layer.stride, layer.receptive_field, layer.flops_per_pixel))
    total = flops_per_pixel(layers)
    lines = [f"{'layer':<10} {'shape':<22} {'stride':>6} {'field':>6} {'kFLOP/px':>9}"]
    lines += [
        f"{name:<10} {shape!s:<22} {stride:>6} {field:>6} {flops / 1e3:>9.1f}"
        for name, shape, stride, field, flops in table
    ]
    lines.append(
        f"convolutions: {total / 1e3:.0f} kFLOP per pixel, "
        f"{total * rows * columns / 1e9:.1f} GFLOP forward at {columns}×{rows}"
    )
    entries = [dict(zip(_FIELDS, row, strict=True)) for row in table]
    data = {"height": rows, "width": columns, "layers": entries, "flops_per_pixel": total}
    console.result(data, lambda _: "\n".join(lines))
