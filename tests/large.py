"""Bounds by which small pictures are read as large ones are."""

import pytest

from nstx.engine.pictures import tiff_samples
from nstx.engine.streaming import bands, narrow, png, reduced, tiff


def lower_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pictures of more than 999 pixels be large, and bands have some rows."""
    monkeypatch.setattr(reduced, "MOST_PIXELS", 999)
    for module in (bands, narrow, png, tiff):
        monkeypatch.setattr(module, "BAND", 300)
    monkeypatch.setattr(tiff_samples, "_AT_ONCE", 500)
