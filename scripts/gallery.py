"""Every content in every style: run `nstx optimize` for each pair, and draw the results as a table.

Usage: gallery.py CONTENTS STYLES OUT [options of nstx optimize, such as --size 320]

OUT gets a picture for each pair, CONTENT_STYLE.png, and gallery.jpg. A pair that is there already,
made from the same pictures by the same options and version, is not made again.
"""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstx import NstxError, UsageError, read_image
from nstx.cli.configuration.file import find_config
from nstx.engine.comparison.drawing import describe_cost
from nstx.engine.drawing.contact_sheet import Tile, draw_gallery
from nstx.engine.pictures.writing import to_8_bit
from nstx.engine.targets.precompute import find_pictures
from nstx.models.storage.files import make_folder, write_output
from nstx.models.storage.seals import digest_file, digest_json
from nstx.models.version import __version__


def main(arguments: Sequence[str]) -> int:
    """Make the gallery and return the exit code."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        if len(arguments) < 3:
            raise UsageError(f"expected CONTENTS STYLES OUT, got {len(arguments)} of them")
        contents, styles = (find_pictures([Path(text)]) for text in arguments[:2])
        out, options = Path(arguments[2]), list(arguments[3:])
        if any(out.resolve() == path.parent.resolve() for path in (*contents, *styles)):
            raise UsageError("expected a folder of its own for OUT; try OUT/gallery")
        make_folder(out)
        rows = make_rows(contents, styles, out, options)
        left = [Tile(read(path), path.stem) for path in contents]
        top = [Tile(read(path), path.stem) for path in styles]
        image, buffer = draw_gallery(left, top, rows), io.BytesIO()
        image.save(buffer, format="JPEG", quality=80, optimize=True)
        write_output(out / "gallery.jpg", buffer.getvalue())
    except NstxError as error:
        print(f"gallery: error: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        # It has written its error to stderr.
        return error.returncode if error.returncode > 0 else 128 - error.returncode
    except KeyboardInterrupt:
        return 130
    print(f"the gallery: {out / 'gallery.jpg'}  {image.width}×{image.height}")
    return 0


def make_rows(
    contents: Sequence[Path], styles: Sequence[Path], out: Path, options: Sequence[str]
) -> list[list[Tile]]:
    """Return a row of results for each content, in the order of the styles; make what is missing.

    Raises:
        CalledProcessError: nstx failed, or was interrupted.
        OutputError: two pairs would have one name.
    """
    pairs = [(content, style) for content in contents for style in styles]
    names = [f"{content.stem}_{style.stem}" for content, style in pairs]
    if len(set(names)) < len(names):
        raise UsageError("expected pictures of different names; try renaming some")
    rows: list[list[Tile]] = []
    for number, ((content, style), name) in enumerate(zip(pairs, names, strict=True)):
        picture = out / f"{name}.png"
        print(f"{number + 1} of {len(pairs)}: {name}", file=sys.stderr)
        result = make_pair(content, style, picture, options)
        if number % len(styles) == 0:
            rows.append([])
        rows[-1].append(Tile(read(picture), describe_cost(result)))
    return rows


def make_pair(content: Path, style: Path, picture: Path, options: Sequence[str]) -> dict[str, Any]:
    """Return the JSON of nstx for a pair, which is made unless it is there already."""
    pictures = [digest_file(content), digest_file(style)]
    # The configuration and the environment have options, too.
    config = find_config()
    environment = {k: v for k, v in os.environ.items() if k.startswith("NSTX_")}
    digest = digest_json(
        [
            __version__,
            pictures,
            [[text, digest_file(Path(text)) if Path(text).is_file() else ""] for text in options],
            config.read_text(encoding="utf-8") if config is not None else "",
            environment,
        ]
    )
    record = picture.with_suffix(".json")
    try:
        result: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
        if result["digest"] == digest and result["sha256"] == digest_file(picture):
            return result
    except (OSError, ValueError, KeyError, TypeError):
        if picture.exists() and not record.exists():
            raise UsageError(
                f"expected nothing at {picture}, got a picture that no gallery made; "
                "try another folder"
            ) from None
    command = [sys.executable, "-m", "nstx", "optimize", str(content), str(style)]
    command += ["-o", str(picture), "--json", *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    result = {"digest": digest, "sha256": digest_file(picture), **json.loads(done.stdout)}
    write_output(record, json.dumps(result, indent=1).encode())
    return result


def read(path: Path) -> NDArray[np.uint8]:
    """Return a picture's pixels, uint8."""
    return to_8_bit(read_image(path).pixels.astype("float32"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
