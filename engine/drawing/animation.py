"""An animation of how a picture develops: GIF and WebP with Pillow, MP4 where PyAV is installed."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nstx.models.errors import OutputError
from nstx.models.printable import printable
from nstx.models.storage.files import check_output, write_output

from ..devices.machine import is_there
from ..pictures.transparency import on_white

SUFFIXES = (".gif", ".webp", ".mp4")

_FRAMES_PER_SECOND = 12
_LAST_FRAME_SECONDS = 2.0
_SEEN = 128  # alpha from which a GIF shows a pixel

Frame = NDArray[np.uint8]


def can_write_video() -> bool:
    """Whether PyAV is installed; it is not imported."""
    return is_there("av")


def check_animation(path: Path) -> None:
    """Check that an animation can be written at ``path``, before any work is done for it.

    `OutputError` if the suffix is unknown, the folder cannot be written, or PyAV is missing.
    """
    check_output(path, SUFFIXES)
    if path.suffix.lower() == ".mp4" and not can_write_video():
        raise OutputError(
            f"expected PyAV for {printable(path.name)}, got no such package; "
            "try 'pip install nstx[video]', or a .gif or .webp"
        )


def write_animation(path: Path, frames: Sequence[Frame]) -> None:
    """Write frames as in `encode_animation`, by the suffix of the path."""
    write_output(path, encode_animation(frames, path.suffix))


def encode_animation(frames: Sequence[Frame], suffix: str) -> bytes:
    """Return the bytes of a .gif, .webp or .mp4, whose last frame stays for two seconds.

    Frames are uint8 (height, width, 3), all of one size, one or more; or (height, width, 4), of which a
    WebP keeps the transparency, and a GIF whether a pixel is seen. A video shows them on white.
    """
    suffix = suffix.lower()
    if suffix == ".mp4":
        return _encode_video(frames)
    images = [Image.fromarray(frame) for frame in frames]
    if suffix == ".gif" and images[0].mode == "RGBA":
        images = [_seen_or_not(image) for image in images]
    durations = [round(1000 / _FRAMES_PER_SECOND)] * len(images)
    durations[-1] = round(1000 * _LAST_FRAME_SECONDS)
    options = {"quality": 85} if suffix == ".webp" else {}
    if images[0].mode == "RGBA" and suffix == ".gif":
        options["disposal"] = 2  # or earlier frames would show through
    buffer = io.BytesIO()
    images[0].save(
        buffer,
        format=suffix[1:].upper(),
        save_all=True,
        append_images=images[1:],
        duration=durations,
        loop=0,
        **options,
    )
    return buffer.getvalue()


def _seen_or_not(image: Image.Image) -> Image.Image:
    """Return an RGBA image whose pixels are opaque, or transparent and all of one colour."""
    seen = image.getchannel("A").point(lambda alpha: 255 if alpha >= _SEEN else 0)
    clear = Image.new("RGBA", image.size)
    opaque = image.convert("RGB")
    opaque.putalpha(255)
    return Image.composite(opaque, clear, seen)


def _encode_video(frames: Sequence[Frame]) -> bytes:
    import av

    buffer = io.BytesIO()
    # H.264 in 4:2:0 needs even sides.
    height, width = (side // 2 * 2 for side in frames[0].shape[:2])
    held = [frames[-1]] * round(_FRAMES_PER_SECOND * _LAST_FRAME_SECONDS)
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=_FRAMES_PER_SECOND)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "18"}
        for frame in map(on_white, [*frames, *held]):
            cropped = np.ascontiguousarray(frame[:height, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(cropped, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()
