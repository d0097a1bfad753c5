"""What ``nstx submit`` does with its options: ask, show how it goes, save."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstx.engine.client.client import Client
from nstx.engine.client.records import RemoteEvent, RemoteJob
from nstx.engine.targets.paintings import split_painting
from nstx.models.errors import NstxError, UsageError
from nstx.models.printable import printable
from nstx.models.storage.files import check_distinct, check_output
from nstx.models.storage.inputs import read_input

from ..choices import split_style, split_styles_for
from ..console import Console, Pace
from ..formats import format_cost, format_seconds
from ..options import shared as options
from ..options.saving import check_depths

if TYPE_CHECKING:
    from ..grouped import Group
    from ..options.regions import Regions
    from ..options.saving import Saved
    from .asking import Asking

_FORMATS = {
    ".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".webp": "webp", ".avif": "avif", ".tif": "tiff",
    ".tiff": "tiff",
}  # fmt: skip
_MOST_TOKEN = 4096  # bytes


def run_submit(
    content: Path,
    styles: Sequence[str],
    output: Path,
    asking: "Asking",
    groups: Sequence["Group"],
    region: "Regions",
    saved: "Saved",
    console: Console,
) -> None:
    """Have a picture made, and save it; what ends this meanwhile cancels the job."""
    began = time.perf_counter()
    check_output(output, tuple(_FORMATS))
    files, masks, chosen = _choose_styles(styles, region)
    maps = [path for path in (region.regions, _mask_file(region.mask), *masks) if path is not None]
    check_distinct([output], [content, *files, *maps])
    fields = {**_choose(groups), **_choose_saving(saved, output), "styles": chosen}
    client = Client(asking.server, token=_read_token(asking.token_file), patience=asking.patience)
    server = printable(asking.server)
    with console.working(f"asking {server}, for {asking.patience:.0f} s at most if it is away"):
        job = client.submit(
            content,
            files,
            style_masks=masks,
            mask=region.mask,
            regions=region.regions,
            options=fields,
        )
    if asking.detach:
        console.result({"id": job.id, "server": asking.server}, lambda data: str(data["id"]))
        return
    try:
        job = _watch(client, job, console)
        job.check()
        client.save(job.id, output)
    except (KeyboardInterrupt, SystemExit):
        with contextlib.suppress(NstxError):
            Client(asking.server, token=_read_token(asking.token_file), patience=1).cancel(job.id)
            console.warn(f"canceled; the server keeps the picture so far of job {job.id}")
        raise
    data = {
        "output": str(output), "id": job.id, "server": asking.server, **({} if job.result is None else asdict(job.result)),
        "seconds_waited": round(time.perf_counter() - began, 3),
    }  # fmt: skip
    console.result(data, _describe)


def _choose(groups: Sequence["Group"]) -> dict[str, Any]:
    """Return what was chosen differently from the preset, as the server takes it."""
    choices = options.choices_of(*groups)
    if choices.pop("auto_scales", False):
        choices["scales"] = "auto"
    return {name: value for name, value in choices.items() if value is not None}


def _choose_saving(saved: "Saved", output: Path) -> dict[str, Any]:
    check_depths(saved.depth)
    depth = None if saved.depth == "auto" else int(saved.depth)
    return {
        "format": _FORMATS[output.suffix.lower()], "depth": depth, "keep_profile": saved.keep_profile,
        "manifest": not saved.no_manifest,
    }  # fmt: skip


def _choose_styles(
    styles: Sequence[str], region: "Regions"
) -> tuple[list[Path], list[Path | None], list[dict[str, Any]]]:
    """Return the files of the styles, those of their masks, and what the server is told of each."""
    named: list[tuple[Path, float, str | None]] = [(*split_style(text), None) for text in styles]
    for colour, blend in split_styles_for(region.style_for or ()).items():
        named += [(path, weight, colour) for path, weight in blend]
    files, chosen = list[Path](), list[dict[str, Any]]()
    masks = list[Path | None]()
    for path, weight, region_colour in named:
        painting = split_painting(path)
        files.append(Path(painting.file))
        masks.append(None if painting.mask is None else Path(painting.mask))
        layers = ",".join(painting.layers) or None
        chosen.append({"weight": weight, "layers": layers, "region": region_colour})
    return files, masks, chosen


def _mask_file(mask: str | None) -> Path | None:
    return None if mask in (None, "alpha") else Path(str(mask))


def _read_token(path: Path | None) -> str | None:
    if path is None:
        return None
    data = read_input(path, kind="a token", most_bytes=_MOST_TOKEN, error=UsageError)
    return data.decode("ascii", "replace").strip()


def _watch(client: Client, job: RemoteJob, console: Console) -> RemoteJob:
    """Show how a job goes until it has ended, and return it."""
    pace = Pace()
    with console.bar("waiting", job.steps or 1) as update:

        def show(event: RemoteEvent) -> None:
            if event.kind == "status":
                waits = event.data.get("status") == "queued"
                ahead = f", {job.position} before it" if waits and job.position else ""
                update(description=f"{'waiting' if waits else 'running'}{ahead}")
            elif event.kind == "step":
                _show_step(event.data, console, pace, update)

        return client.wait(job.id, show)


def _show_step(data: Mapping[str, Any], console: Console, pace: Pace, update: Any) -> None:
    step, steps, cost = int(data["step"]), int(data["steps"]), float(data["cost"])
    detail = f"step {step}/{steps}  cost {format_cost(cost)}"
    update(completed=step, total=steps, detail=detail)
    if not console.animated and step < steps and pace.is_due(step / steps):
        console.log(f"{detail}, {step / steps:.0%}")


def _describe(data: dict[str, Any]) -> str:
    cost = (data.get("cost") or {}).get("total")
    costs = "" if cost is None else f"  cost {format_cost(cost)}"
    return f"saved {printable(data['output'])}{costs}, in {format_seconds(data['seconds_waited'])}"
