"""What a checkpoint is of: pictures, settings, weights, versions and the machine; read strictly, and compared."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any

from nstx.models.errors import NstxError
from nstx.models.objective import objective_from_json, objective_to_json
from nstx.models.printable import printable
from nstx.models.storage.plain_data import (
    take_field,
    take_flag,
    take_list,
    take_number,
    take_object,
    take_text,
    take_whole,
)
from nstx.models.storage.seals import DIGEST
from nstx.models.version import __version__

from ..pictures.picture import InputFile
from ..settings import BY_ROUNDING, INITS, MAX_SIDE, MOST_SCALES, Settings

_FORMAT = "nstx-checkpoint-1"
_ROLE = "[a-z]{1,20}"
_COLOURS = "#[0-9a-f]{6}(,#[0-9a-f]{6}){0,63}"
_LAYERS = "conv[1-5]_[1-4](,conv[1-5]_[1-4]){0,15}"
_MOST_INPUTS = 1000

# What comes of these settings is compared, and of some nothing but rounding comes.
_BY_OUTCOME = ("device", "backend", "precision", "weights", *BY_ROUNDING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a checkpoint is of.

    Attributes:
        settings: of the run; paths in them are absolute.
        inputs: its files; paths are absolute, but of what came from no file.
        pictures: digests, by role, of the content at the result's size, and of what came from no file.
        weights_sha256: of the weight file.
        sizes: height and width of each scale.
        backend: name, device, precision, and whether it is checked.
        machine: what rounding depends on: processor, libraries.
        wide: whether the content has colours beyond sRGB.
        request: what whoever asked for the run needs to go on with it; it is not looked at here.
    """

    settings: Settings
    inputs: tuple[InputFile, ...]
    pictures: Mapping[str, str]
    weights_sha256: str
    sizes: tuple[tuple[int, int], ...]
    backend: Mapping[str, Any]
    machine: Mapping[str, str]
    wide: bool = False
    request: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        inputs = [asdict(item) for item in self.inputs]
        return {
            "format": _FORMAT,
            "version": __version__,
            **plain,
            "settings": write_settings(self.settings),
            "inputs": inputs,
        }

    def differences(self, other: "Manifest") -> Iterator[str]:
        """Yield, in words, what another run has that this one has not, so that it cannot go on from it."""
        roles = [item.role for manifest in (self, other) for item in manifest.inputs]
        for role in dict.fromkeys(["content", *roles]):
            digests = [
                [item.sha256 for item in manifest.inputs if item.role == role]
                for manifest in (self, other)
            ]
            weights = [
                [
                    (item.weight, item.colors, item.layers, item.mask_sha256)
                    for item in manifest.inputs
                    if item.role == role
                ]
                for manifest in (self, other)
            ]
            if digests[0] != digests[1] or self.pictures.get(role) != other.pictures.get(role):
                yield f"another {role}"
            elif weights[0] != weights[1]:
                yield f"another weight{' or place' * _has_places(self, other)} of a {role}"
        if self.weights_sha256 != other.weights_sha256:
            yield "other weights of the network"
        # What was noted of a gradient that is checked has another form by tiles, as a solver has whose pictures tiles bring
        # from a device to the host; else only rounding differs.
        moves = len({manifest.settings.tile is None for manifest in (self, other)}) > 1
        moves = moves and self.backend.get("device") != "cpu"
        free = () if moves or self.backend.get("checked") else ("tile",)
        for field in fields(Settings):
            values = [_compared(field.name, manifest.settings) for manifest in (self, other)]
            if values[0] != values[1] and field.name not in free:
                yield _describe(field.name, values)
        if self.sizes != other.sizes:
            yield "other sizes"
        for name, value in self.backend.items():
            if value != other.backend.get(name):
                yield f"{name} {printable(other.backend.get(name))} instead of {printable(value)}"

    def roundings(self, other: "Manifest") -> list[str]:
        """Return, in words, what the machine of another run has else, so that the last digits may differ."""
        now, before = (
            dict[str, object](manifest.machine) | {"tile": manifest.settings.tile}
            for manifest in (other, self)
        )
        return [
            f"{name} {printable(now.get(name))[:80]} instead of {printable(before.get(name))[:80]}"
            for name in {**now, **before}
            if now.get(name) != before.get(name)
        ]


def _compared(name: str, settings: Settings) -> Any:
    value = getattr(settings, name)
    if name in _BY_OUTCOME or (name == "init" and value not in INITS):
        return None
    return value


