"""Comparisons of which a test looks at other things than what is drawn of them."""

import sys
from collections.abc import Sequence
from typing import Any

import pytest

from nstx.engine.comparison import drawing
from nstx.engine.drawing.animation import encode_animation


def draw_little(patch: pytest.MonkeyPatch) -> None:
    """Hide Matplotlib and PyAV, so that neither curves nor MP4 are drawn, and draw a little of animations."""

    def encode_end(frames: Sequence[Any], suffix: str) -> bytes:
        return encode_animation([frames[-1][::8, ::8]], suffix)

    for package in ("matplotlib", "av"):
        patch.setitem(sys.modules, package, None)
    patch.setattr(drawing, "encode_animation", encode_end)
