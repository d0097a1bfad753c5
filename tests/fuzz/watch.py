"""Watches a process: what it connects to, what it starts, and which files it writes."""

import os
import sys
from pathlib import Path

_CONNECTIONS = ("socket.connect", "socket.getaddrinfo", "socket.sendto", "urllib.Request")
_CHILDREN = (
    "subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.spawn",
    "os.posix_spawn", "os.startfile", "pty.spawn",
)  # fmt: skip
_CHANGES = (
    "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate",
    "os.chmod", "shutil.rmtree", "tempfile.mkstemp",
)  # fmt: skip


class Watch:
    """Collects what a process does between `begin` and `end`; a hook cannot be taken off again."""

    def __init__(self) -> None:
        self._events: list[str] | None = None
        self._folder = ""
        self._starts: frozenset[str] = frozenset()
        sys.addaudithook(self._take)

    def begin(self, folder: Path, starts: frozenset[str] = frozenset()) -> None:
        """Watch from now on; only below a folder may be written, only some programs started."""
        self._folder, self._starts = os.path.realpath(folder), starts
        self._events = []

    def end(self) -> list[str]:
        """Return what was done that should not be."""
        events, self._events = self._events or [], None
        return events

    @property
    def is_on(self) -> bool:
        """Whether it is between `begin` and `end`."""
        return self._events is not None

    def _take(self, event: str, values: tuple[object, ...]) -> None:
        if self._events is None:
            return
        if event in _CONNECTIONS:
            self._events.append(f"connection: {event} {values[1:]!r:.80}")
        elif event in _CHILDREN:
            if os.path.basename(str(values[0])) not in self._starts:  # noqa: PTH119
                self._events.append(f"child: {event} {values!r:.80}")
        elif event == "open":
            path, _, flags = values
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self._check(event, path)
        elif event in _CHANGES:
            self._check(event, values[0])

    def _check(self, event: str, path: object) -> None:
        if isinstance(path, str | bytes | os.PathLike):
            real = os.path.realpath(os.fsdecode(path))
            if not real.startswith((self._folder, "/dev/")) and self._events is not None:
                self._events.append(f"wrote outside: {event} {real!r:.80}")