def _has_places(*manifests: Manifest) -> bool:
    items = [item for manifest in manifests for item in manifest.inputs]
    return any((item.colors, item.layers, item.mask) != (None, None, None) for item in items)


def _describe(name: str, values: Sequence[Any]) -> str:
    texts = [printable(value)[:40] for value in values]
    if name == "objective" or texts[0] == texts[1]:
        return f"another {name}"
    return f"{name} {texts[1]} instead of {texts[0]}"


def manifest_from_json(data: Any) -> Manifest:
    """Return a manifest from the plain data in a checkpoint; `ValueError` if a part of it cannot be."""
    if take_text(data, "format") != _FORMAT:
        raise ValueError("it is another kind of file, or of another version")
    version = take_text(data, "version")
    if version != __version__:
        raise ValueError(f"it is of nstx {printable(version)[:20]}, and this is {__version__}")
    pictures = take_object(data, "pictures")
    return replace(
        read_run(data, read_settings(take_object(data, "settings"))),
        pictures={
            take_text({"r": role}, "r", _ROLE): take_text(pictures, role, DIGEST)
            for role in pictures
        },
        wide=take_flag(data, "wide"),
        request=None if take_field(data, "request") is None else take_object(data, "request"),
    )


def read_run(data: Any, settings: Settings) -> Manifest:
    """Return what any manifest says of a run with these settings; `ValueError` if a part of it cannot be."""
    backend, machine = take_object(data, "backend"), take_object(data, "machine")
    return Manifest(
        settings=settings,
        inputs=tuple(map(_read_input, take_list(data, "inputs", _MOST_INPUTS))),
        pictures={},
        weights_sha256=take_text(data, "weights_sha256", DIGEST),
        sizes=tuple(map(_read_size, take_list(data, "sizes", MOST_SCALES))),
        backend={
            **{name: take_text(backend, name) for name in ("backend", "device", "precision")},
            "checked": take_flag(backend, "checked"),
        },
        machine={name: take_text(machine, name) for name in machine},
    )


def write_settings(settings: Settings) -> dict[str, Any]:
    """Return settings as plain data, for `read_settings`."""
    plain = {field.name: getattr(settings, field.name) for field in fields(Settings)}
    return {**plain, "objective": objective_to_json(settings.objective)}


def read_settings(data: dict[str, Any], *, is_whole: bool = True) -> Settings:
    """Return settings from plain data; `ValueError` if they cannot be.

    Unless they must be whole, those that are missing have their defaults, by which a run is as it was before there
    were such settings.
    """
    objective = objective_from_json(take_object(data, "objective"))
    known = {field.name: field.default for field in fields(Settings)}
    other = [name for name in known if is_whole or known[name] is MISSING if name not in data]
    if other := [*other, *(data.keys() - known.keys())]:
        names = printable(", ".join(sorted(other)))[:100]
        raise ValueError(f"its settings are those of another version: {names}")
    for name, value in data.items():
        if isinstance(value, str):
            take_text(data, name)
    try:
        return Settings(**{**data, "objective": objective})
    except NstxError as error:
        raise ValueError(f"its settings cannot be: {printable(error)[:200]}") from error


def _read_input(data: Any) -> InputFile:
    path = take_text(data, "path")
    sha256 = None if take_field(data, "sha256") is None else take_text(data, "sha256", DIGEST)
    weight = None if take_field(data, "weight") is None else float(take_number(data, "weight", 0))
    # A picture's manifest has it where there is a map alone.
    has_colours = data.get("colors") is not None
    colors = take_text(data, "colors", _COLOURS) if has_colours else None
    role = take_text(data, "role", _ROLE)
    layers = None if data.get("layers") is None else take_text(data, "layers", _LAYERS)
    mask = None if data.get("mask") is None else take_text(data, "mask")
    if "\0" in path or "\0" in (mask or ""):
        raise ValueError("an input has a NUL in its name")
    return InputFile(
        role=role, path=path, sha256=sha256, weight=weight, colors=colors, layers=layers, mask=mask,
        mask_sha256=None if mask is None else take_text(data, "mask_sha256", DIGEST),
    )  # fmt: skip


def _read_size(data: Any) -> tuple[int, int]:
    sides = take_list({"size": data}, "size", 2)
    height, width = (take_whole({"side": side}, "side", 1, MAX_SIDE) for side in sides)
    return height, width
