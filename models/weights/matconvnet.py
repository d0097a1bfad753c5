"""MatConvNet's VGG-19, a MATLAB file: ``imagenet-vgg-verydeep-19.mat``.

Editions differ in where the mean lies, in the order of fields and in the shape of the biases:

- 2015: ``layers``, ``classes``, ``normalization``, whose ``averageImage`` is 224×224×3;
- later: ``layers``, ``meta``, whose ``meta.normalization.averageImage`` is 1×1×3.

So fields are found by name and layers by theirs. Kernels are (height, width, in, out), their input
RGB, 0–255, minus the mean. Known readers that exchange height and width are mistaken: the first
kernel equals Keras' without that.

The file's name is published with at least three different checksums, so none is asked for.

SciPy reads the file, in a process of its own: a byte that is wrong in the wrong place, or cells
within cells some ten thousand deep, make its compiled reader end the process.
"""

import contextlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import WeightsError
from ..printable import printable
from ..vgg19 import CONVOLUTIONS
from .entries import Array, check_shapes

_REFUSED = 3  # the exit code of the reading process for a WeightsError; Python itself uses 1 and 2
_MEAN = "mean"
_SECONDS, _BYTES_PER_SECOND = 10, 20e6
# Twice VGG-19 with its classifier; reading that whole, compressed, takes 0.84 GiB.
_MOST_MEMORY = 2 * 575_000_000
_PUBLISHED = "imagenet-vgg-verydeep-19.mat"


def read_matconvnet(path: Path) -> tuple[dict[str, Array], tuple[float, float, float]]:
    """Return a network's tensors, float32, and its mean colour, read in a process of its own.

    ``conv1_1.weight`` is (out, in, height, width), ``conv1_1.bias`` (out,); shapes are the file's.
    `WeightsError` if it is another network or file, ValueError if it cannot be read.
    """
    from safetensors.numpy import load

    if importlib.util.find_spec("scipy") is None:
        raise WeightsError("expected SciPy to read .mat files, got none; try 'pip install scipy'")
    command = [sys.executable, "-P", "-m", "nstx.models.weights.matconvnet", str(path)]
    # It looks for packages where this process does, and not in the working folder.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment["OPENBLAS_NUM_THREADS"] = "1"  # each takes memory, of which there is little here
    seconds = _SECONDS + path.stat().st_size / _BYTES_PER_SECOND
    try:
        done = subprocess.run(
            command, capture_output=True, check=False, env=environment, timeout=seconds
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"SciPy's reader has not ended within {seconds:.0f} s") from error
    message = done.stderr.decode("utf-8", "replace").strip()
    if done.returncode == _REFUSED:
        raise WeightsError(message)
    if done.returncode != 0:
        # The last line of a traceback: the exception's class and its message.
        last = (message or f"SciPy's reader ended with code {done.returncode}").splitlines()[-1]
        raise ValueError(last.partition(": ")[2] or last)
    tensors = load(done.stdout)
    red, green, blue = tensors.pop(_MEAN).tolist()
    return tensors, (red, green, blue)


def parse_matconvnet(path: Path) -> dict[str, NDArray[Any]]:
    """Read the convolutions, and ``mean`` in float64, in this process: damaged files end it."""
    from scipy.io import loadmat

    file = loadmat(path, appendmat=False, simplify_cells=True)
    layers = {str(layer["name"]): layer for layer in _convolutions(file, path)}
    tensors: dict[str, NDArray[Any]] = {}
    for name in (layer.name for layer in CONVOLUTIONS):
        if name not in layers:
            names = f"{len(layers)} convolutions, {', '.join(list(layers)[:3])} …"
            raise WeightsError(
                f"expected the layer {name} of VGG-19 in {printable(path)}, got "
                f"{names if layers else 'no convolution'}; try MatConvNet's {_PUBLISHED}"
            )
        kernel, bias = _parameters(layers[name], path)
        tensors[f"{name}.weight"] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        tensors[f"{name}.bias"] = bias
    return tensors | {_MEAN: _mean(file, path)}


def _convolutions(file: Mapping[str, Any], path: Path) -> Iterator[Mapping[str, Any]]:
    layers = file.get("layers")
    if layers is None:
        names = ", ".join([name for name in file if not name.startswith("__")][:3]) or "nothing"
        raise WeightsError(
            f"expected MatConvNet's 'layers' in {printable(path)}, got {names}; try MatConvNet's {_PUBLISHED}"
        )
    for layer in [layers] if isinstance(layers, Mapping) else layers:
        if isinstance(layer, Mapping) and layer.get("type") == "conv" and "name" in layer:
            yield layer


def _parameters(layer: Mapping[str, Any], path: Path) -> tuple[Array, Array]:
    # MatConvNet's first releases had filters and biases as fields of their own.
    parameters: Sequence[Any] = (
        layer["weights"] if "weights" in layer else (layer.get("filters"), layer.get("biases"))
    )
    if len(parameters) == 2 and all(isinstance(array, np.ndarray) for array in parameters):
        kernel, bias = (np.asarray(array, np.float32) for array in parameters)
        if kernel.ndim == 4:
            return kernel, bias.reshape(-1)
    raise WeightsError(
        f"expected a kernel of four axes and a bias for {printable(layer['name'])} in {printable(path)}, "
        f"got {[getattr(array, 'shape', None) for array in parameters[:4]]}; "
        f"try MatConvNet's {_PUBLISHED}"
    )


def _mean(file: Mapping[str, Any], path: Path) -> NDArray[np.float64]:
    """Return the mean colour: of an average image, its mean over all positions."""
    meta = file.get("meta")
    holder = meta if isinstance(meta, Mapping) and "normalization" in meta else file
    normalization = holder.get("normalization")
    image = normalization.get("averageImage") if isinstance(normalization, Mapping) else None
    if image is None:
        raise WeightsError(
            f"expected the mean colour as normalization.averageImage in {printable(path)}, got none; "
            f"try MatConvNet's {_PUBLISHED}"
        )
    image = np.asarray(image, np.float64)
    mean = image.mean((0, 1)) if image.ndim == 3 else image
    if mean.shape != (3,) or not ((mean >= 0) & (mean <= 255)).all():
        raise WeightsError(
            f"expected three means within 0–255 as averageImage in {printable(path)}, got shape {image.shape} "
            f"with {np.array2string(mean.reshape(-1)[:3], precision=1)}; try MatConvNet's {_PUBLISHED}"
        )
    return mean


def main() -> None:
    """Write the tensors of the file that the command line names to stdout, as safetensors."""
    from safetensors.numpy import save

    _limit_memory()
    try:
        tensors = parse_matconvnet(Path(sys.argv[1]))
        check_shapes({name: array.shape for name, array in tensors.items()}, sys.argv[1])
        sys.stdout.buffer.write(save(tensors))
    except WeightsError as error:
        sys.stderr.buffer.write(str(error).encode("utf-8", "replace"))
        sys.exit(_REFUSED)


def _limit_memory() -> None:
    """Have an array that is larger than any network a MemoryError, where the system knows limits."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        most = resource.getrlimit(resource.RLIMIT_DATA)[1]
        limit = _MOST_MEMORY if most < 0 else min(most, _MOST_MEMORY)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


if __name__ == "__main__":
    main()
