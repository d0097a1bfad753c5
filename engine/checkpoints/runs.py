"""What a checkpoint says of a job, and what is known of it before it is read."""

import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nstx.models.weights.sources import EMBEDDED, join_source, split_source

from ..devices.machine import describe_processor, package_versions
from ..gradients.opening import BackendFactory
from ..pictures.picture import InputFile, Picture, Pixels
from ..regions.masks import ALPHA
from ..settings import INITS, Settings
from ..solvers.choice import is_ahead
from ..targets.targets import Targets
from .contents import Facts
from .manifest import Manifest

_LIBRARIES = {"onnx": ("numpy", "onnxruntime", "onnxruntime-gpu"), "torch": ("numpy", "torch")}


class Run(Protocol):
    """What is asked of a job."""

    @property
    def settings(self) -> Settings:
        """Of the run."""

    @property
    def opened(self) -> BackendFactory:
        """Makes its backends."""

    @property
    def contents(self) -> Sequence[Pixels]:
        """The content picture at each scale."""

    @property
    def targets(self) -> Sequence[Targets]:
        """Of each scale."""

    @property
    def inputs(self) -> Sequence[InputFile]:
        """Its files."""

    @property
    def init(self) -> Picture | None:
        """The picture that it starts from, if one was named or made."""

    @property
    def beyond(self) -> Pixels | None:
        """The content's colours beyond sRGB."""


def make_manifest(run: Run) -> Manifest:
    """Return what a job is of, its files by the paths that they were named by."""
    opened = run.opened
    choice = opened.choice
    return Manifest(
        settings=run.settings,
        inputs=tuple(run.inputs),
        pictures={},
        weights_sha256=opened.weights_sha256,
        sizes=tuple((target.height, target.width) for target in run.targets),
        backend={
            "backend": choice.name, "device": str(choice.device), "precision": choice.precision,
            "checked": choice.checked,
        },
        machine=_describe_machine(choice.name),
        wide=run.beyond is not None,
    )  # fmt: skip


def describe_kept(run: Run, request: Mapping[str, Any] | None = None) -> Manifest:
    """Return what a checkpoint of a job is of."""
    return replace(
        make_manifest(run),
        settings=with_absolute_paths(run.settings),
        inputs=tuple(
            item
            if item.sha256 is None or (item.role, item.path) == ("mask", ALPHA)
            else replace(
                item,
                path=_absolute(item.path),
                mask=None if item.mask is None else _absolute(item.mask),
            )
            for item in run.inputs
        ),
        pictures=dict(_digest_pictures(run)),
        request=request,
    )


def with_absolute_paths(settings: Settings) -> Settings:
    """Return settings whose start and weights, if they are files, are named from the root on."""
    return with_moved_files(settings, Path.absolute)


def with_moved_files(settings: Settings, move: Callable[[Path], Path]) -> Settings:
    """Return settings whose start and weights, if they are files, are elsewhere."""
    if settings.init not in INITS:
        settings = replace(settings, init=str(move(Path(settings.init))))
    if settings.weights != EMBEDDED:
        file, convention = split_source(settings.weights)
        settings = replace(settings, weights=join_source(str(move(Path(file))), convention))
    return settings


def _absolute(path: str | Path) -> str:
    return str(Path(path).absolute())


def _digest_pictures(run: Run) -> Iterator[tuple[str, str]]:
    """Yield digests of what a run is made of, where its files do not tell."""
    yield "content", _digest([run.contents[-1]])
    unnamed = {item.role for item in run.inputs if item.sha256 is None}
    if "init" in unnamed and run.init is not None:
        yield "init", run.init.digest
    # What came of them is all that there is of the others.
    aims = [part for target in run.targets for part in (target.style, target.shares)]
    kept = [target.region for target in run.targets if target.region is not None]
    regions = [region.counts for region in kept]
    regions += [region.parts for region in kept if region.parts is not None]
    for role in sorted(unnamed - {"content", "init"}):
        yield role, _digest([*(array for part in aims for array in part.values()), *regions])


def _digest(arrays: Sequence[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


@functools.cache  # it does not change, and packages are looked for on the disk
def _describe_machine(backend: str) -> Mapping[str, str]:
    versions = package_versions(_LIBRARIES[backend])
    processor = {
        "processor": describe_processor(),
        "processors": str(os.cpu_count()),
    }
    return processor | {name: version for name, version in versions.items() if version is not None}


def facts_of(run: Run) -> Facts:
    """Return what is known of a job's checkpoint before it is read."""
    opened, settings = run.opened, run.settings
    on_device = opened.arrays.must_be_awaited
    if settings.solver == "adam":
        region = run.targets[-1].region
        is_gated = region is not None and region.mask is not None
        on_device = is_ahead(settings, opened, is_gated=is_gated)
    backend = "seed" if opened.choice.name == "torch" else "none"
    return Facts(
        objective=settings.objective,
        steps=settings.most_steps,
        targets=run.targets,
        solver=settings.solver,
        on_device=on_device,
        backend=backend if opened.plan is None else "checked",
        stages=1 if opened.plan is None else len(opened.plan.stages),
    )
