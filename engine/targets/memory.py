"""Targets in memory: for runs that have some in common and are to leave the cache alone."""

from .store import Array, TargetKey


class TargetMemory:
    """Takes the place of `nstx.engine.targets.store.TargetStore`; lasts as long as it is held."""

    keeps = True

    def __init__(self) -> None:
        self._values: dict[TargetKey, Array] = {}

    def read(self, key: TargetKey) -> Array | None:
        """Return a target, or None where there is none; it is not to be changed."""
        return self._values.get(key)

    def write(self, key: TargetKey, value: Array, _: str) -> None:
        """Keep a target, float32, (channels, h, w) or (channels, channels)."""
        self._values[key] = value
