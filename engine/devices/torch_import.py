"""PyTorch's import, without what a process of nstx's own never uses."""

import importlib.util
import os
import re
import sys
import threading
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Its import takes longer than all of this.
    from importlib.abc import Loader, MetaPathFinder
else:
    Loader = MetaPathFinder = object

_UNUSED = "torch._meta_registrations"
"""Registers some 700 functions that compute the shapes of results, for `_THEIR_USER`."""

_THEIR_USER = "torch._dynamo"
"""Is imported by ``torch.compile`` and ``torch.export``."""

_TRIED = range(8, 14)
"""PyTorch's releases 2.8 to 2.13. What depends on the module without asking for it is only known of those."""

_lock = threading.RLock()
"""Held while the module is executed."""


def postpone_unused() -> None:
    """Let PyTorch's import leave out what nstx does not use, in a process that runs nothing else.

    A fifth of that import registers functions for tensors without data, of the device ``meta``. They are
    registered when something asks for one of them, or for the compiler; until then such tensors lack some
    operators. Nor are all installed packages searched for further kinds of devices.

    What was imported before is as it was, as is all in releases that this was not tried with.
    """
    if not _is_tried():
        return
    os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _is_tried() -> bool:
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    version = Path(spec.origin).with_name("version.py")
    try:
        number = re.search(r"__version__ = ['\"]2\.(\d+)\.", version.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return number is not None and int(number[1]) in _TRIED


class _Finder(MetaPathFinder):
    """Finds the module where it is, and gives it a loader that does nothing yet."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == _THEIR_USER:
            module = sys.modules.get(_UNUSED)
            if isinstance(module, _Postponed):
                module.execute()
        if fullname != _UNUSED:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    """Makes a module that is executed by another loader when it is first asked for something."""

    def __init__(self, real: Loader) -> None:
        self.real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Postponed(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing; see `_Postponed`."""


class _Postponed(ModuleType):
    """A module that has not been executed."""

    def execute(self) -> None:
        """Execute the module, which is an ordinary one from here on."""
        with _lock:
            spec = self.__spec__
            if spec is None or not isinstance(spec.loader, _Loader):
                return
            postponed = spec.loader
            spec.loader = self.__loader__ = postponed.real
            try:
                postponed.real.exec_module(self)
            except BaseException:
                spec.loader = self.__loader__ = postponed
                raise
            # Only now: until then other threads wait for the lock.
            self.__class__ = ModuleType  # type: ignore[assignment]

    def __getattr__(self, name: str) -> object:
        # Python itself looks for such names, in all modules that there are.
        if not name.startswith("__"):
            self.execute()
        if name not in vars(self):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return vars(self)[name]
