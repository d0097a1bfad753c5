"""The manifest of a picture: what it was made from, as plain data that its file carries.

Of files it has names and checksums, no path, as pictures are given to others; and nothing that differs between
two equal runs, so that these still give equal files.
"""

from dataclasses import asdict
from typing import Any

from nstx.models.printable import last_part
from nstx.models.version import __version__
from nstx.models.weights.sources import EMBEDDED, join_source, split_source

from ..checkpoints.manifest import write_settings
from ..checkpoints.runs import Run, make_manifest
from ..settings import OF_THIS_MACHINE

FORMAT = "nstx-picture-1"


def describe_picture(run: Run, *, is_complete: bool) -> dict[str, Any]:
    """Return the manifest of what a run has led to, but for how it is saved."""
    manifest = make_manifest(run)
    inputs = [{**asdict(item), "path": last_part(item.path)} for item in manifest.inputs]
    for item in inputs:
        for name in ("colors", "layers", "mask", "mask_sha256"):
            if item[name] is None:
                del item[name]
        if "mask" in item:
            item["mask"] = last_part(item["mask"])
    plain = write_settings(manifest.settings)
    settings = {name: value for name, value in plain.items() if name not in OF_THIS_MACHINE}
    if manifest.backend["device"] != "cpu" and settings["tile"] is None:
        # Threads of the host have no part in it, and a worker of a batch has others than a run alone.
        settings["threads"] = None
    # A start that is a picture stands among the inputs, however it was named.
    starts = [item["path"] for item in inputs if item["role"] == "init"]
    settings["init"] = starts[0] if starts else settings["init"]
    if settings["weights"] != EMBEDDED:
        file, convention = split_source(settings["weights"])
        name = last_part(str(file))
        settings["weights"] = join_source(name, convention)
    return {
        "format": FORMAT,
        "version": __version__,
        "complete": is_complete,
        "inputs": inputs,
        "settings": settings,
        "weights_sha256": manifest.weights_sha256,
        "sizes": manifest.sizes,
        "backend": manifest.backend,
        "machine": manifest.machine,
    }
