"""Pictures an hour: ``nstx batch`` beside ``nstx optimize`` one by one, in turns, and by size.

python benchmarks/batch_rate.py [--jobs 24] [--rounds 3] [--seconds 330]

First ``--jobs`` small pictures are made by two workers and by calls of ``nstx optimize``, in turns, and the medians of their
rates compared; the files must have the same bytes. Then batches of 128, 256 and 512 pixels, the larger ones with fewer
steps and pictures: what an hour makes of 120 steps is reckoned from the time between results. No round begins that would
not end in ``--seconds``. The machine is to have nothing else to do.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

_STEPS = 120  # of the default, which rates by size are of


def call(folder: Path, *words: object) -> str:
    """Run a command of nstx, and return what it prints."""
    environment = os.environ | {"NSTX_CACHE_DIR": str(folder / "cache")}
    command = [sys.executable, "-m", "nstx", *map(str, words)]
    return subprocess.run(
        command, cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout


def draw(folder: Path, count: int) -> None:
    """Draw photographs and a painting."""
    generator = np.random.default_rng(0)
    (folder / "c").mkdir()
    for number in range(count + 1):
        path = folder / "c" / f"{number:02}.png" if number < count else folder / "s.png"
        rough = generator.integers(0, 256, (9, 12, 3), np.uint8)
        Image.fromarray(rough).resize((640, 480)).save(path)


def batch(folder: Path, output: str, count: int, options: list[object]) -> float:
    """Make pictures by workers of the default number; return the seconds of the whole command."""
    contents = [f"c/{number:02}.png" for number in range(count)]
    began = time.perf_counter()
    words = ["--content", *contents, "--style", "s.png", "-o", output, "--json", *options]
    summary = json.loads(call(folder, "batch", *words))
    assert summary["made"] == count, summary
    return time.perf_counter() - began


def one_by_one(folder: Path, output: str, count: int, options: list[object]) -> float:
    """Make the same pictures by one command each; return the seconds of all."""
    (folder / output).mkdir()
    began = time.perf_counter()
    for number in range(count):
        place = f"{output}/{number:02}_s.png"
        call(folder, "optimize", f"c/{number:02}.png", "s.png", "-o", place, "--quiet", *options)
    return time.perf_counter() - began


def compare(folder: Path, count: int, rounds: int, until: float) -> None:
    """Print how much faster a batch is than calls, and whether their files are the same."""
    options: list[object] = ["--size", 64, "--steps", 10, "--device", "cpu", "--backend", "onnx"]
    batch(folder, "warm", 2, [*options, "--workers", 2])
    ratios, rates = list[float](), list[float]()
    for turn in range(rounds):
        began = time.perf_counter()
        together = batch(folder, f"b{turn}", count, [*options, "--workers", 2])
        alone = one_by_one(folder, f"a{turn}", count, options)
        ratios.append(alone / together)
        rates.append(3600 * count / together)
        names = [path.name for path in (folder / f"a{turn}").iterdir()]
        different = [
            name
            for name in names
            if (folder / f"a{turn}" / name).read_bytes()
            != (folder / f"b{turn}" / name).read_bytes()
        ]
        print(
            f"  round {turn + 1}: {together:.1f} s by two workers, {alone:.1f} s one by one; {len(different)} files differ"
        )
        if 2 * time.perf_counter() - began > until:
            break
    print(
        f"{count} jobs of 64 px and 10 steps: {statistics.median(rates):.0f} an hour by two workers, "
        f"{statistics.median(ratios):.2f} times the rate of nstx optimize one by one (median of {len(ratios)})"
    )


def by_size(folder: Path, until: float) -> None:
    """Print rates by size: of runs of two lengths, by which what a step takes is told from what a picture takes."""
    print("size    an hour, of 120 steps    a thousand take")
    for size, count, (few, many) in ((128, 8, (5, 25)), (256, 4, (4, 16)), (512, 2, (3, 9))):
        if time.perf_counter() > until - 30:
            print(f"{size:4}    not measured: no time left")
            continue
        seconds = dict[int, float]()
        for steps in (few, many):
            options: list[object] = ["--size", size, "--steps", steps, "--device", "cpu"]
            seconds[steps] = batch(folder, f"s{size}-{steps}", count, options)
        of_step = max(1e-6, (seconds[many] - seconds[few]) / (many - few))
        whole = seconds[few] + of_step * (
            _STEPS - few
        )  # the start of the command, once for all, counts here
        rate = 3600 * count / whole
        print(f"{size:4}    {rate:8.0f}                 {1000 / rate:6.1f} h")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    for name, usual in (("jobs", 24), ("rounds", 3), ("seconds", 330)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    asked = parser.parse_args()
    until = time.perf_counter() + asked.seconds
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        draw(folder, asked.jobs)
        compare(folder, asked.jobs, asked.rounds, until - asked.seconds * 0.5)
        by_size(folder, until)


if __name__ == "__main__":
    main()
