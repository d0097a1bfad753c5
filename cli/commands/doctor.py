"""``nstx doctor``: what this machine can do."""

from typing import Any

import typer

from ..formats import format_bytes
from ..grouped import grouped
from ..options import shared as options

app = typer.Typer(add_completion=False)


@app.command()
@grouped
def doctor(shown: options.Output) -> None:
    """Say which devices, precisions and ONNX Runtime providers really work here.

    Exits with 1 if something stands in the way of 'nstx optimize'.
    """
    from nstx.engine.diagnosis import diagnose

    console = shown.console()
    report = diagnose()
    console.result(report, _describe)
    if report["problems"]:
        raise typer.Exit(1)


def _describe_bf16(device: dict[str, Any]) -> str:
    if device["bf16"] == "none":
        return "PyTorch has no bf16 here"
    if device["bf16"] == "plain":
        return "bf16 works, slowly: oneDNN has no kernels for it here"
    return "bf16 is fast here" if device["bf16_units"] else "bf16 is slow here: no units for it"


def _describe(report: dict[str, Any]) -> str:
    machine = report["machine"]
    lines = [
        f"machine    {machine['system']}, Python {machine['python']}",
        (
            f"           {machine['cores']} cores, {format_bytes(machine['memory_bytes'])} memory, "
            f"{format_bytes(machine['memory_available_bytes'])} free"
        ),
    ]
    for device in report["devices"]:
        more = f"  {device['model']}" if "model" in device else ""
        if "bf16" in device:
            more += f"  ({_describe_bf16(device)})"
        if "kernels" in device:
            kernels = device["kernels"]
            reason = f": {kernels['reason']}" if kernels["reason"] else ""
            more += f"  (kernels by {kernels['name']}{reason})"
        lines.append(f"device     {device['name']:<8} {', '.join(device['precisions'])}{more}")
    for provider in report["providers"]:
        state = "loads" if provider["loads"] else "listed, but does not load"
        lines.append(f"provider   {provider['name']:<26} {state}")
    weights, cache = report["weights"], report["cache"]
    digest = weights["sha256"][:12] if weights["sha256"] else "missing"
    lines.append(f"weights    {weights['source']}, sha256 {digest}…")
    lines.append(f"cache      {cache['folder'] or 'nowhere'}, {format_bytes(cache['bytes'])}")
    packages = [f"{name} {version}" for name, version in report["packages"].items() if version]
    lines.append(f"packages   {', '.join(packages)}")
    lines += [f"PROBLEM    {problem}" for problem in report["problems"]]
    if not report["problems"]:
        lines.append("all is well")
    return "\n".join(lines)
