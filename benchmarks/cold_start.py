"""Seconds from a process's start to the features of a photograph, by each extractor, in turns.

python benchmarks/cold_start.py photo.jpg [ROUNDS]
"""

import statistics
import subprocess
import sys
import time

CODE = """
import sys, time
from nstx import Extraction, extract_features, read_image
grams = "conv1_1,conv2_1,conv3_1,conv4_1,conv5_1"
extraction = Extraction(extractor=sys.argv[1])
extract_features(read_image(sys.argv[2]), "conv4_2", grams, size=512, extraction=extraction)
print(time.time())
"""


def measure(extractor: str, photo: str) -> float:
    """Return the seconds of one fresh process."""
    started = time.time()
    command = [sys.executable, "-c", CODE, extractor, photo]
    return float(subprocess.run(command, check=True, capture_output=True).stdout) - started


def main(photo: str, rounds: int = 5) -> None:
    """Print each extractor's median, after a round that is not counted."""
    times: dict[str, list[float]] = {"onnx": [], "torch": []}
    for _ in range(rounds + 1):
        for extractor, seconds in times.items():
            seconds.append(measure(extractor, photo))
    medians = {name: statistics.median(seconds[1:]) for name, seconds in times.items()}
    for name, median in medians.items():
        print(f"{name:<6} {median:.2f} s  {median / medians['torch']:.2f} of torch's")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
