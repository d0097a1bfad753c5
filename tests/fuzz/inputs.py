"""What a kind of input is: how one is made, and what reads it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random


@dataclass(frozen=True, slots=True)
class Input:
    """Files for one call, by their paths within a folder; the first is the one that is named.

    ``change`` says what was done to it.
    """

    change: str
    files: Mapping[str, bytes]

    def write(self, folder: Path) -> Path:
        """Write the files into a folder, and return the path of the first."""
        for name, data in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return folder / next(iter(self.files))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of input.

    Attributes:
        make: returns an input that follows from a generator alone.
        read: reads the input whose first file is at a path. It raises an NstxError if that is
            refused, and AssertionError if something was accepted that cannot be used.
        share: how many inputs of this kind there are beside the others'.
        starts: programs that reading starts, by the names of their files.
    """

    name: str
    make: Callable[[Random], Input]
    read: Callable[[Path], object]
    share: float
    starts: frozenset[str] = frozenset()


def make_input(kind: Kind, seed: int, index: int) -> Input:
    """Return an input of a kind, always the same for a seed and an index."""
    return kind.make(Random(f"{seed}/{kind.name}/{index}"))
