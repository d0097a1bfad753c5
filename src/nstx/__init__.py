"""Neural style transfer (Gatys et al. 2015): an optimised inference-and-gradient engine.

The public names, loaded when they are first used, so that ``import nstx`` costs nothing::

    import nstx

    result = nstx.stylize("photo.jpg", "painting.jpg", size=512)
    result.save("out.png")

docs/python.md is a guide.
"""

from importlib import import_module
from pathlib import Path

from .models.version import __version__ as __version__

# The stub beside this file holds the only list, in lines such as "from .models.cost import Cost as Cost".
_STUB = Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")
_LINES = (line.split() for line in _STUB.splitlines() if line.startswith("from "))
_MODULES = {name: module for _, module, _, name, *_ in _LINES}
__all__ = sorted(_MODULES.keys() - {"__version__"})  # noqa: PLE0605


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name], __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
