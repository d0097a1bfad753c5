"""Artefacts of pictures before and after cleaning, by the figures of `nstx.measure_artefacts`; docs/quality.md.

python benchmarks/cleaned_pictures.py --pairs CONTENT:STYLE… --folder DIR [--sizes 256 384 512] [--costs] [--device cuda]
    [--json FILE]

Each pair is made by the default at each size with cleaning off, and kept in the folder as float pixels
(CONTENT--STYLE--SIZE--nstx.npy); one that lies there is not made again. What it is cleaned to is measured beside it, as
8 bits have both; with `--costs` so is the style cost by the default objective, in float64. Seconds are this process's CPU
time of cleaning alone (`getrusage`).
"""

import argparse
import json
import resource
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstx import Picture, choose_settings, evaluate_picture, prepare_job, run_job
from nstx.engine.artefacts.cleaning import clean_pixels
from nstx.engine.artefacts.measure import Artefacts, find_artefacts
from nstx.engine.devices.machine import describe_machine, package_versions
from nstx.engine.pictures.reading import take_input
from nstx.engine.pictures.writing import to_8_bit
from nstx.engine.preparation.inputs import fit_to, take_styles
from nstx.engine.targets.paintings import measure_grains

FIGURES = ("ripple", "locked", "rim", "speckles", "untouched")
Pixels = NDArray[np.float32]
Row = dict[str, Any]


def make(content: str, style: str, size: int, device: str, path: Path) -> Pixels:
    """Return a pair's picture without cleaning, from its file if it was made before."""
    if not path.exists():
        job = prepare_job(content, style, size=size, device=device, clean=False)
        np.save(path, run_job(job).picture.pixels)
    return np.asarray(np.load(path), np.float32)


def measure(
    content: str, style: str, size: int, device: str, folder: Path, *, with_costs: bool
) -> Row:
    """Return the figures of a pair's picture before and after cleaning."""
    name = f"{Path(content).stem}--{Path(style).stem}--{size}"
    pixels = make(content, style, size, device, folder / f"{name}--nstx.npy")
    settings = choose_settings()
    paintings = take_styles(style)
    picture = Picture(pixels.clip(0, 255), None)
    _, photograph, fitted = fit_to(picture, take_input(content), paintings, settings)
    grain = measure_grains(paintings, picture.size, settings)
    if grain is None:
        raise SystemExit(f"expected a painting of 64 pixels and more on a side, got {style}")
    began = cpu_seconds()
    cleaned = clean_pixels(pixels, photograph, grain)
    seconds = cpu_seconds() - began
    styles = [style for style, _ in fitted]
    before, after = (rounded(values, photograph, styles) for values in (pixels, cleaned))
    if with_costs:
        for row, values in ((before, pixels), (after, cleaned)):
            cost = evaluate_picture(
                Picture(to_8_bit(values).astype(np.float32), None), content, style
            )
            row["style_cost"] = cost.style
    return {"name": name, "size": size, "seconds": seconds, "before": before, "after": after}


def rounded(pixels: Pixels, photograph: Pixels, styles: Sequence[Pixels]) -> Row:
    """Return the figures of a picture as its file has it, with what its flat areas and the others' have in all."""
    figures: Artefacts = find_artefacts(to_8_bit(pixels).astype(np.float32), photograph, styles)
    textures = {name: getattr(figures, name) for name in ("picture", "content", "style")}
    return asdict(figures) | {
        f"{name}_texture": None if texture is None else float(np.linalg.norm(texture.ripple))
        for name, texture in textures.items()
    }


def cpu_seconds() -> float:
    """Return the CPU time of this process, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def summarise(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a line for each figure: the median, mean and largest before and after."""
    shares = [
        row["after"]["picture_texture"] / max(row["after"]["style_texture"], 1e-9)
        for row in rows
        if row["after"]["style_texture"] is not None
    ]
    for name in (*FIGURES, "picture_texture"):
        values = [[row[when][name] or 0.0 for row in rows] for when in ("before", "after")]
        yield f"{name}: {describe_spread(values)}"
    over = sum(share > 1.5 for share in shares)
    yield f"texture after cleaning beside the painting's own: {np.median(shares):.2f}, above 1.5: {over}"
    if all("style_cost" in row["after"] for row in rows):
        ratios = [row["after"]["style_cost"] / row["before"]["style_cost"] for row in rows]
        yield f"style cost, after by before: median {np.median(ratios):.2f}, largest {max(ratios):.2f}"


def describe_spread(columns: Sequence[Sequence[float]]) -> str:
    """Return the medians of columns of figures beside each other, their means, and the largest."""
    parts = (
        " ".join(f"{part(column):.2f}" for column in columns)
        for part in (np.median, np.mean, np.max)
    )
    return "medians, means, largest: " + "; ".join(parts)


def main() -> None:
    """Make and measure all pairs, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", nargs="+", required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 384, 512])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--costs", action="store_true", help="evaluate the style cost, too")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for size in chosen.sizes:
        of_size = []
        for pair in chosen.pairs:
            content, style = pair.split(":")
            row = measure(
                content, style, size, chosen.device, chosen.folder, with_costs=chosen.costs
            )
            of_size.append(row)
            shown = " ".join(
                f"{name} {row['before'][name] or 0:.2f}→{row['after'][name] or 0:.2f}"
                for name in FIGURES
            )
            print(row["name"], shown, f"{row['seconds']:.2f} s", flush=True)
        print(f"{size} pixels, {len(of_size)} pairs")
        print(*summarise(of_size), sep="\n", flush=True)
        rows += of_size
    if chosen.json is not None:
        data = {"machine": describe_machine(), "packages": package_versions(), "rows": rows}
        chosen.json.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
