"""What ``nstx export`` shows of the files that it has written."""

from typing import Any

from ..formats import format_bytes, format_seconds


def describe_features(data: dict[str, Any]) -> str:
    """Return what is shown of a network's file."""
    parity = data["parity"]
    network = f"VGG-19 to {data['truncated_at']}, {data['precision']}, opset {data['opset']}"
    stored = "  stored in fp16" if parity["precision"] == "fp16" else ""
    pictures = "a picture" if parity["batch"] == 1 else f"{parity['batch']} pictures"
    lines = [
        f"saved {data['output']}  {format_bytes(data['bytes'])}, {network}",
        f"  input   {data['input']['name']}: {data['input']['is']}",
        f"  {'output':<14} {'shape here':<18} {'largest':>9}  relative error{stored}",
    ]
    lines += [
        f"  {item['name']:<14} {' × '.join(map(str, item['shape'])):<18} "
        f"{item['largest']:>9.3g}  {item['relative_error']:.1e}"
        + (f"         {item['fp16_storage_error']:.1e}" if stored else "")
        for item in parity["outputs"]
    ]
    lines.append(
        f"  against float64 on {pictures} of {parity['width']}×{parity['height']} "
        f"by {parity['provider']}: at most {parity['tolerance']:g} is allowed"
    )
    if parity["precision"] == "fp16" and not parity["fp16_arithmetic"]:
        lines.append(
            "  this provider rounds only weights to fp16; the last column is of activations "
            "in fp16 too, as on a GPU"
        )
    lines.append(f"  report  {data['parity_file']}, in {format_seconds(data['seconds'])}")
    return "\n".join(lines)


def describe_gradient(data: dict[str, Any]) -> str:
    """Return what is shown of a gradient's file."""
    parity = data["parity"]
    errors = f"cost {parity['cost_error']:.1e} (at most {parity['cost_tolerance']:g})"
    if parity["gradient_errors"]:
        gradients = ", ".join(f"{error:.1e}" for error in parity["gradient_errors"])
        errors = f"gradients {gradients} (at most {parity['kink_tolerance']:g}, one {parity['gradient_tolerance']:g}), {errors}"
    if parity["step_error"] is not None:
        errors += f", Adam's step {parity['step_error']:.1e} pixel values"
    lines = [
        f"saved {data['output']}  {format_bytes(data['bytes'])}, {data['precision']}, opset {data['opset']}",
        f"  inputs   {', '.join(data['inputs'])}",
        f"  outputs  {', '.join(data['outputs'])}",
        f"  against float64, relative: {errors}",
        f"           on {parity['batch']} pictures of {parity['width']}×{parity['height']} by {parity['provider']}",
        f"  report   {data['parity_file']}, in {format_seconds(data['seconds'])}",
    ]
    return "\n".join(lines)
