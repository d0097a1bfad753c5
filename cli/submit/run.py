"""What ``nstx submit`` does with its options: ask, show how it goes, save."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstx.engine.client.client import Client
from nstx.engine.client.records import RemoteEvent, RemoteJob
from nstx.engine.targets.basis import SIZES
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
from ..options.targets import saved_colours, saved_preset

if TYPE_CHECKING:
    from nstx.engine.targets.files import SavedTargets

    from ..grouped import Group
    from ..options.regions import Regions
    from ..options.saving import Saved
    from .asking import Asking

_FORMATS = {
    ".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".webp": "webp", ".avif": "avif", ".tif": "tiff",
    ".tiff": "tiff",
}  # fmt: skip
_MOST_TOKEN = 4096  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The files that are sent: of pictures, or targets.

    Attributes:
        style_masks: of each style, the file of its mask, if it has one.
        mask: a file, or ``alpha``.
        described: what the server is told of each style.
    """

    content: Path | None = None
    styles: tuple[Path, ...] = ()
    style_masks: tuple[Path | None, ...] = ()
    mask: str | None = None
    regions: Path | None = None
    targets: Path | None = None
    described: tuple[Mapping[str, Any], ...] = ()

    @property
    def files(self) -> list[Path]:
        """All of them."""
        mask = None if self.mask in (None, "alpha") else Path(str(self.mask))
        named = (self.content, *self.styles, *self.style_masks, mask, self.regions, self.targets)
        return [path for path in named if path is not None]


def run_submit(
    sent: Sent,
    output: Path,
    asking: "Asking",
    fields: Mapping[str, Any],
    saved: "Saved",
    console: Console,
) -> None:
    """Have a picture made, and save it; what ends this meanwhile cancels the job."""
    began = time.perf_counter()
    check_output(output, tuple(_FORMATS))
    check_distinct([output], sent.files)
    if saved.keep_profile and sent.targets is not None:
        raise UsageError(
            "expected CONTENT, whose profile is kept, got targets, which have none; try the pictures"
        )
    fields = {**fields, **_choose_saving(saved, output), "styles": list(sent.described)}
    client = Client(asking.server, token=_read_token(asking.token_file), patience=asking.patience)
    server = printable(asking.server)
    with console.working(f"asking {server}, for {asking.patience:.0f} s at most if it is away"):
        job = client.submit(
            sent.content,
            sent.styles,
            targets=sent.targets,
            style_masks=sent.style_masks,
            mask=sent.mask,
            regions=sent.regions,
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


def choose(*groups: "Group") -> dict[str, Any]:
    """Return what was chosen differently from the preset, as the server takes it."""
    choices = options.choices_of(*groups)
    if choices.pop("auto_scales", False):
        choices["scales"] = "auto"
    return {name: value for name, value in choices.items() if value is not None}


def choose_beside(
    targets: "SavedTargets",
    objective: options.Objective,
    colours: options.Colours,
    size: options.Size,
    solver: options.Solver,
) -> dict[str, Any]:
    """Return what was chosen differently from the preset of targets; sizes of a configuration are not meant for them."""
    preset = saved_preset(objective, targets.chosen)
    colours = saved_colours(colours, targets.chosen)
    dropped = (*SIZES, "large", *(["preset"] if preset is not None else []))
    chosen = choose(objective, colours, size, solver)
    return {name: value for name, value in chosen.items() if name not in dropped}


def _choose_saving(saved: "Saved", output: Path) -> dict[str, Any]:
    check_depths(saved.depth)
    depth = None if saved.depth == "auto" else int(saved.depth)
    return {
        "format": _FORMATS[output.suffix.lower()], "depth": depth, "keep_profile": saved.keep_profile,
        "manifest": not saved.no_manifest,
    }  # fmt: skip


def name_pictures(content: Path, styles: Sequence[str], region: "Regions") -> Sent:
    """Return the pictures of a command line."""
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
    return Sent(
        content=content, styles=tuple(files), style_masks=tuple(masks), mask=region.mask,
        regions=region.regions, described=tuple(chosen),
    )  # fmt: skip


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
